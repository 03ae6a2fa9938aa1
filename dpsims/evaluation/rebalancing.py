"""Realism apart from coverage: weights under which generated images have the moods in the shares of the real ones.

A generator that lost a mood pays for it in every Fréchet distance, however well it draws the others, and the loss of
two of six hides all else. Here images are sorted by mood, as the evaluation network names it, for real and generated
alike. A mood counts if enough generated images show it (`LEAST_SHARE`). Then

    weight of a generated image of mood m = (real images of m) / (generated images of m), 0 where m does not count,
    weight of a real image = 1, 0 where its mood does not count,

and the distance is taken between these two weighted sets: over the moods that are drawn at all, each in its real share.
For a fair sampler that is the plain distance, but for the chance of shares. What it does not say is which moods are
missing: it is to be read beside them. It rests on fewer images than the plain distance, so it is a little larger where
moods are few: 85 of 500 real images are left beside a generator of one mood.
Standing: default of this project, made possible by moods that are known; the paper measures no such thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

LEAST_SHARE = 0.016  # of the generated images, and two of them: 8 of 500; a weight is not to rest on a stray image


@dataclass(frozen=True)
class Rebalanced:
    """The moods that count, and a weight for every image."""

    moods: list[str]
    real: Tensor  # (N,) float64, 0 or 1
    generated: Tensor  # (M,) float64, >= 0, of the same sum


def rebalance(real: Tensor, generated: Tensor, names: Sequence[str]) -> Rebalanced | None:
    """Weights for real and generated images of moods `real` (N,) and `generated` (M,), integers into `names`.

    Returns:
        None where no mood counts.
    """
    have = torch.bincount(generated.long(), minlength=len(names)).double()
    want = torch.bincount(real.long(), minlength=len(names)).double()
    counts = (have >= max(2, ceil(LEAST_SHARE * len(generated)))) & (want >= 2)
    if not bool(counts.any()):
        return None
    ratio = torch.where(counts, want / have.clamp_min(1), 0.0)
    moods = [name for name, counted in zip(names, counts.tolist(), strict=True) if counted]
    return Rebalanced(moods, counts[real.long()].double(), ratio[generated.long()])
