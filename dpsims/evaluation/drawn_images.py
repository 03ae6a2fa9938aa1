"""Images that were drawn elsewhere, as PNG files in a folder: each is found by the name of its label map.

N held-out label maps, B of a batch, H and W height and width.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from dpsims.data.folders import TREES
from dpsims.data.pairs import load_rgb
from dpsims.data.prepared import PreparedData
from dpsims.errors import InputError
from dpsims.evaluation.seeds import map_and_draw
from dpsims.files import png_files
from dpsims.images import to_tensor

Place = Callable[[str], int | None]  # name of a file -> number of its label map


@dataclass(frozen=True)
class DrawnImages:
    """The files of N label maps; calling it draws as a generator does (`references.Synthesise`)."""

    files: list[list[Path]]  # of each label map, in the order of the draws; at least one
    named_by: str  # "name" or "position"

    def draws(self, maps: int) -> int:
        """How many images each of the first `maps` label maps has."""
        return min(len(files) for files in self.files[:maps])

    def __call__(self, labels: Tensor, seeds: list[int]) -> Tensor:
        """Images (B,3,H,W) in [-1,1] of the maps and draws that the seeds tell."""
        chosen = (self.files[j][draw] for j, draw in map(map_and_draw, seeds))
        return to_tensor(np.stack([np.asarray(load_rgb(file)[0]) for file in chosen]))


def find_drawn(folder: str | Path, data: PreparedData, count: int, progress: bool = True) -> DrawnImages:
    """The images of the first `count` label maps of split "val"; every file is read to check it, before the first is
    measured, and again when it is drawn.

    A file has the name that the label map had where the data were prepared (the path below its split, or the last part
    of it), or the position of the label map in the split, from 0. Names count where all files have one. Several images
    of one map end in ``_seed0``, ``_seed1``, ..., as `dpsims generate` writes them.

    Args:
        folder: looked through with the folders in it; files other than PNG do not count.
        data: prepared data.
        count: N.
        progress: show a bar.

    Raises:
        InputError: no such folder, a file that belongs to no map, two of one draw, a map without any; a file that
            cannot be read, or of another size than the data.
    """
    folder = Path(folder)
    files = png_files(folder)
    if not files:
        raise InputError(f"{folder}: holds no PNG; give a folder of images, one for each held-out label map at least")
    total, names = len(data.split("val").labels), data.index.get("held_out", [])
    ways: dict[str, Place] = {"name": _named(names, data.index["dataset"]), "position": _numbered(total)}
    found = {way: [_map_of(file.relative_to(folder), place) for file in files] for way, place in ways.items()}
    way = min(found, key=lambda way: found[way].count(None))  # names first, where both would do
    lost = [file for file, place in zip(files, found[way], strict=True) if place is None]
    if lost:
        called = f"{names[0]!r}, or " if names else ""
        more = f" ({len(lost) - 1} further files)" if len(lost) > 1 else ""
        raise InputError(
            f"{lost[0]}: belongs to no held-out label map of {data.path}{more}; name it after one: {called}0 to "
            f"{total - 1}, with _seed0, _seed1, ... for several of one map; or move it elsewhere"
        )
    sorted_files = _sorted(files, found[way], total)
    missing = [j for j in range(count) if not sorted_files[j]]
    if missing:
        which = f"{missing[0]}{f' ({names[missing[0]]})' if names else ''}"
        raise InputError(
            f"{folder}: has no image of held-out label map {which}; {len(missing)} of {count} are missing, and all are "
            "measured"
        )
    for file in tqdm(files, desc="check images", unit="image", delay=5, disable=not progress):
        _check(file, data)
    return DrawnImages(sorted_files[:count], way)


def _named(names: Sequence[str], dataset: str) -> Place:
    ends = [end for tree in TREES.get(dataset, ()) for end in (tree.image_end, tree.label_end) if end]
    last = [name.rpartition("/")[2] for name in names]
    places = {name: j for j, name in enumerate(last) if last.count(name) == 1}
    places |= {name: j for j, name in enumerate(names)}

    def place(name: str) -> int | None:
        return next((places[n] for n in (name, *map(name.removesuffix, ends)) if n in places), None)

    return place


def _numbered(total: int) -> Place:
    return lambda name: int(name) if name.isdecimal() and int(name) < total else None


def _map_of(file: Path, place: Place) -> tuple[int, int] | None:
    """The label map of a file and the number that is its draw's; None where it belongs to none."""
    name = unicodedata.normalize("NFC", file.with_suffix("").as_posix())  # as names are in prepared data
    if (whole := place(name)) is not None:
        return whole, 0
    if (parts := re.fullmatch(r"(.+)_seed(\d+)", name)) and (first := place(parts[1])) is not None:
        return first, int(parts[2])
    return None


def _sorted(files: Sequence[Path], places: Sequence[tuple[int, int] | None], total: int) -> list[list[Path]]:
    """The files of each map, by the numbers of their draws."""
    draws: list[dict[int, Path]] = [{} for _ in range(total)]
    for file, (j, draw) in zip(files, places, strict=True):
        if draw in draws[j]:
            raise InputError(
                f"{file}: is of the same label map as {draws[j][draw]}; name several images of one map "
                "NAME_seed0.png, NAME_seed1.png, ..."
            )
        draws[j][draw] = file
    return [[of_map[draw] for draw in sorted(of_map)] for of_map in draws]


def _check(file: Path, data: PreparedData) -> None:
    width, height = load_rgb(file)[0].size
    size = (data.index["height"], data.index["width"])
    if (height, width) != size:
        raise InputError(
            f"{file}: {height} x {width} pixels (height x width), and {data.path} has {size[0]} x {size[1]}; prepare "
            "the data at the size of the images, or resize these (bicubic, with antialiasing)"
        )
