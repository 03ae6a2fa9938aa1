"""How much the images of one label map differ, and which moods they show.

Fidelity hides a generator that always draws the same image. Scenes know the truth: the mood is not in the label map
and uniform over six, so the same maps re-rendered in random moods say what the figures should be.
Standing: default of this project; the paper reports LPIPS between samples, whose weights cannot be had offline.
"""

from collections.abc import Sequence
from math import comb

import torch
from torch import Tensor


def pairwise_l1(samples: Tensor) -> float:
    """Mean absolute difference over all pairs of the S samples (S,3,H,W) uint8 of one map, in [0,1] (1 = 255 levels).

    Raises:
        ValueError: fewer than two samples.
    """
    count = len(samples)
    if count < 2:
        raise ValueError(f"{count} sample(s): a pair is needed")
    pixels = samples.reshape(count, -1).float() / 255
    return float(torch.pdist(pixels, p=1).mean()) / pixels.shape[1]


def mood_shares(predicted: Tensor, names: Sequence[str]) -> dict[str, float]:
    """Share of the images that the mood head gives to each mood; `predicted` (N,) integers into `names`."""
    counts = torch.bincount(predicted.cpu().long(), minlength=len(names)).double()
    return {name: float(share) for name, share in zip(names, counts / counts.sum(), strict=True)}


def distinct_in_draws(predicted: Tensor, draws: int = 6) -> float | None:
    """Expected number of distinct moods in `draws` of the S samples of one map, drawn without replacement.

    Args:
        predicted: (S,) moods of the samples. With S = `draws` the result is simply the number of distinct values.

    Returns:
        A value in 1..draws; None where S < draws. Six fair draws of six moods: 6 (1 - (5/6)^6) = 3.99.
    """
    total = len(predicted)
    if total < draws:
        return None
    counts = torch.bincount(predicted.cpu().long()).tolist()
    return sum(1 - comb(total - n, draws) / comb(total, draws) for n in counts)
