"""Label maps to start from: held-out scenes, drawn when they are asked for, or those of prepared data.

N maps, H and W height and width.
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from dpsims.data import scenes
from dpsims.data.loader import middle
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError
from dpsims.labels import LabelSpace, label_space, resize_nearest


class Maps(Protocol):
    """What the explorer asks of a collection of label maps; sizes are (H, W) in pixels."""

    space: LabelSpace

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """Of one map, for people."""

    def labels(self, number: int, size: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8 ids."""

    def photo(self, number: int, size: tuple[int, int]) -> np.ndarray | None:
        """Its real image (H, W, 3) uint8, where there is one of this size."""

    def moods(self, number: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """The map as the data have it in every mood, (H, W, 3) uint8 each; empty where they have no moods."""

    def everything(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:
        """All label maps (N, H, W) and, where there are any, their images (N, H, W, 3); perhaps of another size."""


def check_drawn(dataset: str) -> None:
    """Raises InputError unless maps of a data set can be drawn, so that none need be given."""
    if dataset != "scenes":
        raise InputError(f"data: none given, and {dataset} cannot be drawn; give a prepared data set")


class SceneMaps:
    """Held-out scenes, whose moods are known; `Maps` says what the methods are.

    Args:
        count: N, at least 1.
    """

    def __init__(self, count: int = 200) -> None:
        if count < 1:
            raise InputError(f"count: {count} scenes to choose from; give 1 or more")
        self.space, self.count = label_space("scenes"), count

    def __len__(self) -> int:
        return self.count

    def name(self, number: int) -> str:  # noqa: D102 (as `Maps` says; so below)
        return scenes.LAYOUTS[scenes.render([number], 16, split="val").layouts[0]]

    def labels(self, number: int, size: tuple[int, int]) -> np.ndarray:  # noqa: D102
        return scenes.render([number], size, split="val").labels[0]

    def photo(self, number: int, size: tuple[int, int]) -> np.ndarray:  # noqa: D102
        return scenes.render([number], size, split="val").images[0]

    def moods(self, number: int, size: tuple[int, int]) -> dict[str, np.ndarray]:  # noqa: D102
        return dict(zip(scenes.MOODS, scenes.render_moods(number, size, split="val").images, strict=True))

    def everything(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:  # noqa: D102
        batch = scenes.render(range(self.count), size, split="val")
        return batch.labels, batch.images


class PreparedMaps:
    """The held-out split of a prepared folder; `Maps` says what the methods are.

    Larger maps give their middle, as in evaluation; smaller ones are enlarged by the nearest pixel, and have no image.

    Raises:
        InputError: as `load_prepared`, or no held-out split.
    """

    def __init__(self, path: str | Path) -> None:
        data = load_prepared(path)
        self.space, self._split = data.space, data.split("val")
        self._names = data.index.get("held_out")

    def __len__(self) -> int:
        return len(self._split.labels)

    def name(self, number: int) -> str:  # noqa: D102
        return self._names[number] if self._names else f"map {number}"

    def labels(self, number: int, size: tuple[int, int]) -> np.ndarray:  # noqa: D102
        labels = np.array(self._split.labels[number])
        if all(own >= side for own, side in zip(labels.shape, size, strict=True)):
            return np.array(middle(labels[None], size)[0])
        return resize_nearest(labels, size)

    def photo(self, number: int, size: tuple[int, int]) -> np.ndarray | None:  # noqa: D102
        images = self._split.images
        if images is None or any(own < side for own, side in zip(images.shape[1:3], size, strict=True)):
            return None
        return np.array(middle(images[number : number + 1], size)[0])

    def moods(self, number: int, size: tuple[int, int]) -> dict[str, np.ndarray]:  # noqa: D102
        return {}

    def everything(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray | None]:  # noqa: D102
        return self._split.labels, self._split.images
