"""The notebooks in order, headless: `dpsims reproduce --preset demo` is the whole project from data to figures.

A preset is ``notebooks/presets/NAME.yml``. Its section ``shared`` holds parameters for every notebook that knows
them; a section named after a notebook holds that one's own. In values, ``{out}`` stands for the output folder, so
that a later notebook finds what an earlier one made (``run: "{out}/03_training/run"``). Every notebook has a
parameter ``out``, the folder for what it makes, and leaves its figures of merit there in ``metrics.json``.

A notebook counts as finished while its code, its parameters, the library's version and the notebooks that it builds on
are what they were; then it is skipped. Otherwise its old folder is kept aside as ``NAME.previous``.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import nbformat
import yaml
from papermill import inspect_notebook

from dpsims import __version__
from dpsims.config import coerce
from dpsims.errors import InputError
from dpsims.files import make_folder, write_json, write_text
from dpsims.notebook_runner import Progress, run_notebook
from dpsims.paths import ROOT

MARKER = "reproduce.json"  # in a notebook's output folder: what made it, and whether it finished
SCALARS = {"bool": bool, "int": int, "float": float, "str": str}
COLLECTIONS = {"list": list, "dict": dict}
# parameters of notebooks that name files: on the command line as seen from where it is given
PATHS = frozenset({"root", "data_path", "prepared", "evaluator", "checkpoint", "run", "study", "results"})
MADE = {("01", "prepared"), ("02", "study"), ("03", "run")}  # filled by the notebook: not its input


@dataclass(frozen=True)
class Task:
    """One notebook with the parameters it is to run with; ``{out}`` in them is still to be filled in."""

    path: Path
    parameters: dict[str, Any]
    needs: tuple[str, ...]  # earlier notebooks whose output folder the parameters name
    fingerprint: str  # of code, parameters, library version, and the fingerprints of `needs`

    @property
    def name(self) -> str:
        """Such as ``03_training``."""
        return self.path.stem


def reproduce(
    preset: str = "demo",
    out: str | Path | None = None,
    overrides: Iterable[str] = (),
    only: str | None = None,
    *,
    notebooks: Path = ROOT / "notebooks",
) -> Path:
    """Runs the notebooks in order and returns the path of summary.json (summary.md lies beside it).

    Args:
        preset: name of a file in ``notebooks/presets``.
        out: output folder; ``runs/<preset>`` if None. Holds ``NN_name.ipynb`` (executed), ``NN_name/`` (what it made).
        overrides: ``parameter=value`` for every notebook that knows the parameter, or ``03.parameter=value`` for one.
        only: run this notebook alone (its number, its name, or the start of it).
        notebooks: folder of the notebooks.

    Raises:
        InputError: unknown preset, notebook or parameter, a value of the wrong type, a folder that cannot be written,
            an earlier notebook that has not run, or a notebook that failed.
    """
    out = Path(out if out is not None else ROOT / "runs" / preset).resolve()
    tasks = plan(preset, overrides, notebooks)
    chosen = _choose(tasks, only)
    for task in chosen:
        for needed in (t for t in tasks if t.name in task.needs and t not in chosen):
            if not _finished(needed, out):
                first = f"run that first (--only {needed.name[:2]})"
                raise InputError(f"{task.name} needs what {needed.name} makes in {out}; {first}")
    make_folder(out, ("summary.json", "summary.md", *(f"{task.name}.ipynb" for task in chosen)))
    for task in chosen:
        label = f"[{tasks.index(task) + 1}/{len(tasks)}] {task.name}"
        if _finished(task, out):
            print(f"{label}  finished earlier, skipped (delete {out / task.name} to run it again)", flush=True)
            continue
        _run(task, out, label)
    summary = write_summary(preset, tasks, out)
    print(f"figures and tables: {out}/*.ipynb; summary: {summary.with_suffix('.md')}", flush=True)
    return summary


def plan(preset: str, overrides: Iterable[str] = (), notebooks: Path = ROOT / "notebooks") -> list[Task]:
    """Reads the notebooks and the preset, checks every name and type, and returns what is to be run, in order.

    Raises:
        InputError: see `reproduce`.
    """
    paths = sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise InputError(f"{notebooks}: no notebooks (NN_name.ipynb) here; is this a clone of the repository?")
    known = {path.stem: _known_parameters(path) for path in paths}
    values = _preset_values(preset, known, notebooks)
    for setting in overrides:
        for name, parameter, value in _override(setting, known):
            values[name][parameter] = value
    tasks: list[Task] = []
    for path in paths:
        parameters = {**values[path.stem], "out": f"{{out}}/{path.stem}"}
        text = json.dumps(parameters, sort_keys=True)
        needs = tuple(task for task in tasks if f"{{out}}/{task.name}" in text)
        code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        read = [name for name in parameters if name in PATHS and (path.stem[:2], name) not in MADE]
        given = {name: _state(parameters[name]) for name in read if parameters[name]}
        made_of = [__version__, code, text, given, [task.fingerprint for task in needs]]
        fingerprint = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
        tasks.append(Task(path, parameters, tuple(task.name for task in needs), fingerprint))
    return tasks


def _state(path: str) -> list[Any]:
    """What tells whether files that a parameter names are others than before: the index or the provenance of what this
    library made, which hold hashes, or else names, sizes and times."""
    place = Path(path)
    place = place.parent if place.is_file() else place  # the dataset.yml of a data set
    for name in ("index.json", "provenance.json", "results.json"):
        if (place / name).is_file():
            return [hashlib.sha256((place / name).read_bytes()).hexdigest()]
    files = sorted(file for file in place.rglob("*") if file.is_file())
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _known_parameters(path: Path) -> dict[str, str]:
    """Names and types of a notebook's parameters, from the cell tagged ``parameters``."""
    types = {name: found["inferred_type_name"] for name, found in inspect_notebook(path).items()}
    for name, kind in types.items():
        if kind not in SCALARS and kind not in COLLECTIONS:
            raise InputError(f"{path.name}: parameter {name} needs a plain type (bool, int, float, str, list, dict)")
    if types.get("out") != "str":
        raise InputError(f"{path.name}: its parameters cell needs `out: str`, the folder for what it makes")
    return types


