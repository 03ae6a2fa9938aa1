"""What ends a training before its time: a loss that is no number, a generator that can no longer learn, no memory, no
room on the disk. Each is told with what would help."""

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from dpsims import checkpoint
from dpsims.config import Config
from dpsims.errors import InputError

DEAD_FAKES, DEAD_GRADIENT = 0.99, 0.02  # D finds this share of the fakes while G's gradient norm is below that


class DeadRun(InputError):
    """The discriminator finds every fake and the generator's gradient has vanished: more steps cannot help."""


def is_dead(log: dict[str, Tensor]) -> Tensor:
    """Whether a step showed no life: a boolean scalar of "fakes_found" and "grad_generator"."""
    return (log["fakes_found"] >= DEAD_FAKES) & (log["grad_generator"] < DEAD_GRADIENT)


def stop_if_hopeless(out: Path, step: int, row: dict[str, float], dead: int, dead_after: int) -> None:
    """Looks at one row of a log.

    Args:
        out: the run's folder.
        step: of the row.
        row: name -> value.
        dead: steps in a row without life, see `is_dead`.
        dead_after: so many are too many.

    Raises:
        DeadRun: a dead generator.
        InputError: a value that is no number, named with its step and the last good checkpoint.
    """
    broken = [key for key, value in row.items() if not math.isfinite(value)]
    if broken:
        found = checkpoint.checkpoints(out)
        whole = f"; {found[-1]} is from before" if found else ""
        raise InputError(
            f"{out}: at step {step} {broken[0]} is {row[broken[0]]}; train anew with lower train.lr_generator and "
            f"train.lr_discriminator{whole}"
        )
    if dead >= dead_after:
        raise DeadRun(
            f"step {step}: the discriminator finds {row['fakes_found']:.0%} of the fakes and the generator's gradient "
            f"norm has been below {DEAD_GRADIENT} for {dead} steps: the generator is dead. Change train.seed, lower "
            f"train.lr_discriminator, or raise train.warmup_steps"
        )


@contextmanager
def naming_memory(config: Config, out: Path, step: int) -> Iterator[None]:
    """Turns an error of memory, of a GPU's or the machine's, into an InputError that names what needs less of it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            if "can't allocate memory" not in str(error):  # what torch says on a CPU
                raise
        t, size = config.train, f"{config.data.height} x {config.data.width}"
        found = checkpoint.checkpoints(out)
        after = f", from {found[-1].name}" if found else ""
        raise InputError(
            f"{out}: out of memory at step {step}, with train.batch_size={t.batch_size} images of {size} pixels over "
            f"all processes, and train.accumulate={t.accumulate}. Less is needed with {', or '.join(_savers(config))}, "
            "or with a smaller train.batch_size, more processes or another discriminator.backbone. train.accumulate "
            f"and discriminator.checkpointing change no result: a run may go on with them by --resume{after}"
        ) from error


def _savers(config: Config) -> list[str]:
    """Settings that need less memory than those that are set."""
    savers = [f"train.accumulate={2 * config.train.accumulate}"]
    if not config.train.bf16:
        savers.append("train.bf16=true")
    if config.discriminator.kind == "dp_sims" and not config.discriminator.checkpointing:
        savers.append("discriminator.checkpointing=true")
    return savers


@contextmanager
def naming_room(out: Path) -> Iterator[None]:
    """Turns what is raised where a disk, or a quota, is full into an InputError that says how to go on."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, InputError) as error:
        if not _is_full(error):
            raise
        found = checkpoint.checkpoints(out)
        whole = f"{found[-1]} is whole" if found else "there is no checkpoint yet"
        raise InputError(f"{out}: no room on the disk; {whole}. Make room, then go on with --resume") from error


def _is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is of a full disk: libraries have words of their own for it."""
    words = ("PytorchStreamWriter", "inline_container", "StorageFull", "FileTooLarge", "QuotaExceeded")
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if any(word in str(error) for word in words):
            return True
        error = error.__cause__ or error.__context__
    return False
