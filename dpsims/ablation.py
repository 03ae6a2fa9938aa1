"""The paper's central claim, tried: one training with a pre-trained, frozen encoder in D against the same without.

Published (arXiv 2312.13314): a frozen, pre-trained encoder makes a better discriminator. How it is tried here is our
default: all arms share generator, initial weights of it, data, batches, noises and number of steps, and differ only in
the fields that `ARMS` names. Each run is measured at several checkpoints, so that arms compare at equal steps and at
equal time.

    python -m dpsims.ablation --preset scenes64_quick --steps 600 --seeds 0,1,2 --out runs/ablation

writes results.json and results.csv. Asked again it trains and measures only what is missing.
"""

import argparse
import csv
import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpsims.ablation_statistics import FORMAT, findings
from dpsims.checkpoint import checkpoints, provenance, read_provenance
from dpsims.config import Config, override
from dpsims.data.prepare import ensure_scenes
from dpsims.data.prepared import open_prepared, settings_of
from dpsims.errors import InputError
from dpsims.evaluation.measuring import Yardstick
from dpsims.evaluation.protocol import describe, measure_checkpoint, open_yardstick, usual_evaluator
from dpsims.files import read_json, write_json, write_text
from dpsims.presets import preset
from dpsims.sheets import read_sheet
from dpsims.training import DeadRun, fit

_SCRATCH = ("discriminator.pretrained=false", "discriminator.frozen=false")
ARMS: dict[str, tuple[str, tuple[str, ...]]] = {  # key -> name, settings; all but the first are controls of ours
    "pretrained": ("pre-trained, frozen", ()),
    "scratch": ("from scratch, trained", _SCRATCH),
    "scratch_raw": (
        "from scratch, raw features",
        (*_SCRATCH, *(f"discriminator.{step}" for step in ("nonlinearity=none", "decorrelation=none", "noise=off"))),
    ),
    "random": ("random, frozen", ("discriminator.pretrained=false",)),
}
COLUMNS = ("arm", "seed", "step", "cpu_seconds", "seconds", "frechet", "miou", "diversity_l1", "moods_per_six")


