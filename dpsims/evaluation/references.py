"""Rows that a generator's figures are read beside: what real images, and images of a trivial kind, score.

A distance has no unit: "30" says nothing until one knows that a perfect sampler has 5, a slight blur 50 and flat
colours 60. Each row is a `synthesise(labels, seeds) -> images` as a generator is, so that all go through the same code.
Standing: default of this project (the paper compares with other methods instead).

Shapes: B maps, N maps of the split, H and W pixels, K classes, M moods. Images (B,3,H,W) float in [-1,1].
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn import functional

from dpsims.data import scenes
from dpsims.data.prepared import PreparedData
from dpsims.errors import InputError
from dpsims.evaluation.seeds import MAX_SAMPLES, map_and_draw
from dpsims.images import to_tensor

Synthesise = Callable[[Tensor, list[int]], Tensor]  # labels (B,H,W) int64, a seed per map -> (B,3,H,W) in [-1,1]
ONE_MOOD = "day"


@dataclass(frozen=True)
class Reference:
    """One row: what draws the images, and of which label maps."""

    name: str
    meaning: str
    synthesise: Synthesise
    maps: range  # which label maps of the split are drawn
    split: str = "val"  # whose label maps
    draws: int = MAX_SAMPLES  # images of a map that there are at most


def places(seeds: list[int]) -> np.ndarray:
    """Positions (B,) in the split of the maps that the seeds were made for.

    The seed tells what the map itself could not: two photographs may have the same label map.
    """
    return np.array([map_and_draw(seed)[0] for seed in seeds])


def mean_colours(images: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Mean colour of every id: images (N,H,W,3) uint8, labels (N,H,W) -> (K+1,3) float in 0..255, NaN if absent."""
    sums, counts = np.zeros((num_classes + 1, 3)), np.zeros(num_classes + 1)
    for first in range(0, len(labels), 256):  # the arrays are memory maps: never read them whole
        ids, pixels = labels[first : first + 256].ravel(), images[first : first + 256].reshape(-1, 3)
        counts += np.bincount(ids, minlength=num_classes + 1)
        for channel in range(3):
            sums[:, channel] += np.bincount(ids, weights=pixels[:, channel], minlength=num_classes + 1)
    with np.errstate(invalid="ignore"):
        return sums / counts[:, None]


def colour_by_class(data: PreparedData) -> Synthesise:
    """Every class in its mean colour over the training split (absent ones, and void if absent: mid-grey)."""
    train = data.pairs("train")
    table = np.nan_to_num(mean_colours(train.images, train.labels, data.index["num_classes"]), nan=127.5)

    def synthesise(labels: Tensor, seeds: list[int]) -> Tensor:
        return to_tensor(table[labels.cpu().numpy()])

    return synthesise


def colour_by_class_and_mood(data: PreparedData) -> Synthesise:
    """Every class in its mean colour in one mood, drawn uniformly by the seed: right colours and moods, no texture."""
    train, num_classes = data.pairs("train"), data.index["num_classes"]
    overall = np.nan_to_num(mean_colours(train.images, train.labels, num_classes), nan=127.5)
    tables = []
    for mood in range(len(scenes.MOODS)):
        chosen = np.flatnonzero(train.moods == mood)
        table = mean_colours(train.images[chosen], train.labels[chosen], num_classes)
        tables.append(np.where(np.isnan(table), overall, table))

    def synthesise(labels: Tensor, seeds: list[int]) -> Tensor:
        ids = labels.cpu().numpy()
        images = np.stack([tables[m][i] for m, i in zip(draw_moods(seeds), ids, strict=True)])
        return to_tensor(images)

    return synthesise


def draw_moods(seeds: list[int]) -> np.ndarray:
    """One mood (B,) for every seed, uniform."""
    return np.array([np.random.default_rng(seed).integers(len(scenes.MOODS)) for seed in seeds])


def same_image(data: PreparedData, split: str = "val") -> Synthesise:
    """The real image of the map itself; see `places`."""
    images = data.pairs(split).images
    return lambda labels, seeds: to_tensor(images[places(seeds)])


def blurred(data: PreparedData) -> Synthesise:
    """The real image under a 3x3 box blur."""
    real = same_image(data)
    return lambda labels, seeds: functional.avg_pool2d(
        functional.pad(real(labels, seeds), (1, 1, 1, 1), mode="replicate"), 3, stride=1
    )


def redrawn(data: PreparedData, mood: str | None = None) -> Synthesise:
    """The map's own scene drawn again by `scenes.render`: in a mood drawn by the seed, or always in the same one.

    In drawn moods this *is* p(image | map), sampled perfectly: no generator can do better but by chance.
    """
    index, size = data.index, (data.index["height"], data.index["width"])

    def synthesise(labels: Tensor, seeds: list[int]) -> Tensor:
        moods = draw_moods(seeds) if mood is None else np.full(len(seeds), scenes.MOODS.index(mood))
        batch = scenes.render(places(seeds), size, seed=index["seed"], split="val", moods=moods)
        if not np.array_equal(batch.labels, labels.cpu().numpy()):
            raise InputError(
                f"{data.path}: holds other label maps than Scenes of seed {index['seed']} draws; prepare it anew"
            )
        return to_tensor(batch.images)

    return synthesise


def rows_for(data: PreparedData, count: int) -> list[Reference]:
    """All rows that this data set allows, for evaluations on the first `count` maps of "val"."""
    table: list[tuple[str, str, Synthesise]] = [
        ("real", "the very images of the held-out maps", same_image(data)),
        ("blur_3x3", "held-out images under a 3x3 box blur", blurred(data)),
        ("class_mean", "every class in its mean training colour", colour_by_class(data)),
    ]
    if data.split("train").moods is not None:
        meaning = "every class in its mean training colour in a mood drawn by the seed"
        table.append(("class_mood_mean", meaning, colour_by_class_and_mood(data)))
    if data.index["dataset"] == "scenes" and isinstance(data.index.get("seed"), int):
        table += [
            ("redrawn", "the held-out maps drawn again in moods drawn by the seed: a perfect sampler", redrawn(data)),
            ("one_mood", f"the held-out maps drawn again, all in mood {ONE_MOOD}", redrawn(data, ONE_MOOD)),
        ]
    rows = [Reference(name, meaning, synthesise, range(count)) for name, meaning, synthesise in table]
    train = "training images on their own maps, against held-out images"
    train_maps = range(min(count, len(data.split("train").labels)))
    if len(train_maps) >= 4:  # as many as `Protocol.count` asks of the held-out split: fewer have no covariance
        rows.append(Reference("train", train, same_image(data, "train"), train_maps, split="train"))
    return rows
