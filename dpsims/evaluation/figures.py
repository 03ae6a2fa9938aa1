"""The figures of one row, and their intervals, from what the networks saw in its images.

N images, F and T features of the two networks, K classes, D maps that were drawn several times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from dpsims.evaluation import diversity
from dpsims.evaluation.frechet import effective_size, frechet_distance, moments
from dpsims.evaluation.intervals import FEWEST, halves, interval
from dpsims.evaluation.rebalancing import counted_moods, mood_weights
from dpsims.evaluation.segmentation import SegmentationScore, class_iou
from dpsims.processes import Processes


@dataclass(frozen=True)
class Seen:
    """What the networks say of the N images of a set."""

    features: Tensor  # (N,F) of the evaluation network, standardised
    texture: Tensor  # (N,T) of the texture-world network
    moods: Tensor | None  # (N,) predicted; None: by a network that knows none

    @classmethod
    def nothing(cls, count: int, features: int, texture: int, moods: bool) -> Self:
        """Of `count` images that are still to be seen: zeros, to be filled by `put`."""
        numbers = torch.zeros(count, dtype=torch.long) if moods else None
        return cls(torch.zeros(count, features), torch.zeros(count, texture), numbers)

    def put(self, some: range, part: Self) -> None:
        """Fills in what is seen in images `some`."""
        for mine, seen in zip(self._tables(), part._tables(), strict=True):
            mine[some.start : some.stop] = seen

    def gathered(self, processes: Processes) -> Self:
        """With what the other processes have put in."""
        moods = None if self.moods is None else processes.table(self.moods)
        return type(self)(processes.table(self.features), processes.table(self.texture), moods)

    def _tables(self) -> list[Tensor]:
        return [x for x in (self.features, self.texture, self.moods) if x is not None]


@dataclass(frozen=True)
class Draws:
    """What several draws of the same map differ by; of no maps where there is one image a map."""

    l1: list[float]  # of each of D maps
    distinct: list[float | None]  # moods in six draws


def realism(real: Seen, generated: Seen, moods: Sequence[str] | None, progress: bool = False) -> dict:
    """The three Fréchet distances with their intervals, and what the re-balanced one rests on.

    Args:
        real, generated: the two sets; of the same length, image i of one belongs to image i of the other.
        moods: names; None: the data have none, and nothing is re-balanced.
        progress: show a bar where it takes longer than five seconds.

    Returns:
        `frechet`, `frechet_texture`, `frechet_rebalanced`, each with `<name>_interval`, `rebalanced_moods`, and
        `rebalanced_images`: effective numbers of real and generated images. None where moods are not to be had.
    """
    counted = None if moods is None else counted_moods(real.moods, generated.moods) or None
    fewest = min(len(real.features), len(generated.features))
    # the same permutations for the same count: images of one map stay together
    both = (halves(len(seen.features)) for seen in (real, generated))
    pairs = list(zip(*both, strict=True)) if fewest >= FEWEST else []
    found: dict = {}
    with tqdm(total=3 * len(pairs), desc="intervals", unit="half", delay=5, leave=False, disable=not progress) as bar:
        for name, of_real, of_generated, among in (
            ("frechet", real.features, generated.features, None),
            ("frechet_texture", real.texture, generated.texture, None),
            ("frechet_rebalanced", real.features, generated.features, counted),
        ):
            if name == "frechet_rebalanced" and counted is None:
                found |= {name: None, f"{name}_interval": None}
                continue
            distance = _distance(replace(real, features=of_real), replace(generated, features=of_generated), among)
            found[name] = value = distance(np.arange(len(of_real)), np.arange(len(of_generated)))
            on_halves = []
            for half_of_real, half_of_generated in pairs:
                on_halves.append(distance(half_of_real, half_of_generated))
                bar.update()
            found[f"{name}_interval"] = interval(value, on_halves)
    if moods is None or counted is None:
        return found | {"rebalanced_moods": None, "rebalanced_images": None}
    weights = mood_weights(real.moods, generated.moods, counted)
    return found | {
        "rebalanced_moods": [moods[i] for i in counted],
        "rebalanced_images": [round(effective_size(w), 1) for w in weights],
    }


def _distance(real: Seen, generated: Seen, counted: Sequence[int] | None) -> Callable[[np.ndarray, np.ndarray], float]:
    """The distance, in `features`, between some real and some generated images; NaN where too few of them count.

    Args:
        real, generated: the two sets.
        counted: re-balance these moods, with weights from the images chosen; None: all images weigh the same.
    """

    def distance(some_real: np.ndarray, some_generated: np.ndarray) -> float:
        i, j = torch.from_numpy(some_real), torch.from_numpy(some_generated)
        if counted is None:
            of_real, of_generated = torch.ones(len(i)), torch.ones(len(j))
        else:
            of_real, of_generated = mood_weights(real.moods[i], generated.moods[j], counted)
        if min(effective_size(of_real), effective_size(of_generated)) < 2 - 1e-9:
            return float("nan")
        return frechet_distance(moments(real.features[i], of_real), moments(generated.features[j], of_generated))

    return distance


def fidelity(score: SegmentationScore, names: Sequence[str]) -> dict:
    """`miou` with its interval, `pixel_accuracy`, `iou` by class name."""
    result, counts = score.result(), score.counts
    on_halves = [float(class_iou(counts[half].sum(0)).nanmean()) for half in halves(len(counts))]
    return {
        "miou": result["miou"],
        "miou_interval": interval(result["miou"], on_halves, highest=1.0),
        "pixel_accuracy": result["pixel_accuracy"],
        "iou": dict(zip(names, result["iou"], strict=True)),
    }


def coverage(draws: Draws, predicted: Tensor | None, moods: Sequence[str] | None) -> dict:
    """`diversity_l1` with its interval (None of no draws), `mood_shares` and `moods_per_six` (None without moods)."""
    l1 = np.array(draws.l1)
    known = [d for d in draws.distinct if d is not None]
    on_halves = [l1[half].mean() for half in halves(len(l1))] if len(l1) > 1 else []
    mean = float(l1.mean()) if len(l1) else None
    return {
        "diversity_l1": mean,
        "diversity_l1_interval": interval(mean, on_halves, highest=1.0),
        "mood_shares": diversity.mood_shares(predicted, moods) if moods else None,
        "moods_per_six": float(np.mean(known)) if known and moods else None,
    }
