"""Which sizes data are drawn and prepared at."""

import numpy as np

from dpsims.errors import InputError

MIN_SIDE, MAX_SIDE = 16, 512  # pixels: what the scenes are drawn for, and what fits into memory
MAX_ASPECT = 4


def checked_size(size: int | tuple[int, int], what: str, largest: int | None = MAX_SIDE) -> tuple[int, int]:
    """Height and width in pixels from a side or a pair.

    Args:
        size: side, or (height, width).
        what: the data, named in the error.
        largest: side; None where what is made is not kept.

    Raises:
        InputError: a side below 16 or above `largest`, or one over 4 times the other.
    """
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    short, long = sorted((height, width))
    if short < MIN_SIDE or long > MAX_ASPECT * short or (largest is not None and long > largest):
        sides = f"{MIN_SIDE} or more" if largest is None else f"{MIN_SIDE} to {largest}"
        raise InputError(
            f"{what}: {height} x {width} pixels; give sides of {sides}, none over {MAX_ASPECT} times the other"
        )
    return int(height), int(width)
