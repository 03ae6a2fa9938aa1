"""How the numbers and colours in label files stand for classes: one table, and converters in both directions.

Inside the library ids are 0 = void, 1..K = classes. Files differ, and so do the projects that read them, which makes a
map of one silently wrong in another:

    raw     the file as its owner publishes it, and as the SPADE and OASIS trees hold it too
    oasis   what OASIS feeds its networks: void first; the same numbers as our ids
    spade   what SPADE feeds its networks: void last (Cityscapes: as published)
    rgb     colours of the class table instead of numbers

K classes, H and W height and width.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dpsims.errors import InputError
from dpsims.label_files import LabelPNG, load_png
from dpsims.labels import VOID, LabelSpace, class_table, colour_code, first_unknown, label_space

# value of class 1, which all others follow, and value of void; read in the code of SPADE and OASIS
ENCODINGS = {
    "scenes": {"raw": (1, 0)},
    "ade20k": {"raw": (1, 0), "oasis": (1, 0), "spade": (0, 150)},
    "coco_stuff": {"raw": (0, 255), "oasis": (1, 0), "spade": (0, 182)},
    "cityscapes": {"raw": (1, 0), "oasis": (1, 0), "spade": (1, 0)},  # labelIds
}
RGB = "rgb"
MAX_VALUE = 65535  # of a 16-bit PNG
NO_CLASS = 255  # in evaluation classes


@dataclass(frozen=True)
class Encoding:
    """Numbers that stand for classes.

    Args:
        space: the classes.
        name: of the encoding, such as ``"raw"``.
        values: K+1 different numbers of 0..65535, `values[id]` being what a file holds for an id; `values[0]` is None
            where a file cannot hold void.
    """

    space: LabelSpace
    name: str
    values: tuple[int | None, ...]

    def __post_init__(self) -> None:
        known = [value for value in self.values if value is not None]
        wrong = [value for value in known if not 0 <= value <= MAX_VALUE]
        twice = [value for value in known if known.count(value) > 1]
        if wrong or twice:
            problem = f"outside 0..{MAX_VALUE}" if wrong else "there twice"
            raise InputError(f"{self.space.name}: value {(wrong or twice)[0]} is {problem}; give each class its own")

    def decode(self, values: np.ndarray, source: str) -> np.ndarray:
        """Numbers of a file -> ids.

        Args:
            values: (..., H, W) integers.
            source: named in errors.

        Returns:
            Of the same shape, uint8, 0 = void, 1..K.

        Raises:
            InputError: a number that stands for no class, with its place.
        """
        values = np.asarray(values)
        if values.dtype.kind not in "iub":
            raise InputError(f"{source}: {values.dtype} values; label maps hold integers")
        if values.dtype == np.uint8:  # of nearly all files; several times as fast as what takes any number
            small = values.copy() if self._same(values) else np.take(self._small_ids, values)
            if small.max(initial=VOID) <= self.space.num_classes:
                return small.astype(np.uint8, copy=False)
        ids = self._ids[np.where((values < 0) | (values > MAX_VALUE), MAX_VALUE + 1, values)]
        unknown = ids < 0
        if unknown.any():
            place, more = first_unknown(values, unknown)
            raise InputError(
                f"{source}: {place} is not a class of {self.space.name} in encoding {self.name} "
                f"({self._known()}){more}; is it void, or the file of another encoding or data set?"
            )
        return ids.astype(np.uint8)

    def encode(self, ids: np.ndarray, source: str = "labels") -> np.ndarray:
        """Ids (..., H, W) -> numbers of a file, uint8, or uint16 where one of the encoding is above 255.

        Raises:
            InputError: no id of the space, or void where the encoding has none.
        """
        ids = np.asarray(ids)
        self.space.check(ids, source)
        if self.values[VOID] is None and (ids == VOID).any():
            raise InputError(f"{source}: holds void, for which {self.space.name} has no value in {self.name}; name one")
        numbers = [0 if value is None else value for value in self.values]
        return np.array(numbers, np.uint8 if max(numbers) < 256 else np.uint16)[ids]

    def read(self, path: str | Path) -> np.ndarray:
        """Reads a PNG: grey values of 8 or 16 bits, or the indices of a palette, as they are -> ids (H, W) uint8.

        Raises:
            InputError: as of `load_png` and `decode`, or a file of colours.
        """
        return self.ids(load_png(path), path)

    def ids(self, png: LabelPNG, path: str | Path) -> np.ndarray:
        """As `read`, of what was loaded from `path`."""
        if png.kind == "colours":
            raise InputError(
                f"{path}: an RGB image where class values are meant; if its colours are those of the classes, pass "
                "--encoding rgb; if it is grey, save it with one channel"
            )
        return self.decode(png.array, str(path))

    @cached_property
    def _ids(self) -> np.ndarray:
        """The id of every number, -1 for none, and last for numbers that are too large; (65537,) int16."""
        ids = np.full(MAX_VALUE + 2, -1, np.int16)
        for number, value in enumerate(self.values):
            if value is not None:
                ids[value] = number
        return ids

    @cached_property
    def _small_ids(self) -> np.ndarray:
        """The id of every number below 256; (256,) uint8, or int16 where none of 0..255 is left to stand for none."""
        ids = self._ids[:256]
        none = self.space.num_classes + 1
        return np.where(ids < 0, none, ids).astype(np.uint8 if none < 256 else np.int16)

    def _same(self, values: np.ndarray) -> bool:
        """Whether the ids of these values, up to K, are the values themselves."""
        return self._ordered and (self.values[VOID] == VOID or values.min(initial=255) > VOID)

    @cached_property
    def _ordered(self) -> bool:
        return self.values[VOID] in (VOID, None) and self.values[1:] == tuple(range(1, self.space.num_classes + 1))

    def _known(self) -> str:
        """Its numbers as ranges, such as "0..181, 255"."""
        known = np.array(sorted(value for value in self.values if value is not None))
        runs = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
        words = [f"{run[0]}..{run[-1]}" if run.size > 1 else f"{run[0]}" for run in runs]
        return ", ".join(words if len(words) <= 8 else [*words[:7], "..."])


@dataclass(frozen=True)
class Palette:
    """Colours that stand for classes: those of the space, exactly."""

    space: LabelSpace
    name = RGB

    def decode(self, colours: np.ndarray, source: str) -> np.ndarray:
        """Colours (H, W, 3) uint8 -> ids (H, W) uint8.

        Raises:
            InputError: a colour of no class, or of several classes, with its place.
        """
        known, owner, shared = self._codes
        codes = colour_code(colours)  # (H, W)
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        wrong = (known[place] != codes) | shared[place]
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            colour = tuple(int(part) for part in colours[row, column])
            also = np.unique(codes[wrong]).size - 1
            more = f" ({also} further such colours)" if also else ""
            raise InputError(
                f"{source}: colour {colour} at row {row}, column {column} {self._reason(colour)}{more}; give maps of "
                "class values, or of exactly the colours of the class table (custom: colours, in dataset.yml)"
            )
        return owner[place]

    def encode(self, ids: np.ndarray, source: str = "labels") -> np.ndarray:
        """Ids (..., H, W) -> colours (..., H, W, 3) uint8; raises InputError for what is no id of the space."""
        self.space.check(np.asarray(ids), source)
        return self.space.colourise(ids)

    def read(self, path: str | Path) -> np.ndarray:
        """Reads a PNG of colours, RGB or with a palette -> ids (H, W) uint8.

        Raises:
            InputError: as of `load_png` and `decode`, or a file of grey values.
        """
        return self.ids(load_png(path), path)

    def ids(self, png: LabelPNG, path: str | Path) -> np.ndarray:
        """As `read`, of what was loaded from `path`."""
        if png.kind == "values":
            raise InputError(f"{path}: grey values where colours are meant; leave --encoding rgb out")
        if png.palette is None:
            return self.decode(png.array, str(path))
        if png.array.max() >= len(png.palette):
            raise InputError(f"{path}: index {png.array.max()} is beyond its palette of {len(png.palette)} colours")
        return self.decode(png.palette[png.array], str(path))

    @cached_property
    def _codes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The different colours as sorted numbers, the first id of each, and whether others have it too."""
        known, owner, count = np.unique(colour_code(self.space.colours), return_index=True, return_counts=True)
        return known, owner.astype(np.uint8), count > 1

    def _reason(self, colour: tuple[int, ...]) -> str:
        owners = [name for name, other in zip(self.space.names, self.space.colours, strict=True) if other == colour]
        return f"stands for {' and '.join(owners)}" if owners else f"is not a colour of {self.space.name}"


