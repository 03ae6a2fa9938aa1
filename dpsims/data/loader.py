"""Batches from a prepared data set: which images a step sees, and how they are flipped.

Rare-class sampling is recalled of the paper: P(image) proportional to f_k^(-1/2), f_k the pixel frequency of the rarest
class in the image. A batch is a pure function of (seed, step): there is no loader state to save.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpsims import draws
from dpsims.config import Config
from dpsims.data.prepare import ensure_scenes
from dpsims.data.prepared import PreparedData, SplitArrays, load_prepared
from dpsims.errors import InputError
from dpsims.images import to_tensor, to_uint8  # noqa: F401  the notebooks take the second from here


@dataclass(frozen=True)
class Batch:
    """images (B, 3, H, W) float in [-1, 1], channels last in memory; labels (B, H, W) int64 ids; samples: global
    numbers."""

    images: Tensor
    labels: Tensor
    samples: range


def prepared_data(config: Config) -> PreparedData:
    """The data that a configuration names; Scenes are made in the cache when it names no folder.

    Raises:
        InputError: the folder is no prepared data set, is damaged or lacks a split, or its size, seed or classes are
            not the configuration's.
    """
    d = config.data
    if not d.path and d.dataset != "scenes":
        raise InputError(f"data.path: empty, but data set {d.dataset!r} must be prepared first; give --data DIR")
    path = Path(d.path) if d.path else ensure_scenes((d.height, d.width), n=d.num_images, seed=d.seed)
    data = load_prepared(path)
    there = {"seed": d.seed, **data.index}  # not all data are drawn by a seed
    other = [name for name in ("dataset", "num_classes", "seed") if there[name] != getattr(d, name)]
    other += [side for side in ("height", "width") if not _fits(there[side], getattr(d, side), d.crop)]
    if other:
        found = ", ".join(f"data.{name}={there[name]}" for name in other)
        asked = ", ".join(f"{getattr(d, name)}" for name in other)
        raise InputError(
            f"{path}: holds {found}, but the configuration asks for {asked}; --set it so, or give other --data"
        )
    for split in ("train", "val"):  # sample sheets need the second; it is not to be missed after hours
        data.pairs(split)
    return data


def _fits(prepared: int, wanted: int, crop: bool) -> bool:
    return prepared >= wanted if crop else prepared == wanted


def sampling_weights(rarest: np.ndarray, class_pixels: list[int]) -> np.ndarray:
    """Probability of each image, (N,) float64, proportional to f^(-1/2) of its rarest class (recalled).

    Args:
        rarest: (N,) id of the rarest class in each image; 0 where all is void, which counts as the most frequent class.
        class_pixels: K+1 counts over the data set, void first.
    """
    frequency = np.asarray(class_pixels, dtype=np.float64)
    frequency[0] = frequency[1:].max()
    weights = np.maximum(frequency, 1)[np.asarray(rarest)] ** -0.5
    return weights / weights.sum()


class TrainingBatches:
    """Draws training batches.

    Args:
        split: of the prepared data.
        class_pixels: K+1 counts over the split, void first.
        batch_size: images a step over all processes.
        seed: of all draws.
        rare_class_sampling: see `sampling_weights`; False draws uniformly.
        flip: horizontal flips with probability 1/2.
        size: (H, W) of the batches, at most that of the split: a part of larger images, elsewhere each time.
    """

    def __init__(
        self,
        split: SplitArrays,
        class_pixels: list[int],
        batch_size: int,
        seed: int,
        rare_class_sampling: bool,
        flip: bool,
        size: tuple[int, int],
    ) -> None:
        self.split, self.batch_size, self.seed, self.flip, self.size = split, batch_size, seed, flip, size
        count = len(split.labels)
        weights = sampling_weights(split.rarest, class_pixels) if rare_class_sampling else np.full(count, 1 / count)
        self.cumulative = np.cumsum(weights)

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The part of step `step`'s batch that process `rank` of `world` works on."""
        share = self.batch_size // world
        samples = range(rank * share, (rank + 1) * share)
        u = draws.uniform(self.seed, step, samples, draws.INDEX).double().numpy()
        index = np.searchsorted(self.cumulative, u, side="right").clip(max=len(self.cumulative) - 1)
        images, labels = self._read(index, step, samples)
        if self.flip:
            flips = draws.uniform(self.seed, step, samples, draws.FLIP).numpy() < 0.5
            for array in (images, labels):
                array[flips] = array[flips][:, :, ::-1]
        return Batch(to_tensor(images), torch.from_numpy(labels.astype(np.int64)), samples)

    def _read(self, index: np.ndarray, step: int, samples: range) -> tuple[np.ndarray, np.ndarray]:
        """Images and label maps of these numbers; of larger ones a part that each sample of each step draws."""
        whole = self.split.labels.shape[1:]
        if whole == self.size:
            return self.split.images[index], self.split.labels[index]
        offsets = [
            (draws.uniform(self.seed, step, samples, purpose).double().numpy() * (there - side + 1)).astype(int)
            for purpose, there, side in zip((draws.TOP, draws.LEFT), whole, self.size, strict=True)
        ]
        height, width = self.size
        corners = zip(index, *offsets, strict=True)
        parts = [(i, slice(y, y + height), slice(x, x + width)) for i, y, x in corners]
        return np.stack([self.split.images[p] for p in parts]), np.stack([self.split.labels[p] for p in parts])


class ReadAhead:
    """Batches of one step after the other: a thread reads the next one while the present one is worked on.

    Args:
        batches: what reads; called with the number of a step.
    """

    def __init__(self, batches: TrainingBatches) -> None:
        self.batches, self.pool = batches, ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self.step = -1  # of the next batch
        self.next: Future[Batch] | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of `step`, the same that `batches` gives."""
        batch = self.next.result() if self.next is not None and self.step == step else self.batches(step)
        self.step, self.next = step + 1, self.pool.submit(self.batches, step + 1)
        return batch


def middle(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of (N, H, W, ...) as a view of (N, *size, ...): all of it where it has that size."""
    top, left = ((whole - side) // 2 for whole, side in zip(array.shape[1:3], size, strict=True))
    return array[:, top : top + size[0], left : left + size[1]]


def in_order(split: SplitArrays, count: int, size: tuple[int, int], batch_size: int = 32) -> Iterator[Tensor]:
    """The middle of the first `count` images as (B, 3, H, W) in [-1, 1], in order, unflipped."""
    for start in range(0, min(count, len(split.images)), batch_size):
        yield to_tensor(middle(split.images[start : min(start + batch_size, count)], size))