def _preset_values(preset: str, known: dict[str, dict[str, str]], notebooks: Path) -> dict[str, dict[str, Any]]:
    """The preset's values by notebook, checked against the notebooks' own parameters."""
    path = notebooks / "presets" / f"{preset}.yml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yml"))) or "none"
        raise InputError(f"unknown notebook preset {preset!r} (no {path.name} in {path.parent}); known: {there}")
    try:
        sections = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    if not isinstance(sections, dict) or not all(isinstance(s, dict | None) for s in sections.values()):
        raise InputError(f"{path}: must hold sections with `parameter: value` lines")
    values: dict[str, dict[str, Any]] = {name: {} for name in known}
    for section in sorted(sections, key=lambda s: s != "shared"):  # a notebook's own value beats the shared one
        if section != "shared" and section not in known:
            raise InputError(f"{path}: unknown section {section!r}; known: shared, {', '.join(known)}")
        for parameter, value in (sections[section] or {}).items():
            for name in _knowing(parameter, [section] if section != "shared" else list(known), known, str(path)):
                values[name][parameter] = _typed(known[name][parameter], value, f"{path}: {section}.{parameter}")
    return values


def _override(setting: str, known: dict[str, dict[str, str]]) -> list[tuple[str, str, Any]]:
    """(notebook, parameter, value) for ``parameter=value`` or ``03.parameter=value``."""
    key, separator, text = setting.partition("=")
    prefix, dot, parameter = key.strip().rpartition(".")
    if not separator or not parameter:
        raise InputError(f"--set {setting}: write parameter=value or 03.parameter=value")
    names = [name for name in known if name.startswith(prefix)] if prefix or not dot else []
    if dot and len(names) != 1:
        raise InputError(f"--set {setting}: {prefix!r} names {len(names)} notebooks; known: {', '.join(known)}")
    names, text = _knowing(parameter, names, known, f"--set {setting}"), text.strip()
    if parameter in PATHS and text and not text.startswith("{out}"):
        text = os.path.abspath(os.path.expanduser(text))
    return [(name, parameter, _typed(known[name][parameter], text, f"--set {key}")) for name in names]


def _knowing(parameter: str, names: list[str], known: dict[str, dict[str, str]], where: str) -> list[str]:
    """Those of `names` that have the parameter; none is an error that lists the ones there are."""
    if parameter == "out":
        raise InputError(f"{where}: out is given by the driver; use --out")
    knowing = [name for name in names if parameter in known[name]]
    if not knowing:
        there = sorted({p for name in names for p in known[name]} - {"out"})
        raise InputError(f"{where}: unknown parameter {parameter!r}; known: {', '.join(there) or 'none'}")
    return knowing


def _typed(kind: str, value: Any, key: str) -> Any:
    """`value` as the parameter's type; text, as given on the command line, is read as YAML for lists and dicts.

    Whole numbers are counts and seeds in every notebook, so that none is negative.
    """
    if kind in SCALARS:
        value = coerce(SCALARS[kind], value, key)
        if kind == "int" and value < 0:
            raise InputError(f"{key}: {value} is negative; give a number of 0 or more")
        return value
    try:
        value = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        pass
    if not isinstance(value, COLLECTIONS[kind]):
        raise InputError(f"{key}: {value!r} ({type(value).__name__}) is not of type {kind}")
    return value


