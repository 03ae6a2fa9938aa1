"""What ends a training before its time: a loss that is no number, or a generator that can no longer learn."""

import math
from pathlib import Path

from torch import Tensor

from dpsims import checkpoint
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
