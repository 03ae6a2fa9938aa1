"""Scenes: the procedural data set that the project carries with it. Label maps of 12 classes, four layouts, six moods.

The mood (day, sunset, night, ...) is *not* in the label map. Since one layout can be shown in every mood, the
distribution of images given a map is known exactly, which no real data set offers: a true reference for diversity.

Every image is a pure function of (seed, split, index) and, when asked for, the mood: it does not matter in which
order or in which company images are made, nor on which machine (see `painting` for how).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dpsims.data.painting import TONES, Canvas, Draws
from dpsims.data.scene_objects import paint_building, paint_tree
from dpsims.data.scene_palette import CLASSES, LABEL_OF, MATERIAL, MOODS, Style, colour_table, veil_tables
from dpsims.data.scenery import (
    paint_flowers,
    paint_grass,
    paint_lake,
    paint_mountains,
    paint_road,
    paint_sea,
    paint_sky,
)
from dpsims.data.sizes import checked_size
from dpsims.errors import InputError

__all__ = ["CLASSES", "LAYOUTS", "MOODS", "SPLITS", "VERSION", "SceneBatch", "render", "render_moods"]

VERSION = 1  # one more whenever a pixel changes: what was trained on another version cannot be compared

LAYOUTS = ("country", "beach", "city", "lake")
SPLITS = ("train", "val", "evaluator")
SUPERSAMPLE = 2  # canvas pixels along a side of an image's; `_Scene.labels` and `_Scene.image` reduce blocks of 2x2


class SceneBatch(NamedTuple):
    """B images with their label maps."""

    images: np.ndarray  # (B, H, W, 3) uint8, RGB
    labels: np.ndarray  # (B, H, W) uint8, 1..12 in the order of CLASSES; void (0) does not occur
    moods: np.ndarray  # (B,) uint8, number in MOODS
    layouts: np.ndarray  # (B,) uint8, number in LAYOUTS


def render(
    indices: Sequence[int] | np.ndarray,
    size: int | tuple[int, int],
    *,
    seed: int = 0,
    split: str = "train",
    moods: Sequence[int] | np.ndarray | int | None = None,
) -> SceneBatch:
    """Draw scenes at twice the size, and reduce: images by the mean of each 2x2 block, labels by its majority.

    Args:
        indices: number of each image, 0 <= index < 2**56.
        size: side, or (height, width), in pixels; 64 to 512 looks right, 16 is the least.
        seed: of the data set, 0 <= seed < 2**64.
        split: "train", "val" or "evaluator"; no two of them share an image.
        moods: numbers in MOODS, one for all images or one for each; None draws them uniformly from the image's key.

    Returns:
        SceneBatch of B = len(indices) images.

    Raises:
        InputError: an argument is out of range.
    """
    height, width = checked_size(size, "scenes", largest=None)
    numbers = [int(index) for index in indices]
    _check(numbers, seed, split)
    chosen = _checked_moods(moods, len(numbers))
    batch = _empty(len(numbers), height, width)
    for place, index in enumerate(numbers):
        scene = _Scene(index, height, width, seed, split)
        mood = scene.mood if chosen is None else chosen[place]
        batch.images[place], batch.labels[place] = scene.image(mood), scene.labels()
        batch.moods[place], batch.layouts[place] = mood, scene.layout
    return batch


def render_moods(index: int, size: int | tuple[int, int], *, seed: int = 0, split: str = "train") -> SceneBatch:
    """One scene in all six moods, in the order of MOODS; the six label maps are the same.

    Arguments and errors as in `render`; faster than six calls of it.
    """
    height, width = checked_size(size, "scenes", largest=None)
    _check([int(index)], seed, split)
    batch = _empty(len(MOODS), height, width)
    scene = _Scene(int(index), height, width, seed, split)
    for mood in range(len(MOODS)):
        batch.images[mood] = scene.image(mood)
    batch.labels[:], batch.moods[:], batch.layouts[:] = scene.labels(), np.arange(len(MOODS)), scene.layout
    return batch


def _empty(count: int, height: int, width: int) -> SceneBatch:
    return SceneBatch(
        np.empty((count, height, width, 3), np.uint8),
        np.empty((count, height, width), np.uint8),
        np.empty(count, np.uint8),
        np.empty(count, np.uint8),
    )


def _check(indices: list[int], seed: int, split: str) -> None:
    if split not in SPLITS:
        raise InputError(f"scenes split {split!r}: use one of {', '.join(SPLITS)}")
    if not 0 <= seed < 2**64:
        raise InputError(f"scenes seed {seed}: use 0 <= seed < 2**64")
    if indices and not 0 <= min(indices) <= max(indices) < 2**56:
        raise InputError(f"scenes index {min(indices)} to {max(indices)}: use 0 <= index < 2**56")


def _checked_moods(moods: Sequence[int] | np.ndarray | int | None, count: int) -> list[int] | None:
    if moods is None:
        return None
    chosen = [int(moods)] * count if isinstance(moods, int | np.integer) else [int(mood) for mood in moods]
    if len(chosen) != count or not all(0 <= mood < len(MOODS) for mood in chosen):
        raise InputError(
            f"scenes moods {moods}: give one, or one for each of {count} images, each from 0 to {len(MOODS) - 1}"
        )
    return chosen


class _Scene:
    """One painted scene, ready to be shown in any mood."""

    def __init__(self, index: int, height: int, width: int, seed: int, split: str) -> None:
        draws = Draws((seed, (SPLITS.index(split) << 56) | index))
        self.mood = draws.integer(0, len(MOODS))
        self.layout = draws.integer(0, len(LAYOUTS))
        self.style = Style(draws)
        self.canvas = Canvas(height * SUPERSAMPLE, width * SUPERSAMPLE, draws.table)
        _Painter(self.canvas, draws).paint(LAYOUTS[self.layout])

    def labels(self) -> np.ndarray:
        """(H, W) uint8 class ids, the majority of each block; of two equal halves the upper or left one."""
        ids = LABEL_OF[self.canvas.material]
        a, b, c, d = ids[0::2, 0::2], ids[0::2, 1::2], ids[1::2, 0::2], ids[1::2, 1::2]
        return np.where((a == b) | (a == c) | (a == d), a, np.where((b == c) | (b == d), b, np.where(c == d, c, a)))

    def image(self, mood: int) -> np.ndarray:
        """(H, W, 3) uint8 in one of the six moods, the mean of each block."""
        colours = self.colours(mood)
        rows = colours[:, 0::2] + colours[:, 1::2]
        colours = (rows[:, :, 0::2] + rows[:, :, 1::2] + np.uint16(2)) >> np.uint16(2)
        return colours.astype(np.uint8).transpose(1, 2, 0)

    def colours(self, mood: int) -> np.ndarray:
        """(3, 2H, 2W) uint16 in 0..255: the canvas in one of the six moods."""
        canvas = self.canvas
        colours = np.take(
            colour_table(self.style, mood), canvas.material.astype(np.int32) * TONES + canvas.tone, axis=1
        )
        veil_colour, strength = veil_tables(mood)
        veil = canvas.veil.astype(np.uint16) * np.take(strength, canvas.material) >> np.uint16(8)  # 0..255
        colours *= np.uint16(256) - veil
        veiled = np.take(veil_colour, canvas.material, axis=1)
        veiled *= veil
        colours += veiled  # at most 255 * 256: fits
        colours >>= np.uint16(8)
        return colours


class _Painter:
    """Puts the things of a layout on the canvas, from far to near."""

    def __init__(self, canvas: Canvas, draws: Draws) -> None:
        self.canvas, self.draws = canvas, draws
        self.aspect = canvas.width * canvas.pixel
        self.horizon = draws.uniform(0.40, 0.54)
        self.sun = (
            self.aspect * draws.uniform(0.12, 0.88),
            draws.uniform(0.09, self.horizon - 0.12),
            draws.uniform(0.05, 0.075),
        )
        self.light = min(max((self.sun[0] / self.aspect - 0.5) * 4, -1.0), 1.0)
        self.vanishing = self.aspect * draws.uniform(0.35, 0.65)

    def paint(self, layout: str) -> None:
        """Paint one of LAYOUTS."""
        draws = self.draws
        clouds = draws.uniform(0.42, 0.68)
        paint_sky(self.canvas, draws, self.horizon, self.sun, clouds)
        {"country": self._country, "beach": self._beach, "city": self._city, "lake": self._lake}[layout]()

    def _mountains(self, chance: float) -> None:
        draws = self.draws
        if draws.chance(chance):
            paint_mountains(self.canvas, draws, self.horizon, draws.uniform(0.2, 0.36), "far_rock", 0.4, self.light)
        if draws.chance(chance):
            paint_mountains(self.canvas, draws, self.horizon, draws.uniform(0.12, 0.3), "rock", 0.05, self.light)

    def _meadow(self, flowers: float) -> None:
        paint_grass(self.canvas, self.draws, self.horizon, self.vanishing)
        if self.draws.chance(flowers):
            paint_flowers(self.canvas, self.draws, self.horizon, self.vanishing)

    def _country(self) -> None:
        draws = self.draws
        self._mountains(0.6)
        self._meadow(0.6)
        if draws.chance(0.8):
            paint_road(self.canvas, draws, self.horizon, self.vanishing, curved=draws.chance(0.75))
        for _ in range(draws.integer(0, 3)):
            self._house()
        self._trees(draws.integer(2, 7))

    def _beach(self) -> None:
        draws = self.draws
        self._mountains(0.45)
        paint_sea(self.canvas, draws, self.horizon, self.sun[0])
        if draws.chance(0.3):
            self._house()
        self._trees(draws.integer(0, 4))

    def _city(self) -> None:
        draws = self.draws
        self._mountains(0.2)
        self._meadow(0.45)
        self._skyline()
        if draws.chance(0.85):
            paint_road(self.canvas, draws, self.horizon, self.vanishing, curved=draws.chance(0.25))
        self._trees(draws.integer(1, 5))

    def _lake(self) -> None:
        draws = self.draws
        self._mountains(0.7)
        self._meadow(0.6)
        paint_lake(self.canvas, draws, self.horizon, self.sun[0])
        if draws.chance(0.3):
            self._house()
        self._trees(draws.integer(2, 7))

    def _pitch(self, share: float) -> tuple[int, int]:
        """Side of a window and of the wall between two, in canvas pixels: at least 3 and 2 image pixels."""
        height = self.canvas.height // SUPERSAMPLE
        return max(3, int(height * share)) * SUPERSAMPLE, max(2, int(height * share * 0.6)) * SUPERSAMPLE

    def _whole(self, value: float) -> int:
        """An edge in canvas pixels that is one of the image too, so that windows are not cut."""
        return int(value * self.canvas.height / SUPERSAMPLE) * SUPERSAMPLE

    def _skyline(self) -> None:
        draws, height = self.draws, self.canvas.height
        left = -self._whole(draws.uniform(0, 0.1))
        while left < self.canvas.width:
            pitch = self._pitch(draws.uniform(0.022, 0.032))
            step = sum(pitch)
            floors = max(1, int(draws.uniform(0.1, self.horizon - 0.04) * height / step))
            across = max(2, int(draws.uniform(0.09, 0.19) * height / step))
            base = self._whole(self.horizon + draws.uniform(0.02, 0.06))
            if draws.chance(0.75):
                paint_building(self.canvas, draws, left, base, (across, floors), pitch, house=False)
            left += across * step + pitch[1] + self._whole(draws.uniform(0.0, 0.08))

    def _house(self) -> None:
        draws = self.draws
        share = draws.uniform(0.045, 0.06)
        left, base = draws.uniform(0.0, self.aspect - 0.15), self.horizon + draws.uniform(0.04, 0.1)
        size = (draws.integer(1, 4), draws.integer(1, 3))
        if self._free(left + 0.08, base):
            paint_building(
                self.canvas, draws, self._whole(left), self._whole(base), size, self._pitch(share), house=True
            )

    def _free(self, x: float, y: float) -> bool:
        """Whether something can stand there: neither on water nor on the road."""
        row = min(int(y * self.canvas.height), self.canvas.height - 1)
        column = min(int(x * self.canvas.height), self.canvas.width - 1)
        taken = ("water", "foam", "road", "marking", "wall", "wall_2", "wall_3", "roof", "pane", "lamp")
        return int(self.canvas.material[row, column]) not in [MATERIAL[name] for name in taken]

    def _trees(self, count: int) -> None:
        draws = self.draws
        feet = sorted(
            self.horizon + 0.04 + (0.98 - self.horizon) * draws.uniform() * draws.uniform() for _ in range(count)
        )
        for y in feet:
            x, kind = self.aspect * draws.uniform(0.02, 0.98), draws.uniform()
            height = (0.18 + 0.75 * (y - self.horizon)) * draws.uniform(0.85, 1.35)
            name = "conifer" if kind < 0.4 else "round_tree" if kind < 0.75 else "round_tree_2"
            if self._free(x, min(y, 0.995)):
                paint_tree(self.canvas, draws, x, y, height, name, self.light)
