"""The log of trials: what was tried, with which settings, and what came of it, one line a run.

``python -m dpsims.trials RUN [RUN ...] --out data/results/trials.csv`` measures the newest checkpoint of each run on
held-out label maps and adds a line, or replaces the one of that name. Settings are those that differ from the defaults
of `dpsims.config`; the figures are comparable within one file only (same data, evaluation network and maps).
"""

import argparse
import csv
import sys
from pathlib import Path

from dpsims import checkpoint
from dpsims import config as configuration
from dpsims.config import Config
from dpsims.data.scenes import MOODS
from dpsims.errors import InputError
from dpsims.evaluation.measuring import Yardstick
from dpsims.evaluation.protocol import measure_checkpoint, open_yardstick
from dpsims.files import check_file, replacing
from dpsims.paths import CACHE

MAPS, DIVERSITY_MAPS = 300, 30
FIGURES = ("frechet", "miou", "diversity_l1", "moods_per_six")
COLUMNS = ("trial", "steps", *FIGURES, *MOODS, "planned", "settings", "commit")
# change nothing
QUIET = ("train.log_every", "train.sample_every", "train.checkpoint_every", "train.steps", "data.path")


def settings(config: Config) -> str:
    """``section.field=value`` for everything that differs from the defaults, in the order of the fields."""
    default = Config().flat()
    changed = {key: value for key, value in config.flat().items() if value != default[key] and key not in QUIET}
    return " ".join(f"{key}={value}" for key, value in changed.items()).replace(", ", ",")


def trial(name: str, folder: Path, yardstick: Yardstick) -> dict[str, str | int | float]:
    """One line of the log: name, steps, figures, shares of the moods, settings and commit of a run's checkpoint."""
    facts = checkpoint.read_provenance(folder)
    row = measure_checkpoint(folder, yardstick, progress=sys.stderr.isatty())
    line: dict[str, str | int | float] = {"trial": name, "steps": facts.get("step", "")}
    line |= {name: round(row[name], 3) for name in FIGURES}
    line |= {mood: round(share, 3) for mood, share in (row["mood_shares"] or {}).items()}
    config = configuration.load(folder / "config.json")
    return line | {"planned": config.train.steps, "settings": settings(config), "commit": facts.get("commit", "")}


def read(log: Path) -> dict[str, dict]:
    """The lines of a log by name of the run; none where there is no file yet.

    Raises:
        InputError: a file that is no such log or cannot be written, or a folder that does not exist.
    """
    if not log.name or log.is_dir() or not log.parent.is_dir():
        raise InputError(f"{log}: is no file, or its folder is missing; name a CSV file in a folder that exists")
    check_file(log)  # reading a device or a pipe need not end
    if not log.exists():
        return {}
    try:
        with log.open(newline="") as file:
            reader = csv.DictReader(file)
            header, lines = tuple(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{log}: not readable as a log of trials ({error}); choose another --out") from None
    if header != COLUMNS:
        raise InputError(f"{log}: has other columns than a log of trials; choose another --out")
    return {line["trial"]: line for line in lines}


def record(runs: list[Path], out: Path, data: Path) -> list[dict]:
    """Measures runs and writes the log anew, with the lines of other runs as they were.

    Raises:
        InputError: a folder that is no run, data that are missing, a log that is foreign or cannot be written.
    """
    lines, found = read(out), {run.name: checkpoint.resolve(run) for run in runs}
    amount = {"max_maps": MAPS, "diversity_maps": DIVERSITY_MAPS}
    yardstick = open_yardstick(data, device="cpu", progress=sys.stderr.isatty(), **amount)
    for name, folder in found.items():
        lines[name] = trial(name, folder, yardstick)
        with replacing(out) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines.values())
    return list(lines.values())


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dpsims.trials", description="Add runs to the log of trials.")
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of dpsims train")
    parser.add_argument("--out", type=Path, required=True, help="the log, a CSV file")
    parser.add_argument(
        "--data", type=Path, default=CACHE / "scenes-64-n3000-v500-s0-version1", help="prepared data set"
    )
    given = parser.parse_args(arguments)
    try:
        record(given.runs, given.out, given.data)
    except InputError as error:
        print(f"dpsims: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
