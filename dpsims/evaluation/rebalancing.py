"""Realism apart from coverage: weights under which generated images have the moods in the shares of the real ones.

A generator that lost a mood pays for it in every Fréchet distance, however well it draws the others, and the loss of
two of six hides all else. Here images are sorted by mood, as the evaluation network names it, for real and generated
alike. A mood counts if enough generated images show it (`LEAST_SHARE`), and two real ones. Then

    weight of a generated image of mood m = (real images of m) / (generated images of m), 0 where m does not count,
    weight of a real image = 1, 0 where its mood does not count,

and the distance is taken between these two weighted sets: over the moods that are drawn at all, each in its real share.
For a fair sampler that is the plain distance, but for the chance of shares. What it does not say is which moods are
missing: it is to be read beside them. It rests on fewer images than the plain distance, so it is a little larger where
moods are few: 85 of 500 real images are left beside a generator of one mood.
Standing: default of this project, made possible by moods that are known; the paper measures no such thing.
"""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor

LEAST_SHARE = 0.016  # of the generated images, and two of them: 8 of 500; a weight is not to rest on a stray image


def counted_moods(real: Tensor, generated: Tensor) -> list[int]:
    """The moods that count, of real images (N,) and generated ones (M,) whose moods are integers; in order."""
    have, want = _histograms(real, generated)
    enough = (have >= max(2, ceil(LEAST_SHARE * len(generated)))) & (want >= 2)
    return enough.nonzero().flatten().tolist()


def mood_weights(real: Tensor, generated: Tensor, moods: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Weights of real (N,) and of generated images (M,), float64, of the same sum.

    Args:
        real, generated: moods of the images, integers.
        moods: those that count; one that either side lacks here, as some halves do, counts no more than the others.
    """
    have, want = _histograms(real, generated)
    counts = torch.isin(torch.arange(len(have)), torch.tensor(moods, dtype=torch.long)) & (have > 0) & (want > 0)
    ratio = torch.where(counts, want / have.clamp_min(1), 0.0)
    return counts[real.long()].double(), ratio[generated.long()]


def _histograms(real: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
    """How often each mood is generated, and how often it is real."""
    count = 1 + int(max(real.max(), generated.max()))
    have, want = (torch.bincount(moods.long(), minlength=count).double() for moods in (generated, real))
    return have, want
