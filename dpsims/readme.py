"""Writes all that is shown of the shipped checkpoints from the files that hold it; no number is typed by hand.

``python -m dpsims.readme`` draws the figures in data/results where the weights are no longer those that they were made
from, and writes the model cards, data/checkpoints/*/README.md, and the marked blocks of README.md. It reads
data/checkpoints/*/{config,provenance,evaluation}.json, data/results/ablation*/results.json, data/results/bench.json and
data/results/faults.md, which a person writes after looking at the figures; where the weights have changed since, the
README says so. ``--check`` only tells what is out of date; ``--redraw`` draws the figures anew in any case. Only
drawing needs torch.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from dpsims import config as configuration
from dpsims.backbone_costs import table as backbone_table
from dpsims.errors import InputError
from dpsims.evaluation import report
from dpsims.files import read_json, sha256, write_text
from dpsims.model_card import card, duration
from dpsims.paths import CHECKPOINTS, DATA, EVALUATORS, ROOT
from dpsims.readme_claim import claim

SHOWN = "scenes-128"  # the checkpoint of the figures; the evaluation network of its size has its name
FIGURES = ("hero.png", "gallery.png")
AGAIN = "To be checked again: this was written about earlier weights."


def evaluation_table(name: str, evaluation: dict[str, Any], provenance: dict[str, Any]) -> str:
    """One checkpoint's figures as a Markdown table, beside its reference rows."""
    protocol, generated = evaluation["protocol"], evaluation["generator"]
    references = evaluation["references"] or {}
    judged = report.JUDGED_BY <= references.keys()
    parts = [
        f"`{name}`: {provenance['step']:,} steps, seed {provenance['seed']}, {duration(provenance['seconds'])} on "
        f"{provenance['hardware']} ([model card](data/checkpoints/{name}/README.md)). Measured on {protocol['maps']} "
        f"held-out label maps of {protocol['height']} x {protocol['width']} pixels. The distance is a Fréchet distance "
        "in features of the shipped evaluation network: read it against the rows beside it, not against distances of "
        "other projects. One training, one seed: its spread was not measured."
    ]
    if judged:
        sentences = report.verdict(generated, references)
        if worst := report.weakest_classes(generated, references):
            sentences.append(f"**Furthest behind** real images: {worst}.")
        parts.append("\n".join(f"- {sentence}" for sentence in sentences))
    parts += [
        "[Notebook 4](notebooks/04_evaluation.ipynb) says what each row and each column means.",
        report.beside(name, generated, references),
    ]
    if "frechet_interval" in generated:
        parts.append(_reading(evaluation))
    if generated["mood_shares"]:
        parts.append(f"Share of each mood in its images: {report.mood_shares(generated)}.")
    if judged:
        parts.append(report.gate_table(generated, references))
    return "\n\n".join(parts)


def regeneration(name: str, evaluation: dict[str, Any]) -> str:
    """The commands that make the table of a checkpoint again."""
    folder, data = f"data/checkpoints/{name}", configuration.load(CHECKPOINTS / name / "config.json").data
    counts = f"--n {data.num_images} --n-val {evaluation['protocol']['maps']} --seed {data.seed}"
    return f"""To make this table again:

```sh
dpsims prepare {data.dataset} --size {data.height} {counts} --out data/cache/mine
dpsims evaluate --checkpoint {folder} --data data/cache/mine --out {folder}/evaluation.json
python -m dpsims.readme    # this text, the figures, the model card
```"""


def _reading(evaluation: dict[str, Any]) -> str:
    """How to read the columns that results of format 1 lack."""
    level, judge, maps = (
        evaluation["protocol"]["intervals"]["level"],
        evaluation["evaluator"],
        evaluation["protocol"]["maps"],
    )
    balanced = named = ""
    if judge["mood_accuracy"] is not None:
        balanced = (
            "The re-balanced distance gives the moods that are drawn their real shares: realism apart from coverage. "
        )
        named = f" and names {judge['mood_accuracy']:.1%} of the moods rightly"
    return (
        "Distances: lower is better; mIoU: higher; the last two: as the perfect sampler has them (–: one image a map). "
        f"In brackets: the interval of {level:.0%} over label maps, not over trainings. The texture distance is taken "
        f"in features that know nothing of scenes; the training shares with them {evaluation['texture_shares']}. "
        f"{balanced}The mIoU of *real images* is that of the evaluation network on the real images of these {maps} "
        f"maps. On the {judge['images']} of another seed that its own training held out, it has {judge['miou']:.3f}"
        f"{named}."
    )