@dataclass(frozen=True)
class Study:
    """What is compared, how long it trains and how it is measured.

    Raises:
        InputError: unknown or repeated arms, repeated or negative seeds, impossible numbers.
    """

    data: str  # prepared data set
    preset: str = "scenes64_quick"  # training configuration
    steps: int = 600  # optimiser steps of each run
    seeds: tuple[int, ...] = (0, 1, 2)  # one training a seed and arm
    arms: tuple[str, ...] = ("pretrained", "scratch")  # keys of `ARMS`
    points: int = 4  # checkpoints measured of each run, evenly spread, the last at the end
    max_maps: int = 500  # held-out maps drawn for distance and mIoU
    diversity_maps: int = 50  # held-out maps drawn six times for diversity
    evaluator: str = ""  # folder of the evaluation network; of `protocol.usual_evaluator` if empty
    settings: tuple[str, ...] = ()  # changes of every arm's configuration, section.field=value

    def __post_init__(self) -> None:
        unknown = [arm for arm in self.arms if arm not in ARMS]
        if unknown or not self.arms or len(set(self.arms)) < len(self.arms):
            raise InputError(f"arms: {', '.join(self.arms) or 'none'}; name each once, of {', '.join(ARMS)}")
        whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in self.seeds)
        if not self.seeds or not whole or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds: {list(self.seeds)}; give different whole numbers from 0, at least one")
        if not 1 <= self.points <= self.steps:
            raise InputError(f"points: {self.points} checkpoints of {self.steps} steps; give 1 to the number of steps")

    def config(self, arm: str, seed: int) -> Config:
        """The configuration of one run; raises InputError for a bad setting."""
        every = -(-self.steps // self.points)
        fields = [*settings_of(self.data), f"train.steps={self.steps}", f"train.seed={seed}"]
        fields += [f"train.checkpoint_every={every}", f"train.sample_every={self.steps}"]
        return override(preset(self.preset), [*fields, *self.settings, *ARMS[arm][1]])


def run_study(study: Study, out: str | Path, progress: bool = True) -> dict[str, Any]:
    """Trains and measures all arms and seeds, and writes results.json and results.csv.

    Killed at any moment and called again, it goes on: a finished run is not trained or measured again, an unfinished
    one continues from its last checkpoint. Seeds come first in turn, so that an unfinished study has whole pairs.

    Args:
        study: what to compare.
        out: folder; a run lies in ``out/<arm>/seed_<seed>``.
        progress: show bars.

    Returns:
        What results.json holds: ``rows``, one a run and checkpoint, with the keys of `COLUMNS` (seconds of process CPU
        time in steps, wall seconds of everything, the figures of `dpsims.evaluation.protocol.evaluate`); ``arms`` with
        names and settings; ``died``, the runs that `fit` stopped; ``clock``, the column that measures cost on this
        hardware; ``study``, ``protocol`` and ``provenance``.

    Raises:
        InputError: bad data or settings; `out` holds a run of another study; a training was stopped by Ctrl-C.
    """
    out = Path(out)
    for arm in study.arms:  # what is wrong shows before anything is trained
        study.config(arm, study.seeds[0])
    amount = {"max_maps": study.max_maps, "diversity_maps": study.diversity_maps}
    amount |= {"evaluator_path": study.evaluator} if study.evaluator else {}
    ruler = cache(lambda: open_yardstick(study.data, progress=progress, **amount))  # none where all is measured already
    measured = [_measured_run(study, arm, seed, out, progress, ruler) for seed in study.seeds for arm in study.arms]
    shown = dataclasses.asdict(study) | {"data": open_prepared(study.data).index["dataset"]}
    del shown["evaluator"]  # a path of one machine; the protocol has its hash
    results = {
        "format": FORMAT,
        "study": shown,
        "arms": {arm: {"name": ARMS[arm][0], "settings": list(ARMS[arm][1])} for arm in study.arms},
        "clock": "seconds" if torch.accelerator.is_available() else "cpu_seconds",
        "rows": [row for run in measured for row in run["rows"]],
        "died": [run["died"] for run in measured if run["died"]],
        "protocol": next((run["protocol"] for run in measured if run["protocol"]), None),
        "provenance": provenance(),
    }
    results = json.loads(json.dumps(results))  # as a reader of the file gets it: lists, no tuples
    write_json(out / "results.json", results)
    write_text(out / "results.csv", _as_csv(results["rows"]))
    return results


def run_path(out: str | Path, arm: str, seed: int) -> Path:
    """Where the run of one arm and seed lies in the folder of a study."""
    return Path(out) / arm / f"seed_{seed}"


def sample_images(out: str | Path, arm: str, seed: int, size: tuple[int, int]) -> np.ndarray | None:
    """The images that a run drew at its end: the same maps and noises in every run.

    Args:
        out: folder of the study.
        arm, seed: which run.
        size: (H, W) of an image in pixels.

    Returns:
        (R, N, H, W, 3) uint8 for N maps: label maps, real images, then one row a noise; None where there is no
        sheet, as beside a results.json that came alone.

    Raises:
        InputError: the sheet is not made of images of this size.
    """
    sheets = sorted((run_path(out, arm, seed) / "samples").glob("step_*.png"))
    if not sheets:
        return None
    return read_sheet(sheets[-1], *size)


def _measured_run(
    study: Study, arm: str, seed: int, out: Path, progress: bool, ruler: Callable[[], Yardstick]
) -> dict[str, Any]:
    """Trains one run if need be, measures its checkpoints and keeps the figures in measured.json."""
    folder, config = run_path(out, arm, seed), study.config(arm, seed)
    file = folder / "measured.json"
    asked = {"config": config.to_dict(), "max_maps": study.max_maps, "diversity_maps": study.diversity_maps}
    asked["config"]["data"].pop("path")  # the same data and network may lie elsewhere: their hashes stand for them
    asked["data"] = open_prepared(study.data).index["sha256"]
    judge = Path(study.evaluator or usual_evaluator(study.data)) / "provenance.json"
    asked["evaluator"] = read_json(judge, "make it with dpsims train-evaluators").get("sha256")
    asked = json.loads(json.dumps(asked))
    if file.is_file():
        kept = read_json(file, "remove it to measure again")
        if kept.get("asked") != asked:
            raise InputError(f"{file}: measured with other settings; choose another --out, or remove {folder}")
        return kept
    yardstick, died = ruler(), None
    try:
        result = fit(config, folder, resume=True, progress=progress, keep=study.steps)
        if not result.finished:
            raise InputError(f"{folder}: stopped at step {result.step} of {study.steps}; run it again to go on")
    except DeadRun as error:
        died = {"arm": arm, "seed": seed, "reason": str(error)}
    every = config.train.checkpoint_every  # a stop by Ctrl-C leaves a checkpoint in between, which no other run has
    due = [c for c in checkpoints(folder) if (step := int(c.name[5:])) % every == 0 or step == study.steps]
    rows = [{"arm": arm, "seed": seed, **_measure(checkpoint, yardstick, progress)} for checkpoint in due]
    protocol = describe(yardstick.data, yardstick.evaluator, yardstick.protocol)
    kept = {"asked": asked, "rows": rows, "died": died, "protocol": protocol}
    write_json(file, kept)
    for old in checkpoints(folder)[:-1]:  # measured: only the last one is of use now
        shutil.rmtree(old, ignore_errors=True)
    return kept


def _measure(checkpoint: Path, yardstick: Yardstick, progress: bool) -> dict[str, Any]:
    """The row of one checkpoint, less arm and seed."""
    facts, figures = read_provenance(checkpoint), measure_checkpoint(checkpoint, yardstick, progress)
    return {key: facts[key] for key in COLUMNS[2:5]} | {key: figures[key] for key in COLUMNS[5:]}


def _as_csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _arguments(line: Sequence[str] | None) -> argparse.Namespace:
    default = {field.name: field.default for field in dataclasses.fields(Study)}
    parser = argparse.ArgumentParser(prog="python -m dpsims.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="folder for the runs, results.json and results.csv")
    parser.add_argument("--data", default="", help="prepared data set; Scenes from the cache if not given")
    parser.add_argument("--evaluator", default="", help="evaluation network for --data; the shipped one if not given")
    parser.add_argument("--num-images", type=int, default=3000, help="training images, without --data (%(default)s)")
    parser.add_argument("--held-out", type=int, default=500, help="held-out images, without --data (%(default)s)")
    parser.add_argument("--preset", default=default["preset"], help="training configuration (%(default)s)")
    for name, help_text in (
        ("steps", "optimiser steps of each run"),
        ("points", "checkpoints measured of each run"),
        ("max-maps", "held-out maps for distance and mIoU"),
        ("diversity-maps", "held-out maps drawn six times for diversity"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default[name.replace("-", "_")], help=help_text)
    parser.add_argument("--seeds", default="0,1,2", help="one training a seed and arm (%(default)s)")
    parser.add_argument("--arms", default=",".join(default["arms"]), help=f"of {', '.join(ARMS)} (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every arm; repeatable")
    return parser.parse_args(line)


def main(line: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0, or 2 after one line on what is wrong."""
    given = _arguments(line)
    try:
        try:
            seeds = tuple(int(seed) for seed in given.seeds.split(","))
        except ValueError:
            raise InputError(f"--seeds {given.seeds}: write whole numbers, such as 0,1,2") from None
        study = Study(
            data="", preset=given.preset, steps=given.steps, seeds=seeds, arms=tuple(given.arms.split(",")),
            points=given.points, max_maps=given.max_maps, diversity_maps=given.diversity_maps,
            evaluator=given.evaluator, settings=tuple(given.set),
        )  # fmt: skip
        data = given.data
        if not data:
            side = override(preset(given.preset), given.set).data
            data = ensure_scenes((side.height, side.width), n=given.num_images, n_val=given.held_out)
        results = run_study(dataclasses.replace(study, data=str(data)), given.out)
    except InputError as error:
        print(f"dpsims: {error}", file=sys.stderr)
        return 2
    print("\n".join([*findings(results), f"figures: {Path(given.out) / 'results.json'}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
