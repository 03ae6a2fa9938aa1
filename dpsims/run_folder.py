"""A training's folder on disk: configuration, log, sample sheets, checkpoints; and how a run comes back after a
crash."""

import csv
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import nn

from dpsims import checkpoint, files
from dpsims import config as configuration
from dpsims.config import Config
from dpsims.data.prepared import PreparedData
from dpsims.errors import InputError

if TYPE_CHECKING:  # a lower room never imports a higher one
    from dpsims.trainer import Trainer

KEEP = 2  # checkpoints
SAME_RESULTS = ("data.path", "train.accumulate", "discriminator.checkpointing")  # may change as a run goes on
MODEL_FILES = ("generator.safetensors", "provenance.json")  # in a checkpoint or an exported model, never in a run
COLUMNS = (
    "step", "loss_d_real", "loss_d_fake", "loss_g_pixel", "loss_g_contrastive", "loss_g_diversity", "fakes_found",
    "gap", "sigma", "lr_generator", "grad_generator", "grad_discriminator", "grad_pixel", "grad_contrastive",
    "grad_diversity", "saturated_1", "saturated_2", "saturated_4", "saturated_8", "saturated_16", "saturated_32",
    "frechet",  # where the generator was judged
    "cpu_seconds",  # process CPU time of the steps so far, over all resumes: the one column that no seed determines
)  # fmt: skip


