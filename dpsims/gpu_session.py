"""All that is to be done on a lent GPU, in pieces of a few minutes: `python -m dpsims.gpu_session --out DIR --resume`.

The stages, in order: `bench` (speed and memory), `backbone` and `evaluator` (both networks at this size), `train`,
`evaluate`, `export`, `notebook` (03, where papermill is installed). What is done is skipped, a training goes on where
it stopped, and the same command goes on after the time is over, on a fresh machine too, if DIR is brought there:

    DIR/results.json         every stage: done or not, seconds, figures; what ran, where, and SHA-256 of the parts
    DIR/session.tar.gz.00 .. all that later calls need, and what is to be kept (`cat DIR/session.tar.gz.* | tar xz`):
                             results.json, backbone/, evaluator/, run/, evaluation.json, export/, the notebook
    DIR/samples.png          the newest sample sheet

Parts have at most 15 MiB. A checkpoint of scenes128 takes 39 MB (its training_state.pt alone 22), one at 256 px 40;
packed without what no step needs again they are 26 and 27, so a training under way has two parts or three with all the
rest. When it is finished only what is used goes on. Prepared data do not travel: they are drawn again, by all cores.

The calls for the tool `run` (README.md of the device, lent here; $OUT comes back: at most 8 files of 16 MiB, 64 MiB
together; the working tree and `carry`: 64 MiB, of which the tree takes 23). Here once, with RETURNED the folder
`files_at` of the last reply:

    printf '/.gpu/\\n/.whl/\\n' >> .git/info/exclude
    rm -rf .gpu && mkdir .gpu && cp RETURNED/* .gpu/        # before every call but the first

First call, no carry, timeout_s 600:

    PYTHONUNBUFFERED=1 TQDM_MININTERVAL=20 python3 -m dpsims.gpu_session --out $OUT --minutes 9 --size 128 --resume

Every further call, carry [".gpu"]; cp first, since $OUT starts empty:

    cp .gpu/* $OUT/ && PYTHONUNBUFFERED=1 TQDM_MININTERVAL=20 python3 -m dpsims.gpu_session --out $OUT --minutes 9 \\
      --size 128 --resume

The notebook needs wheels, 21 MB, and no state: a session of its own, so that all fits, carry [".whl"]; here once:

    python3 -m pip download -c constraints.txt --only-binary=:all: --python-version 3.12 --implementation cp \\
      --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \\
      --platform manylinux1_x86_64 -d .whl papermill nbclient ipykernel ipywidgets nbformat

and then

    python3 -m pip install -q --no-index --no-deps --no-compile --target /tmp/site .whl/*.whl && \\
      export PYTHONPATH=/tmp/site && PYTHONUNBUFFERED=1 python3 -m dpsims.gpu_session --out $OUT \\
      --work runs/gpu_notebook --minutes 9 --stages notebook
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsims.errors import InputError, OutOfTime
from dpsims.files import check_file, read_json, replacing, write_json, writing
from dpsims.parcels import pack, unpack

if TYPE_CHECKING:  # only here: processes that draw images import this file, and need no torch
    from dpsims.gpu_stages import Plan

FORMAT = 1
STAGES = ("bench", "backbone", "evaluator", "train", "evaluate", "export", "notebook")
GO_ON = ("bench", "train")  # interrupted, they go on where they were; the other stages begin again
RESERVE, SHARE = 25.0, 0.1  # seconds kept for the last checkpoint and for packing, at most this share of the time
REMEDY = "give the folder of a session, or a new --out"


class Session:
    """One call of a session.

    Args:
        plan: what is to be done; see `dpsims.gpu_stages.plan`.
        out: DIR, see the module.
        work: working folder, made anew from DIR where it is not the newer one.
        minutes: until this call is to have ended.
        resume: a session may be there already.

    Raises:
        InputError: one is there though `resume` is False, it has another plan, or its files are not whole.
    """

    def __init__(self, plan: "Plan", out: str | Path, work: str | Path, minutes: float, resume: bool = False) -> None:
        self.plan, self.out, self.work = plan, Path(out), Path(work)
        self.begin, self.seconds = time.monotonic(), 60 * minutes
        self.deadline = self.begin + self.seconds - min(RESERVE, SHARE * self.seconds)
        self.over = self.interruptible = False
        check_file(self.out / "results.json")
        self.state = self._open(resume)

    def _open(self, resume: bool) -> dict[str, Any]:
        from dpsims.run_folder import SAME_RESULTS

        there, here = _results(self.out), _results(self.work)
        if (there or here) and not resume:
            where = self.out if there else self.work
            raise InputError(f"{where}: holds a session already; pass --resume to go on, or give other folders")
        if there and not (here and here["session"] == there["session"] and here["calls"] >= there["calls"]):
            unpack(there["parts"], self.out, self.work)
            here = _results(self.work)
        plan = json.loads(json.dumps(self.plan.to_dict()))
        state = here or {"format": FORMAT, "session": uuid.uuid4().hex, "calls": 0, "plan": plan, "stages": {}}
        free = {f"training.{name}" for name in SAME_RESULTS}  # a training that ran out of memory goes on with others
        other = [text for name, text in _differences(state["plan"], plan) if name not in free]
        if other:
            said = ", ".join(other[:3])
            raise InputError(
                f"{self.work}: a session with another plan ({said}); give the same options, or a new --out"
            )
        return state | {"plan": plan}

    def entry(self, stage: str) -> dict[str, Any]:
        """What results.json says of a stage; {} of one that never began."""
        return self.state["stages"].get(stage, {})

    def keep(self) -> None:
        """Writes DIR, so that a machine that is taken away takes nothing along."""
        from dpsims.gpu_stages import files

        guarded, self.interruptible = self.interruptible, False
        write_json(self.work / "results.json", self.state)
        parts = pack(self.work, files(self.work, self.entry("train").get("done", False)), self.out)
        sheets = sorted((self.work / "run" / "samples").glob("step_*.png"))
        if sheets:
            with replacing(self.out / "samples.png") as temporary:
                shutil.copy(sheets[-1], temporary)
        write_json(self.out / "results.json", self.state | {"parts": parts})
        self.interruptible = guarded
        if self.over and guarded:
            raise OutOfTime("interrupted")

    def run(self, names: Sequence[str] = STAGES) -> int:
        """Runs the stages of these names that are not done, in order, until the time is over.

        Returns:
            0 when all are done or the time is over, 130 after Ctrl-C or a signal to stop.

        Raises:
            InputError: what a stage raised, or one that needs more time than a call has. What is done is kept.
        """
        self._about_this_call()
        old = signal.signal(signal.SIGTERM, self._stop)
        timer = threading.Timer(max(0.0, self.deadline - time.monotonic()), os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()
        try:
            return self._run([name for name in STAGES if name in names])
        finally:
            timer.cancel()
            signal.signal(signal.SIGTERM, old)

    def _stop(self, number: int, frame: Any) -> None:
        """The signal of the timer, or of whoever ends this process; within `fit` another handler answers it."""
        self.over = True
        if self.interruptible:
            raise OutOfTime("interrupted")

    def _run(self, names: list[str]) -> int:
        from dpsims.gpu_stages import missing, stale

        lacking = []
        for name in names:
            left, entry = self.deadline - time.monotonic(), self.state["stages"].setdefault(name, {})
            if entry.get("done") and not stale(self, entry):
                self._say(name, f"done before, in {entry['seconds']:.0f} s")
            elif reason := missing(name):
                self._say(name, f"left out, {reason}")
                lacking.append(name)
            elif self.over or left <= entry.get("too_short_s", 0.0):
                return self._end(f"stage {name} not begun")
            elif stands := self._stage(name, entry, left):
                return self._end(f"stage {name} {stands}")
        self.keep()
        print(f"all stages done{', but ' + ', '.join(lacking) if lacking else ''}; {self._size()}", flush=True)
        return 0

    def _stage(self, name: str, entry: dict[str, Any], left: float) -> str:
        """Runs one; returns where it stands if the time was over before it was done, "" if it is done."""
        from dpsims.gpu_stages import STAGES as RUN

        self._say(name, f"begins, {left / 60:.1f} minutes left")
        entry["hardware"] = self.state["hardware"]
        begin, self.interruptible = time.monotonic(), True
        stands = ""
        try:
            if self.over:  # since it was looked at last
                raise OutOfTime
            RUN[name](self, entry)
            entry["done"] = True
            entry.pop("too_short_s", None)
        except (OutOfTime, KeyboardInterrupt) as stop:  # writing prepared data turns the signal into the second
            stands, self.over = str(stop) or "interrupted", True
            if self._time_is_over() and name not in GO_ON:  # it needs more time than this
                entry["too_short_s"] = round(left, 1)
        finally:
            self.interruptible = False
            entry["seconds"] = round(entry.get("seconds", 0.0) + time.monotonic() - begin, 1)
            self.keep()
        if stands and "too_short_s" in entry and left > 0.8 * (self.deadline - self.begin):
            raise InputError(
                f"stage {name} was not done in {left / 60:.1f} minutes, and cannot go on; give more --minutes"
            )
        return stands

    def _size(self) -> str:
        sizes = [file.stat().st_size for file in self.out.iterdir() if file.is_file()]
        return f"{self.out}: {sum(sizes) / 2**20:.1f} MiB in {len(sizes)} files"

    def _time_is_over(self) -> bool:
        return time.monotonic() >= self.deadline

    def _end(self, where: str) -> int:
        print(f"{where}; run the same command again to go on", flush=True)
        print(self._size(), flush=True)
        return 130 if self.over and not self._time_is_over() else 0

    def _say(self, name: str, text: str) -> None:
        print(f"[{STAGES.index(name) + 1}/{len(STAGES)}] {name}: {text}", flush=True)

    def _about_this_call(self) -> None:
        from dpsims.checkpoint import provenance

        self.state["calls"] += 1
        self.state |= provenance(sources_sha256=_sources())
        with writing(self.work):
            self.work.mkdir(parents=True, exist_ok=True)
        write_json(self.work / "results.json", self.state)
        device = f"{self.plan.size} px on {self.state['hardware']}"
        print(f"call {self.state['calls']}: {device}, {self.seconds / 60:.1f} minutes", flush=True)


def _results(folder: Path) -> dict[str, Any]:
    """What results.json in a folder says; {} where there is none."""
    file = folder / "results.json"
    found = read_json(file, REMEDY) if file.is_file() else {}
    if found and found.get("format") != FORMAT or not found.keys() >= ({"session", "calls"} if found else set()):
        raise InputError(f"{file}: is not of a session; {REMEDY}")
    return found


def _sources() -> str:
    """Hash of this package's source: a lent machine may have the files without their history."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _differences(old: Any, new: Any, name: str = "") -> list[tuple[str, str]]:
    """The values that differ, by name, as text."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [(name, f"{name} {old!r} there, {new!r} here")]
    keys = {**old, **new}
    return [each for key in keys for each in _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]


def _arguments(line: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dpsims.gpu_session", description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="DIR: what goes on to the next call, and the results")
    parser.add_argument("--work", help="working folder (runs/gpu_session_SIZE)")
    parser.add_argument("--minutes", type=float, default=9.0, help="until this call has ended (%(default)s)")
    parser.add_argument("--size", type=int, default=128, help="pixels, 128 or 256 (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with the session in DIR, if there is one")
    parser.add_argument("--stages", default=",".join(STAGES), help="of %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the training; repeatable")
    return parser.parse_args(line)


def main(line: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: as `Session.run`, or 2 after one line on what is wrong."""
    given = _arguments(line)
    names, begin = given.stages.split(","), time.monotonic()
    try:
        if unknown := [name for name in names if name not in STAGES]:
            raise InputError(f"--stages {unknown[0]}: no such stage; known: {', '.join(STAGES)}")
        if not given.minutes > 0:
            raise InputError(f"--minutes {given.minutes}: give more than 0")
        from dpsims.gpu_stages import plan

        work = given.work or f"runs/gpu_session_{given.size}"
        whole = plan(given.size, given.set)
        minutes = given.minutes - (time.monotonic() - begin) / 60  # importing torch takes a while where it never was
        return Session(whole, given.out, work, minutes, given.resume).run(names)
    except InputError as error:
        print(f"dpsims: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
