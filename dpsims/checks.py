"""Arguments that many functions take, checked in one place: seeds, devices, whole numbers, memory.

B batch, H and W height and width.
"""

import operator
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpsims.errors import InputError

MAX_SEED = 2**63 - 1


def as_seeds(given: Any, batch: int = 1) -> list[int]:
    """`batch` seeds given, given + 1, ...; or those of a sequence, as they are.

    Args:
        given: any integer (int, NumPy's, a tensor without dimensions) or a sequence, array or tensor (B,) of them.
        batch: how many, of a single one.

    Raises:
        InputError: anything else, none, or one outside 0..2^63-1.
    """
    single = isinstance(given, int) or getattr(given, "ndim", 1) == 0
    try:
        seeds = [operator.index(given) + b for b in range(batch)] if single else [operator.index(s) for s in given]
    except TypeError:
        raise InputError(f"seed: {_short(given)} is no integer and no sequence of integers; give such as 3") from None
    wrong = [seed for seed in seeds if not 0 <= seed <= MAX_SEED]
    if not seeds:
        raise InputError("seed: none given; give an integer, or one for every image")
    if wrong:
        following = f", with the {batch - 1} seeds that follow it" if single and batch > 1 else ""
        raise InputError(f"seed: {seeds[0] if single else wrong[0]} must lie in 0..2^63-1{following}")
    return seeds


def as_integers(given: Any, name: str) -> Tensor:
    """Label ids or regions, of any shape, as int64; raises InputError for what holds no integers (or booleans)."""
    if isinstance(given, Tensor):
        if given.is_floating_point() or given.is_complex():
            raise InputError(f"{name}: {given.dtype} values; give integers, such as {name}.long()")
        return given.long()
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        raise InputError(f"{name}: {_short(given)} is no array; give an array or a tensor of integers") from None
    if array.dtype.kind not in "iub":
        raise InputError(f"{name}: {array.dtype} values; give integers, such as {name}.astype('int64')")
    return torch.from_numpy(array.astype(np.int64))


def as_device(given: str | torch.device | None) -> torch.device:
    """The device; the GPU where there is one for None. Raises InputError for one that cannot compute here."""
    try:
        device = torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()  # the only question that every kind of device answers alike
    except (RuntimeError, AssertionError, TypeError):
        here = ", ".join(["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))])
        raise InputError(f"device: {_short(given)} cannot be used here; choose one of {here}") from None
    return device


def check_pool(images: int, size: int) -> None:
    """Raises InputError if uint8 images and labels, `size` pixels square, would not fit into the machine's memory."""
    needed, memory = images * size * size * 4, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise InputError(
            f"size: {images} images of {size} pixels need {needed / 2**30:.0f} GiB and this machine has "
            f"{memory / 2**30:.0f}; choose a smaller size or fewer images"
        )


def _short(value: Any) -> str:
    """`repr`, on one line and short enough for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
