"""Reading prepared data: arrays mapped from the disk, checked against their index. `dpsims.data.prepare` makes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from dpsims.data.index import again, read_index
from dpsims.errors import InputError
from dpsims.files import sha256
from dpsims.labels import LabelSpace


class SplitArrays(NamedTuple):
    """Arrays of one split, mapped from the disk and read-only."""

    images: np.ndarray | None  # (N, H, W, 3) uint8; None: label maps alone
    labels: np.ndarray  # (N, H, W) uint8
    moods: np.ndarray | None  # (N,) uint8
    rarest: np.ndarray  # (N,) uint8


@dataclass(frozen=True)
class PreparedData:
    """A prepared folder, see `load_prepared`."""

    path: Path
    index: dict[str, Any]

    @property
    def space(self) -> LabelSpace:
        """The classes; raises InputError where the index names none."""
        if "names" not in self.index:
            raise InputError(f"{self.path}: index.json has no names of classes; {again(self.path)}")
        colours = tuple((red, green, blue) for red, green, blue in self.index["colours"])
        return LabelSpace(self.index["dataset"], tuple(self.index["names"]), colours)

    def check_classes(self, model: LabelSpace) -> None:
        """Raises InputError where the classes are not those of a model: its colours and images would mean others."""
        if self.space.names != model.names:
            mine, its = (dict(enumerate(names)) for names in (model.names, self.space.names))
            first = next(number for number in range(256) if mine.get(number) != its.get(number))
            raise InputError(
                f"{self.path}: class {first} of {self.space.name} is {its.get(first)!r}, in the model "
                f"{mine.get(first)!r}; give label maps of the data that it was trained on"
            )

    def split(self, name: str) -> SplitArrays:
        """Map the arrays of "train" or "val".

        Raises:
            InputError: no such split, or a file is missing, damaged or of another shape than the index says.
        """
        if name not in self.index["splits"]:
            there = ", ".join(self.index["splits"])
            raise InputError(f"{self.path}: no split {name!r}, only {there}; {again(self.path)}")
        count, height, width = self.index["splits"][name]["count"], self.index["height"], self.index["width"]
        shapes = {"labels": (count, height, width), "rarest": (count,)}
        for key, shape in {"images": (count, height, width, 3), "moods": (count,)}.items():
            if f"{name}/{key}.npy" in self.index["sha256"]:
                shapes[key] = shape
        arrays = {key: _mapped(self.path / name / f"{key}.npy", shape) for key, shape in shapes.items()}
        return SplitArrays(arrays.get("images"), arrays["labels"], arrays.get("moods"), arrays["rarest"])

    def pairs(self, name: str) -> SplitArrays:
        """As `split`, for what needs photographs; raises InputError also where the split has label maps alone."""
        arrays = self.split(name)
        if arrays.images is None:
            raise InputError(
                f"{self.path}: its split {name!r} has label maps alone, and photographs are needed to train and to "
                "measure; prepare the data set with its images in another folder (dpsims generate needs none)"
            )
        return arrays

    def check(self) -> "PreparedData":
        """Map every file and look for classes that cannot be; returns itself.

        Raises:
            InputError: as of `split`, or a class that the index does not know.
        """
        for name in self.index["splits"]:
            arrays, known = self.split(name), self.index["num_classes"]
            for key in ("labels", "rarest"):
                highest = int(getattr(arrays, key).max())
                if highest > known:
                    file = self.path / name / f"{key}.npy"
                    raise InputError(f"{file}: holds class {highest}, the index knows 0..{known}; {again(self.path)}")
        return self

    def verify(self, *, progress: bool = True) -> None:
        """Read every file and compare its hash with the index.

        Raises:
            InputError: a file is not what was written.
        """
        for name, expected in tqdm(self.index["sha256"].items(), desc="verify", disable=not progress):
            if not (self.path / name).is_file() or sha256(self.path / name) != expected:
                raise InputError(f"{self.path / name}: missing or changed since it was made; {again(self.path)}")


def load_prepared(path: str | Path) -> PreparedData:
    """Open a prepared folder, and look through all of its label maps.

    Args:
        path: the folder with `index.json`.

    Raises:
        InputError: there is none, it is of another format, or a file does not fit what its index says.
    """
    return open_prepared(path).check()


def settings_of(path: str | Path) -> list[str]:
    """What a configuration has to say to be for a prepared data set, as `dpsims.config.override` takes it.

    Raises:
        InputError: as `open_prepared`.
    """
    index = open_prepared(path).index
    names = ("dataset", "num_classes", "height", "width", "seed")  # the last where data are drawn
    return [f"data.path={path}", *(f"data.{name}={index[name]}" for name in names if name in index)]


def open_prepared(path: str | Path) -> PreparedData:
    """A prepared folder by its index alone: in no time, for those who ask what it is.

    Raises:
        InputError: no index, or one of another format.
    """
    path = Path(path)
    index = read_index(path)
    if index is None:
        raise InputError(f"{path}: no prepared data (index.json is missing); make it with `dpsims prepare`")
    return PreparedData(path, index)


def _mapped(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(file, "r")  # `np.load` would take other kinds of files too
    except Exception as error:  # damaged headers raise many kinds, some with several lines of text
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: cannot be read ({reason}); {again(file.parent.parent)}") from error
    if array.shape != shape or array.dtype != np.uint8:
        there = f"{array.shape} {array.dtype}"
        raise InputError(f"{file}: holds {there}, the index says {shape} uint8; {again(file.parent.parent)}")
    return array