def _choose(tasks: list[Task], only: str | None) -> list[Task]:
    if only is None:
        return tasks
    chosen = [task for task in tasks if task.name.startswith(only)]
    if len(chosen) != 1:
        raise InputError(f"--only {only}: names {len(chosen)} notebooks; known: {', '.join(t.name for t in tasks)}")
    return chosen


def _marker(task: Task, out: Path) -> dict[str, Any]:
    marker = _read(out / task.name / MARKER)
    return marker if isinstance(marker, dict) else {}


def _read(path: Path) -> Any:
    """What a JSON file holds; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _finished(task: Task, out: Path) -> bool:
    """Whether all that `write_summary` needs is there, of this fingerprint; else the notebook runs again."""
    marker = _marker(task, out)
    timed = bool(marker.get("finished")) and isinstance(marker.get("seconds"), int | float)
    made = marker.get("fingerprint") == task.fingerprint
    return timed and made and _read(out / task.name / "metrics.json") is not None


def _run(task: Task, out: Path, label: str) -> None:
    """Executes one notebook and marks its folder as finished."""
    folder = out / task.name
    marker = _marker(task, out)
    if folder.exists() and not marker and any(folder.iterdir()):
        raise InputError(f"{folder}: holds files that `dpsims reproduce` did not make; choose another --out")
    if marker and marker.get("fingerprint") != task.fingerprint:  # other parameters: never mix the results
        aside = folder.with_name(f"{task.name}.previous")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    folder.mkdir(exist_ok=True)  # an interrupted run of the same fingerprint is kept: training resumes in it
    facts = {"fingerprint": task.fingerprint, "parameters": task.parameters, "finished": False}
    write_json(folder / MARKER, facts)
    progress = Progress(label)
    run_notebook(task.path, out / f"{task.name}.ipynb", _filled(task.parameters, str(out)), progress)
    if not (folder / "metrics.json").is_file():
        progress.done("failed")
        raise InputError(f"{task.name}: wrote no metrics.json into its folder {folder}; its last cell should")
    facts |= {"finished": True, "seconds": round(progress.seconds, 1)}
    write_json(folder / MARKER, facts)
    progress.done("done")


def _filled(value: Any, out: str) -> Any:
    """`value` with ``{out}`` replaced in every text inside it."""
    if isinstance(value, str):
        return value.replace("{out}", out)
    if isinstance(value, dict):
        return {key: _filled(v, out) for key, v in value.items()}
    return [_filled(v, out) for v in value] if isinstance(value, list) else value


def write_summary(preset: str, tasks: list[Task], out: Path) -> Path:
    """Collects metrics and times of the finished notebooks in summary.json (returned) and summary.md."""
    entries = []
    for task in tasks:
        if _finished(task, out):
            metrics = _read(out / task.name / "metrics.json")
            seconds = _marker(task, out)["seconds"]
            entries.append({"name": task.name, "seconds": seconds, "parameters": task.parameters, "metrics": metrics})
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "none"
    machine = {"python": platform.python_version(), "torch": torch, "system": platform.platform(terse=True),
               "architecture": platform.machine(), "cpus": os.cpu_count()}  # fmt: skip
    summary = {"format": 1, "preset": preset, "dpsims": __version__, "machine": machine, "notebooks": entries}
    write_json(out / "summary.json", summary)
    write_text(out / "summary.md", _markdown(summary))
    return out / "summary.json"


def _markdown(summary: dict[str, Any]) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in summary["machine"].items())
    total = sum(entry["seconds"] for entry in summary["notebooks"])
    lines = [f"# Preset `{summary['preset']}`", "", f"dpsims {summary['dpsims']}; {machine}; {total:.0f} s in all."]
    for entry in summary["notebooks"]:
        name = entry["name"]
        lines += ["", f"## [{name}]({name}.ipynb), {entry['seconds']:.0f} s", "", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in _rows(entry["metrics"])]
    return "\n".join(lines) + "\n"


def _rows(metrics: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested metrics as (dotted name, text) rows; long lists give their length."""
    if isinstance(metrics, dict):
        lead = f"{prefix}." if prefix else ""
        return [row for key, value in metrics.items() for row in _rows(value, f"{lead}{key}")]
    if isinstance(metrics, list):
        short = len(metrics) <= 8 and not any(isinstance(value, dict | list) for value in metrics)
        return [(prefix, ", ".join(_rows(v)[0][1] for v in metrics) if short else f"{len(metrics)} entries")]
    return [(prefix, f"{metrics:.4g}" if isinstance(metrics, float) else str(metrics))]