class RunFolder:
    """Opens, or makes, the folder of a run.

    Args:
        out: the folder.
        config: of the run; a folder of another configuration is refused, wherever the data lie.
        resume: whether a run may be there already.
        main: False in all but one of several processes: these read what it wrote, and write nothing.

    Raises:
        InputError: `out` cannot be written, is a model, holds a run though `resume` is False, or one of another
            configuration.
    """

    def __init__(self, out: Path, config: Config, resume: bool, main: bool = True) -> None:
        self.out, self.config, self.main = out, config, main
        checkpoint.commit()  # now: the code that runs is that of the start, whatever is committed meanwhile
        with files.writing(out):
            self._open(resume)

    def _open(self, resume: bool) -> None:
        out, saved = self.out, self.out / "config.json"
        if any((out / name).exists() for name in MODEL_FILES):
            raise InputError(
                f"{out}: is a checkpoint or an exported model, no run; give the run's folder or a new --out"
            )
        if saved.is_file():
            if not resume and self.main:
                raise InputError(f"{out}: holds a training already; pass --resume to go on, or choose another --out")
            differences = _differences(configuration.load(saved), self.config)
            if differences:
                raise InputError(f"{saved}: is of another configuration ({differences}); choose another --out")
        elif out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out}: holds files but no dpsims run; choose another --out")
        (out / "samples").mkdir(parents=True, exist_ok=True)
        if not checkpoint.checkpoints(out):  # a run that starts; it may have been killed at its first attempt
            self.config.save(saved)

    def log(self, step: int, row: dict[str, float]) -> None:
        """Appends a row to metrics.csv; terms that were not measured at this step stay empty."""
        if not self.main:
            return
        path = self.out / "metrics.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            writer.writerow([step] + [f"{row[name]:.9g}" if name in row else "" for name in COLUMNS[1:]])

    def save(
        self, trainer: "Trainer", step: int, seconds: float, cpu_seconds: float, keep: int, frechet: float | None = None
    ) -> None:
        """Writes checkpoint `step`, then removes all but the newest `keep` and the one of the least Fréchet distance;
        the distances are in the checkpoints, so a run that goes on knows its best one."""
        if not self.main:
            return

        def write(folder: Path) -> None:
            facts = checkpoint.provenance(
                step=step, steps=self.config.train.steps, seed=self.config.train.seed, seconds=round(seconds, 1),
                cpu_seconds=round(cpu_seconds, 3),
                data=_facts(trainer.data),
            )  # fmt: skip
            facts |= {"started_from": trainer.started_from} if trainer.started_from else {}
            facts |= {} if frechet is None else {"frechet": frechet}
            counters = {"step": step, "seconds": seconds, "cpu_seconds": cpu_seconds}
            torch.save(trainer.state() | counters, folder / "training_state.pt")
            states = {name: checkpoint.without_backbone(model) for name, model in _networks(trainer).items()}
            checkpoint.save_model(folder, self.config, trainer.data.space, states, facts)

        files.write_folder(self.out / "checkpoints" / f"step_{step:07d}", write)
        best = checkpoint.best(self.out)
        for old in checkpoint.checkpoints(self.out)[:-keep]:
            if old != best:
                shutil.rmtree(old, ignore_errors=True)

    def restore(self, trainer: "Trainer") -> tuple[int, float, float]:
        """Brings the newest checkpoint back, if there is one.

        Returns:
            Steps done, seconds spent, process CPU seconds spent in steps (from 0 for a run that did not count them);
            zeros without a checkpoint.

        Raises:
            InputError: the checkpoint is damaged or of other data, or the log is not one.
        """
        for left in (self.out / "checkpoints").glob(".step_*") if self.main else ():  # a process was killed as it saved
            files.heal_folder(left.with_name(left.stem[1:]))
        found = checkpoint.checkpoints(self.out)
        step, seconds, cpu_seconds = self._load(trainer, found[-1]) if found else (0, 0.0, 0.0)
        if self.main:
            self._cut_log(step)
        return step, seconds, cpu_seconds

    def _load(self, trainer: "Trainer", folder: Path) -> tuple[int, float, float]:
        with _usable(folder / "provenance.json"):
            facts = checkpoint.read_provenance(folder)
        if facts.get("data") != _facts(trainer.data):
            raise InputError(f"{folder}: trained on other data than {trainer.data.path}; give the same --data again")
        for name, model in _networks(trainer).items():
            with _usable(folder / f"{name}.safetensors") as file:
                checkpoint.load_weights(model, file)
        with _usable(folder / "training_state.pt") as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
            trainer.load_state(state)
            step, seconds, cpu_seconds = state["step"], state["seconds"], state.get("cpu_seconds", 0.0)
            if folder.name != f"step_{step:07d}" or step > self.config.train.steps:
                raise InputError("a step of another checkpoint")
            if not math.isfinite(seconds + cpu_seconds):
                raise InputError("a time that is no number")
        return step, seconds, cpu_seconds

    def _cut_log(self, step: int) -> None:
        """Drops the rows of steps that will run again; the log of an older version gets the columns it lacks, empty."""
        path = self.out / "metrics.csv"
        if not path.exists():
            return
        try:
            text = path.read_text(encoding="utf-8")
            if ",".join(COLUMNS).startswith(text.rstrip()):  # killed before the first row: nothing, or a torn header
                path.unlink()
                return
            head, *rows = csv.reader(text.splitlines())
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(f"{path}: cannot be read ({error}); remove it to start the log anew") from None
        if head[:1] != ["step"] or not set(head) <= set(COLUMNS):
            raise InputError(f"{path}: is not the log of a training; remove it to start the log anew")
        # a row torn by a crash is of a step that runs again, and it is the last
        kept = [r for r in rows if len(r) == len(head) and r[0].isdigit() and int(r[0]) < step]
        with files.replacing(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(dict(zip(head, row, strict=True)) for row in kept)

    def sample(self, generator: nn.Module, data: PreparedData, step: int) -> None:
        """Writes samples/step_NNNNNNN.png: fixed label maps, their real images, three fixed noises, row by row."""
        from dpsims.synthesis import sample_sheet

        if not self.main:
            return
        sheet = sample_sheet(checkpoint.fold_spectral_norm(generator), data, maps=8, noises=3)
        with files.replacing(self.out / "samples" / f"step_{step:07d}.png") as temporary:
            Image.fromarray(sheet).save(temporary, format="PNG")


@contextmanager
def _usable(file: Path) -> Iterator[Path]:
    """Turns what readers of a checkpoint's file raise, many kinds, into one line with the way on."""
    try:
        yield file
    except (torch.OutOfMemoryError, MemoryError):  # nothing is wrong with the file
        raise
    except Exception as error:
        reason = str(error).removeprefix(f"{file}: ") if isinstance(error, InputError) else type(error).__name__
        raise InputError(
            f"{file}: not usable ({reason}); delete {file.parent} to go on from the checkpoint before it, or from the "
            "start if there is none"
        ) from error


def _networks(trainer: "Trainer") -> dict[str, nn.Module]:
    return {"generator": trainer.ema, "generator_live": trainer.generator, "discriminator": trainer.discriminator}


def _facts(data: PreparedData) -> dict[str, Any]:
    """What tells one data set from another, wherever it lies."""
    return {key: data.index.get(key) for key in ("dataset", "height", "width", "seed", "sha256")}


def _differences(old: Config, new: Config) -> str:
    """The first three fields that differ, as text, but for `SAME_RESULTS`: of data the hashes count, not the place."""
    here = new.flat()
    changed = [
        f"{key} {value!r} there, {here[key]!r} here"
        for key, value in old.flat().items()
        if value != here[key] and key not in SAME_RESULTS
    ]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return "; ".join(changed[:3]) + more


def read_metrics(run: str | Path) -> dict[str, list[float]]:
    """metrics.csv as columns; NaN where a term was not measured.

    Raises:
        InputError: there is no log, or it is damaged.
    """
    path = Path(run) / "metrics.csv"
    if not path.is_file():
        raise InputError(f"{path}: no such file; is this folder a dpsims run?")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row.get(name) or "nan") for row in rows] for name in COLUMNS}
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: is not the log of a training ({error}); give another run folder") from None