def encoding(dataset: str, name: str = "raw") -> Encoding | Palette:
    """The encoding of a data set that has a class table.

    Args:
        dataset: such as ``"coco_stuff"``.
        name: ``"raw"``, ``"oasis"``, ``"spade"`` or ``"rgb"``, see the head of this file.

    Raises:
        InputError: no such data set, or it does not come in this encoding.
    """
    space = label_space(dataset)
    if name == RGB:
        return Palette(space)
    known = ENCODINGS[dataset]
    if name not in known:
        raise InputError(f"encoding: {name!r} is not one of {', '.join([*known, RGB])}, in which {dataset} comes")
    first, void = known[name]
    return Encoding(space, name, (void, *range(first, first + space.num_classes)))


def convert(values: np.ndarray, dataset: str, source: str, target: str) -> np.ndarray:
    """Label maps of one encoding into another, such as from ``"spade"`` to ``"raw"``; raises InputError as `decode`."""
    return encoding(dataset, target).encode(encoding(dataset, source).decode(values, f"labels ({source})"))


def evaluation_classes(dataset: str) -> np.ndarray:
    """The class that networks which evaluate know each id by.

    COCO-Stuff: 171, the ones that occur, in order. Cityscapes: the 19 trainIds. Others: id - 1.

    Returns:
        (K+1,) uint8, 255 for void and for ids that such networks do not know.
    """
    rows = class_table(dataset)
    if "evaluation" in rows[0]:
        return np.array([int(row["evaluation"] or NO_CLASS) for row in rows], np.uint8)
    return np.array([NO_CLASS, *range(len(rows) - 1)], np.uint8)