COSTS = {  # figures of `dpsims bench` in words
    "training_step_ms": "training step, 8 images of 64 pixels",
    "image_64_ms": "drawing an image of 64 pixels",
    "read_batch_ms": "reading 8 training images",
    "draw_16_scenes_64_ms": "making 16 scenes of 64 pixels",
    "draw_16_scenes_128_ms": "making 16 scenes of 128 pixels",
    "painted_to_image_64_ms": "explorer, 64 pixels: from the message of a stroke to its image, ready to be sent",
    "painted_to_image_128_ms": "explorer, 128 pixels: the same",
    "two_processes_ratio": "training step in two processes: CPU time, twice that of the first, as a multiple of one's",
    "two_processes_per_image_ratio": "the same with a whole batch in each process, an image",
    "peak_memory_mib": "peak memory of all this",
    "read_256_per_s": "reading images of 256 pixels from prepared data in the file cache",
    "read_cut_256_per_s": "the same cut from 286 pixels, flipped, as a training takes them",
    "prepare_ratio": "preparing files at 256 pixels: its speed, as a share of Pillow's decoding and resizing alone",
    "prepare_mib": "peak memory of preparing 64 pairs of files",
    "prepare_4_times_mib": "peak memory of preparing 256 pairs of files",
}
UNITS = {"ms": " ms", "mib": " MiB", "s": " images/s", "ratio": ""}  # by the last word of a figure's name


def bench_table(bench: dict[str, Any]) -> str:
    """The costs as a Markdown table."""
    lines = [
        f"Costs ({bench['unit']}, medians of {bench['repeats']}, {bench['hardware']}, torch {bench['torch']}; to make "
        "this table again: `dpsims bench --out data/results/bench.json`, then `python -m dpsims.readme`):",
        "",
        "| work | median | least to most |",
        "|---|---|---|",
    ]
    for name, value in bench["figures"].items():
        unit = UNITS[name.rpartition("_")[2]]
        if isinstance(value, dict):
            digits = 2 if not unit else 0 if value["least"] >= 10 else 1
            median, least, most = (f"{value[key]:,.{digits}f}" for key in ("median", "least", "most"))
            lines.append(f"| {COSTS.get(name, name)} | {median}{unit} | {least} to {most}{unit} |")
        else:
            lines.append(f"| {COSTS.get(name, name)} | {value}{unit} | |")
    return "\n".join(lines)


