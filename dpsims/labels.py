"""Label maps: what their numbers mean, how they look, and how they are read from a file.

Inside the library every label map holds integer ids with **0 = void and 1..K = classes**, whatever its file says.
This module imports no torch, so that tools that only look at labels stay quick.
"""

import colorsys
import csv
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from dpsims.errors import InputError
from dpsims.files import write_text
from dpsims.label_files import load_png
from dpsims.paths import LABELS

COLUMNS = ("id", "name", "red", "green", "blue")  # of a class table
VOID = 0  # the id of pixels without a class; they weigh nothing in any class term


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set.

    Args:
        name: the data set, such as ``"scenes"``.
        names: K+1 names; ``names[0]`` is void.
        colours: K+1 RGB triples, 0 to 255, for showing label maps.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    @property
    def num_classes(self) -> int:
        """K, the number of classes without void."""
        return len(self.names) - 1

    def id_of(self, name: str) -> int:
        """The id of a class by its name; raises InputError for an unknown one."""
        if name not in self.names:
            raise InputError(f"class {name!r} is not one of {self.name}: {', '.join(self.names)}")
        return self.names.index(name)

    def colourise(self, ids: np.ndarray) -> np.ndarray:
        """Label ids (..., H, W) -> RGB (..., H, W, 3) uint8 in the colours of the class table."""
        return np.asarray(self.colours, dtype=np.uint8)[np.asarray(ids)]

    def part(self, ids: np.ndarray) -> "LabelSpace":
        """Void and those classes whose ids occur, in their order: what a legend names. Its ids are new ones."""
        kept = [VOID, *sorted(set(np.unique(ids).tolist()) - {VOID})]
        return LabelSpace(self.name, tuple(self.names[i] for i in kept), tuple(self.colours[i] for i in kept))

    def save(self, path: Path) -> None:
        """Writes the classes as CSV, which `read_classes` reads."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        rows = zip(self.names, self.colours, strict=True)
        writer.writerows([number, name, *colour] for number, (name, colour) in enumerate(rows))
        write_text(path, text.getvalue())

    def check(self, ids: np.ndarray, source: str) -> None:
        """Raises InputError, naming ``source``, the first unknown value and its place, unless all ids are 0..K."""
        if ids.dtype.kind not in "iub":  # NaN would pass for a class: no comparison holds for it
            raise InputError(f"{source}: {ids.dtype} values; class ids are integers")
        unknown = (ids < 0) | (ids > self.num_classes)
        if unknown.any():
            place, more = first_unknown(ids, unknown)
            raise InputError(
                f"{source}: {place} is not a class of {self.name} (0..{self.num_classes}){more}; the file must hold "
                "class ids, 0 being void"
            )


def first_unknown(values: np.ndarray, unknown: np.ndarray) -> tuple[str, str]:
    """The first unknown value with its place, and how many others are unknown (or nothing), both in words.

    Args:
        values: (..., H, W) integers.
        unknown: of the same shape, True in at least one place.
    """
    row, column = (int(i) for i in np.argwhere(unknown)[0][-2:])
    found = np.unique(values[unknown])
    more = f" ({found.size - 1} further unknown values)" if found.size > 1 else ""
    return f"value {int(values[unknown].flat[0])} at row {row}, column {column}", more


def spread_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Black for void and `count` colours that differ, for classes to which nobody has given any (RGB, 0 to 255)."""
    colours = [(0, 0, 0)]
    for number in range(count):  # hues a golden section apart never meet; three lightnesses tell neighbours apart
        hue, saturation, value = number * 0.618034 % 1, (0.9, 0.5, 0.7)[number % 3], (0.95, 0.75, 0.55)[number // 3 % 3]
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
        colours.append((red, green, blue))
    return tuple(colours)


def colour_code(colours: ArrayLike) -> np.ndarray:
    """RGB (..., 3), 0 to 255 -> one number for each colour, (...) int32; as 0xRRGGBB has it."""
    return np.asarray(colours).astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def resize_nearest(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Label maps (..., H, W) -> (..., h, w): each pixel takes the one whose centre is nearest to its own, along either
    axis; of two as near the lower, or the right one.

    In whole numbers: sums of fractions, as Pillow has them, break such ties now this way and now that.
    """
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(ids.shape[-2:], size, strict=True))
    return ids.take(rows, -2).take(columns, -1)  # four times as fast as one index for both


def count_ids(ids: np.ndarray, num_classes: int) -> np.ndarray:
    """A label map (H, W) uint8 of ids 0..K -> pixels of each, (K+1,) int64; ValueError for other ids and types."""
    if ids.dtype != np.uint8:
        raise ValueError(f"label map of {ids.dtype}, not uint8")
    counts = np.array(Image.fromarray(ids).histogram())  # faster than numpy's bincount
    if counts[num_classes + 1 :].any():
        raise ValueError(f"label map with id {counts.nonzero()[0][-1]}, above {num_classes}")
    return counts[: num_classes + 1]


def check_size(source: str, shape: tuple[int, ...], size: tuple[int, int] | None, remedy: str) -> None:
    """Raises InputError unless `shape`, (H, W) of label maps, is the `size` of a model; None accepts any. The error
    begins with `source` and ends with `remedy`."""
    if size is not None and shape != tuple(size):
        raise InputError(
            f"{source} {shape[0]} x {shape[1]} pixels (height x width), but the model takes {size[0]} x {size[1]}; "
            f"{remedy}"
        )


@cache
def class_table(name: str) -> tuple[dict[str, str], ...]:
    """The rows of ``data/labels/<name>.csv`` by id, 0 being void (columns id, name, red, green, blue, and evaluation
    where the networks that evaluate know other classes); raises InputError for an unknown data set."""
    path = LABELS / f"{name}.csv"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in LABELS.glob("*.csv")))
        raise InputError(f"no class table for data set {name!r} in {LABELS}; known: {known}")
    return _rows(path)


def _rows(path: Path) -> tuple[dict[str, str], ...]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = tuple(csv.DictReader(file))
        ids = [int(row["id"]) for row in rows]
        right = all(row["name"] and 0 <= int(row[c]) <= 255 for row in rows for c in COLUMNS[2:])
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no table of classes with the columns {', '.join(COLUMNS)} ({error})") from None
    if ids != list(range(len(ids))) or len(ids) < 2:
        raise InputError(f"{path}: ids must run 0, 1, 2, ... without a gap, 0 being void, with one class at least")
    if not right:
        raise InputError(f"{path}: a class without a name, or a colour outside 0 to 255")
    return rows


def read_classes(path: Path, name: str) -> LabelSpace:
    """The label space that `LabelSpace.save` wrote, of the data set `name`; raises InputError for another file."""
    return _space(name, _rows(path))


def classes_of(folder: Path, name: str) -> LabelSpace:
    """The classes of a checkpoint folder: its classes.csv, or those of the data set `name` in older ones, without."""
    file = folder / "classes.csv"
    return read_classes(file, name) if file.is_file() else label_space(name)


def _space(name: str, rows: tuple[dict[str, str], ...]) -> LabelSpace:
    colours = tuple((int(r["red"]), int(r["green"]), int(r["blue"])) for r in rows)
    return LabelSpace(name, tuple(row["name"] for row in rows), colours)


@cache
def label_space(name: str) -> LabelSpace:
    """The label space of a data set that has a class table, see `class_table`."""
    return _space(name, class_table(name))


def read_label_map(path: str | Path, space: LabelSpace, size: tuple[int, int] | None = None) -> np.ndarray:
    """Reads a label map of class ids from an 8-bit greyscale PNG; every value is checked.

    A palette PNG is refused: whether its indices or its colours are the classes cannot be told. The map is never
    resized: a generator has one size, and a silent resize would move class borders. Other encodings are read by
    `dpsims.encodings`.

    Args:
        path: the PNG.
        space: the classes that its values stand for.
        size: (H, W) in pixels that it must have; None accepts any.

    Returns:
        (H, W) uint8 ids, 0 = void, 1..K.

    Raises:
        InputError: missing, unreadable or huge file, palette, RGB or 16-bit image, wrong size, a value outside 0..K.
    """
    png = load_png(path)
    if png.kind != "values" or png.depth != 8:
        indices = "; if its indices are the ids: Image.fromarray(np.asarray(Image.open(map))).save(map)"
        raise InputError(
            f"{path}: image mode {png.mode!r} of {png.depth} bits, not 8-bit greyscale (mode 'L'); convert it to ids "
            f"0..{space.num_classes} of {space.name} first{indices if png.mode == 'P' else ''}"
        )
    ids = png.array
    remedy = "resize the map with nearest-neighbour interpolation (dpsims generate: --resize)"
    check_size(f"{path}:", ids.shape, size, remedy)
    space.check(ids, str(path))
    return ids
