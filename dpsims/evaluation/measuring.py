"""Draws the images of one row, shows them to the networks, and hands what they saw to `figures.py`.

Several processes share out the batches of maps, not the maps of a batch: so each image is drawn beside the same others
as one process draws it, and the figures are the same to the bit, where the machine rounds alike. All end with the same
tables of all images, and with the same figures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from dpsims.data.prepared import PreparedData
from dpsims.errors import InputError
from dpsims.evaluation import diversity
from dpsims.evaluation.figures import Draws, Seen, coverage, fidelity, realism
from dpsims.evaluation.frechet import frechet_distance, moments
from dpsims.evaluation.references import Reference
from dpsims.evaluation.seeds import MAX_SAMPLES, sample_seed
from dpsims.evaluation.segmentation import SegmentationScore, pixel_counts
from dpsims.evaluation.texture import Standardiser, TextureFeatures
from dpsims.evaluation.unet import Judgement, Segmenter
from dpsims.images import channels_first, to_bytes
from dpsims.processes import Processes


@dataclass(frozen=True)
class Protocol:
    """How much is drawn. Two results compare only where this, the data and the evaluation network are the same."""

    max_maps: int | None = None  # the first so many maps of "val"; None: all
    samples_per_map: int = 6  # draws of each map that diversity is measured on
    diversity_maps: int = 50  # the first so many maps, for diversity
    seed: int = 0  # of all draws; see `sample_seed`
    batch_size: int = 32  # maps at once; changes nothing but speed and memory

    def __post_init__(self) -> None:
        lowest = {"max_maps": 4, "samples_per_map": 2, "diversity_maps": 1, "seed": 0, "batch_size": 1}
        for name, bound in lowest.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise InputError(f"evaluation: {name} is {value}; give at least {bound}")
        if self.samples_per_map > MAX_SAMPLES:
            raise InputError(f"evaluation: samples_per_map is {self.samples_per_map}; give at most {MAX_SAMPLES}")

    def count(self, data: PreparedData) -> int:
        """Number of maps of `data` that are drawn."""
        available = len(data.split("val").labels)
        if available < 4:  # two halves of two: the least that has a covariance
            more = "--n-val" if data.index["dataset"] == "scenes" else "more held-out pairs, or a larger --limit"
            raise InputError(f"{data.path}: has {available} held-out image(s); prepare it with at least 4 ({more})")
        return available if self.max_maps is None else min(self.max_maps, available)


class Yardstick:
    """What all rows are measured by: the data, the two networks and what they see in the real images.

    Args:
        data: prepared data; split "val" is what is compared with.
        evaluator: from `load_evaluator`, trained at the size of the data.
        protocol: how much is drawn.
        processes: that share the work, each with a yardstick of its own; None: this one does it all.

    Raises:
        InputError: an evaluation network of another size, other classes or another data set; a held-out split without
            photographs or with fewer than four.
    """

    def __init__(
        self, data: PreparedData, evaluator: Segmenter, protocol: Protocol, processes: Processes | None = None
    ) -> None:
        self.data, self.evaluator, self.protocol = data, evaluator, protocol
        self.processes = processes or Processes()
        self.names = data.space.names[1:]
        self.arrays = data.pairs("val")
        _check_evaluator(evaluator, data)
        self.count = protocol.count(data)
        self.texture = TextureFeatures(evaluator.feature_mean.device)

    @cached_property
    def real(self) -> Seen:
        """What the networks see in the real images, its texture features as they are: `standardise` is made of them."""
        seen = self._nothing(self.count)
        for some in self._share(self.count):
            seen.put(some, self._see(channels_first(self.arrays.images[some.start : some.stop]))[1])
        return seen.gathered(self.processes)

    @cached_property
    def standardise(self) -> Standardiser:
        """Of texture features."""
        return Standardiser(self.real.texture)

    def _share(self, count: int) -> Sequence[range]:
        """Batches of 0..count-1 for this process."""
        return self.processes.share(list(_batches(range(count), self.protocol)))

    def _nothing(self, count: int) -> Seen:
        return Seen.nothing(count, self.evaluator.num_features, self.texture.num_features, bool(self.evaluator.moods))

    def _see(self, images: Tensor) -> tuple[Judgement, Seen]:
        judged = self.evaluator.judge(images)
        return judged, Seen(judged.features.cpu(), self.texture(images), _predicted(judged))

    def measure(self, row: Reference, progress: bool = True) -> dict:
        """The figures of one row, the same in all processes; see `protocol.evaluate`."""
        progress = progress and self.processes.main
        labels = self.data.split(row.split).labels[row.maps.start : row.maps.stop]
        draws = min(self.protocol.samples_per_map, row.draws)
        diverse = min(self.protocol.diversity_maps, len(labels)) if draws > 1 else 0
        mine = sum(map(len, self._share(len(labels)))) + len(self.processes.share(range(diverse))) * (draws - 1)
        with tqdm(total=mine, desc=row.name, unit="image", disable=not progress) as bar:
            score, seen, first_draws = self._first_draws(row, labels, bar)
            spread = self._spread(row, labels, first_draws[:diverse], seen.moods, draws, bar)
        known = self.evaluator.moods and self.data.split(row.split).moods is not None
        moods = self.evaluator.moods if known else None
        return {
            **realism(self._standard(self.real), self._standard(seen), moods, progress),
            **fidelity(score, self.names),
            **coverage(spread, seen.moods, moods),
            "num_images": len(labels),
            "num_maps_diversity": diverse,
        }

    def frechet(self, row: Reference) -> float:
        """The Fréchet distance alone, the same in all processes: without intervals, cheap enough for a training."""
        labels = self.data.split(row.split).labels[row.maps.start : row.maps.stop]
        mine, quiet = sum(map(len, self._share(len(labels)))), not self.processes.main
        with tqdm(total=mine, desc=row.name, unit="image", leave=False, delay=5, disable=quiet) as bar:
            _, seen, _ = self._first_draws(row, labels, bar)
        return frechet_distance(moments(self.real.features), moments(seen.features))

    def _standard(self, seen: Seen) -> Seen:
        return replace(seen, texture=self.standardise(seen.texture))

    def _first_draws(self, row: Reference, labels: np.ndarray, bar: tqdm) -> tuple[SegmentationScore, Seen, Tensor]:
        """One image of every map: its pixels scored, what the networks see, and the first images themselves."""
        count, classes = len(labels), self.evaluator.num_classes
        seen, pixels = self._nothing(count), torch.zeros(count, 3, classes, dtype=torch.long)
        kept = torch.zeros(min(self.protocol.diversity_maps, count), 3, *labels.shape[1:], dtype=torch.uint8)
        for some in self._share(count):
            chunk = torch.from_numpy(labels[some.start : some.stop].astype(np.int64))
            images = self._draw(row, chunk, [(j, 0) for j in some])
            judged, of_chunk = self._see(images)
            seen.put(some, of_chunk)
            pixels[some.start : some.stop] = pixel_counts(judged.classes.argmax(1).cpu(), chunk, classes)
            kept[some.start : some.stop] = images[: max(0, len(kept) - some.start)]
            bar.update(len(some))
        score = SegmentationScore(classes)
        score.add(self.processes.table(pixels))
        return score, seen.gathered(self.processes), self.processes.table(kept)

    def _spread(
        self, row: Reference, labels: np.ndarray, first_draws: Tensor, moods: Tensor | None, draws: int, bar: tqdm
    ) -> Draws:
        """Draws the maps of `first_draws` (D,3,H,W) again, `draws` in all; `moods` (N,) are those of the first."""
        l1 = torch.zeros(len(first_draws), dtype=torch.float64)
        shown = torch.zeros(len(first_draws), draws, dtype=torch.long)  # moods
        for j in self.processes.share(range(len(first_draws))):
            more = []
            for some in _batches(range(1, draws), self.protocol):
                chunk = torch.from_numpy(labels[j].astype(np.int64)).expand(len(some), -1, -1)
                more.append(self._draw(row, chunk, [(j, draw) for draw in some]))
                bar.update(len(some))
            drawn = torch.cat(more)
            l1[j] = diversity.pairwise_l1(torch.cat([first_draws[j : j + 1], drawn]))
            if moods is not None:
                shown[j] = torch.cat([moods[j : j + 1], _predicted(self.evaluator.judge(drawn))])
        l1, shown = self.processes.table(l1), self.processes.table(shown)
        return Draws(l1.tolist(), [] if moods is None else [diversity.distinct_in_draws(of_map) for of_map in shown])

    @torch.inference_mode()
    def _draw(self, row: Reference, labels: Tensor, keys: list[tuple[int, int]]) -> Tensor:
        """Images (B,3,H,W) uint8 on the CPU of labels (B,H,W); keys: (map, draw) of each."""
        images = row.synthesise(labels, [sample_seed(self.protocol.seed, j, draw) for j, draw in keys])
        expected = (len(labels), 3, *labels.shape[1:])
        if tuple(images.shape) != expected:
            raise ValueError(
                f"{row.name}: images of shape {tuple(images.shape)} for {len(labels)} maps, not {expected}"
            )
        if not bool(torch.isfinite(images).all()):
            raise ValueError(f"{row.name}: images with values that are not finite; nothing can be measured")
        return to_bytes(images).cpu()


def _predicted(judged: Judgement) -> Tensor | None:
    return None if judged.moods is None else judged.moods.argmax(1).cpu()


def _check_evaluator(evaluator: Segmenter, data: PreparedData) -> None:
    """Raises InputError unless the network was trained on this data set, at this size."""
    dataset, size, names = data.index["dataset"], (data.index["height"], data.index["width"]), data.space.names[1:]
    differ = []
    if evaluator.dataset != dataset:
        differ.append(f"on {evaluator.dataset}, and these are {dataset}")
    if evaluator.num_classes != len(names):
        differ.append(f"for {evaluator.num_classes} classes, and these have {len(names)}")
    elif evaluator.names != names:
        k = next(k for k, pair in enumerate(zip(evaluator.names, names, strict=True)) if pair[0] != pair[1])
        differ.append(f"where class {k + 1} is {evaluator.names[k]!r}, which is {names[k]!r} here")
    if (evaluator.height, evaluator.width) != size:
        differ.append(f"at {evaluator.height} x {evaluator.width} pixels, and these have {size[0]} x {size[1]}")
    if differ:
        of = f"--size {size[0]}" if dataset == "scenes" and size[0] == size[1] else f"--data {data.path}"
        raise InputError(
            f"{data.path}: the evaluation network was trained {'; '.join(differ)}. Train one for these data (dpsims "
            f"train-evaluators {of} --out DIR) and give it as --evaluator DIR"
        )


def _batches(numbers: range, protocol: Protocol) -> Iterator[range]:
    for first in range(0, len(numbers), protocol.batch_size):
        yield numbers[first : first + protocol.batch_size]