def results() -> str:
    """The tables: every checkpoint beside its reference rows, and the costs."""
    parts = []
    for file in sorted(CHECKPOINTS.glob("*/evaluation.json")):
        try:
            name, evaluation = file.parent.name, json.loads(file.read_text())
            provenance = json.loads((file.parent / "provenance.json").read_text())
            parts += [evaluation_table(name, evaluation, provenance), regeneration(name, evaluation)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise InputError(
                f"{file}: not usable, with provenance.json beside it ({why}); run dpsims evaluate"
            ) from None
    bench = DATA / "results" / "bench.json"
    if bench.is_file():
        parts.append(bench_table(read_json(bench, "run dpsims bench --out data/results/bench.json")))
    return "\n\n".join(parts)


def figure_facts(name: str) -> dict[str, Any]:
    """What a figure says of itself, see `dpsims.gallery`; empty where it is missing or says nothing."""
    try:
        with Image.open(DATA / "results" / name) as image:
            facts = json.loads(image.info.get("dpsims", "{}"))
    except (OSError, ValueError, TypeError):
        return {}
    return facts if isinstance(facts, dict) else {}


def made_of() -> dict[str, str]:
    """SHA-256 of the weights that the figures are made from."""
    files = {
        "generator": CHECKPOINTS / SHOWN / "generator.safetensors",
        "evaluator": EVALUATORS / SHOWN / "weights.safetensors",
    }
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such file; the figures of README.md are made from it")
    return {name: sha256(file) for name, file in files.items()}


def hero() -> str:
    """The figure at the top, with its words."""
    facts = figure_facts("hero.png")
    if not facts:
        return ""
    name, seeds, candidates = facts["checkpoint"], _seeds(facts["seeds"]), facts["candidates"]
    alt = f"{facts['maps']} label maps, their real images, and images of {name} for them: {seeds}"
    return f"""![{alt}](data/results/hero.png)

*First row: label maps that were held out from training. Second row: their real images. Below: what the shipped
`{name}` draws for them, one noise a row: {seeds}.
The maps are the first held-out ones of each layout. Of {candidates} seeds, these are the ones whose mood the evaluation
network is surest of.*"""


def gallery() -> str:
    """The second figure, with its words."""
    facts = figure_facts("gallery.png")
    if not facts:
        return ""
    name, candidates = facts["checkpoint"], facts["candidates"]
    drawn, missing = ", ".join(facts["seeds"]), ", ".join(facts["missing"])
    lack = f" No seed gives: {missing}." if missing else ""
    alt = f"One label map in its six real moods, in the moods that {name} draws ({drawn}), and on a walk between two"
    return f"""![{alt}](data/results/gallery.png)

*One label map: the first held-out one with a lake, the layout of most classes. First row: the map, and its six real
images, one a mood; the map does not say which. Second row: `{name}` draws it, for each mood with that of {candidates}
seeds whose mood the evaluation network is surest of.{lack} Third row: `{name}` draws it with noises on the way from
one seed to another, {" to ".join(_seed(*end) for end in facts["walk"].items())}, along the great circle;
s is the share of the way.*"""


def _seed(mood: str, seed: int) -> str:
    return f"seed {seed} ({mood})"


def _seeds(seeds: dict[str, int]) -> str:
    return ", ".join(_seed(mood, seed) for mood, seed in seeds.items())


def faults() -> str:
    """What a person saw to be wrong in the figures, with a warning where the weights have changed since."""
    first, _, words = _faults().partition("\n")
    warning = f"*{AGAIN}*\n\n" if first and not _seen(first) else ""
    return f"{warning}{words.strip()}"


def _faults() -> str:
    """Written by hand; its first line names the weights that were looked at. "" where nobody wrote anything."""
    file = DATA / "results" / "faults.md"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _seen(line: str) -> bool:
    return f"generator {made_of()['generator'][:12]}" in line


BLOCKS: dict[str, Callable[[], str]] = {
    "hero": hero,
    "results": results,
    "claim": claim,
    "gallery": gallery,
    "faults": faults,
    "backbones": backbone_table,
}


def marks(block: str) -> tuple[str, str]:
    """The lines before and after a block of README.md."""
    return f"<!-- {block}: begin -->", f"<!-- {block}: end -->"


def updated(text: str) -> str:
    """README text with its marked blocks made anew."""
    for block, make in BLOCKS.items():
        first, last = marks(block)
        before, begin, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if not (begin and end):
            raise InputError(f"README.md: lacks {first} or, after it, {last}; put both marks where the {block} belongs")
        text = f"{before}{first}\n{make()}\n{last}{after}"
    return text


def texts(readme: Path) -> dict[Path, str]:
    """Every file of text that is made here, with what it should hold."""
    cards = {file.with_name("README.md"): card(file.parent) for file in sorted(CHECKPOINTS.glob("*/evaluation.json"))}
    return {readme: updated(readme.read_text(encoding="utf-8")), **cards}


def stale(readme: Path) -> list[Path]:
    """What `python -m dpsims.readme` would write: figures of other weights than are here, and texts that differ."""
    now = made_of()
    old = [DATA / "results" / name for name in FIGURES if figure_facts(name).get("made_of") != now]
    return old + [
        file for file, text in texts(readme).items() if not file.is_file() or file.read_text(encoding="utf-8") != text
    ]


def write(readme: Path, redraw: bool = False) -> None:
    """Draws the figures that are stale, or all, then writes the texts."""
    now, _ = made_of(), texts(readme)  # anything wrong is told before the minute that drawing takes
    if redraw or any(figure_facts(name).get("made_of") != now for name in FIGURES):
        from dpsims.gallery import draw  # only here: looking at what is there needs no torch

        draw(CHECKPOINTS / SHOWN, DATA / "results", now)
    for file, text in texts(readme).items():
        write_text(file, text)


def main(arguments: list[str], readme: Path = ROOT / "README.md") -> int:
    """Writes what is out of date, or with ``--check`` names it and returns 1; 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m dpsims.readme", description="Write the results into README.md, the figures and the model cards."
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where anything is out of date")
    parser.add_argument("--redraw", action="store_true", help="draw the figures even where their weights are the same")
    given = parser.parse_args(arguments)
    try:
        if not given.check:
            write(readme, given.redraw)
        old = stale(readme)
        if AGAIN in faults():
            print(
                f"dpsims: data/results/faults.md: look at {' and '.join(FIGURES)}, mend it, and write "
                f"'generator {made_of()['generator'][:12]}' into its first line",
                file=sys.stderr,
            )
    except (InputError, OSError) as error:
        print(f"dpsims: {error}", file=sys.stderr)
        return 2
    for file in old:
        print(f"out of date: {file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}", file=sys.stderr)
    return int(bool(old))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
