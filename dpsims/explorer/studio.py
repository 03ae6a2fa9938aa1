"""Checkpoints and what they draw, without a widget: all that the explorer does in a thread.

H and W height and width.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpsims.checkpoint import resolve
from dpsims.errors import InputError
from dpsims.explorer.drawing import Scene
from dpsims.explorer.pictures import png
from dpsims.explorer.views import IMAGE, view
from dpsims.labels import LabelSpace, resize_nearest
from dpsims.models import Discriminator
from dpsims.synthesis import Synthesizer, load_discriminator, load_generator

NONE = ""  # no second checkpoint


@dataclass(frozen=True)
class Wish:
    """An image that is asked for, and what it is to be compared with."""

    scene: Scene
    name: str  # of the checkpoint
    number: int  # of the map that the label map comes from
    second: str  # of another, or `NONE`
    kind: str  # of view
    share: float  # its opacity


@dataclass(frozen=True)
class Drawn:
    """What came of a wish."""

    wish: Wish
    image: np.ndarray  # (H, W, 3) uint8
    pictures: dict[str, bytes]  # PNGs by their captions
    words: str  # about the image
    problems: tuple[str, ...]  # of what was to be shown beside it


class Studio:
    """Generators and discriminators, loaded when they are first asked for.

    Args:
        checkpoints: folders by the names to choose from, or generators that are loaded already.
        space: the classes that all of them are to have.
    """

    def __init__(self, checkpoints: Mapping[str, str | Path | Synthesizer], space: LabelSpace) -> None:
        self.given, self.space = dict(checkpoints), space
        self._folders: dict[str, Path] = {}  # found once: a run that goes on would give G and D of different steps
        self._generators: dict[str, Synthesizer] = {}
        self._discriminators: dict[str, Discriminator] = {}

    def generator(self, name: str) -> Synthesizer:
        """The generator of a checkpoint; raises InputError where it cannot be loaded or draws other classes."""
        if name not in self._generators:
            given = self.given[name]
            if not isinstance(given, Synthesizer):
                self._folders[name] = resolve(given)
                given = load_generator(self._folders[name])
            if given.space.names != self.space.names:
                raise InputError(
                    f"{name}: draws {given.space.num_classes} classes of {given.space.name}, and the maps have "
                    f"{self.space.num_classes} of {self.space.name}; give maps or a checkpoint that fit"
                )
            self._generators[name] = given
        return self._generators[name]

    def loaded(self, name: str) -> Synthesizer | None:
        """The generator of a checkpoint if it is loaded already."""
        return self._generators.get(name)

    def discriminator(self, name: str) -> Discriminator:
        """Its discriminator; raises InputError where it has none."""
        if name not in self._discriminators:
            if name not in self._folders:
                raise InputError(f"{name}: was given without its discriminator; give the folder of a checkpoint")
            self._discriminators[name] = load_discriminator(self._folders[name])
        return self._discriminators[name]

    def draw(self, wish: Wish) -> Drawn:
        """The image, and pictures of it. What goes wrong beside the image is a problem, not the end of it.

        Raises:
            InputError: the image itself cannot be drawn.
        """
        start = time.perf_counter()
        image = wish.scene.image()
        words = f"{1000 * (time.perf_counter() - start):.0f} ms an image"
        problems = []
        try:
            pictures = self._viewed(wish, wish.name, wish.scene.labels, image)
        except InputError as error:
            pictures = {_caption(wish, wish.name): png(image)}
            problems.append(str(error))
        try:
            pictures |= self._second(wish)
        except InputError as error:
            problems.append(str(error))
        return Drawn(wish, image, pictures, words, tuple(problems))

    def _second(self, wish: Wish) -> dict[str, bytes]:
        if wish.second in (NONE, wish.name):
            return {}
        other = self.generator(wish.second)
        labels, region = (resize_nearest(array, other.size) for array in (wish.scene.labels, wish.scene.region))
        return self._viewed(wish, wish.second, labels, wish.scene.of(other, labels, region).image())

    def _viewed(self, wish: Wish, name: str, labels: np.ndarray, image: np.ndarray) -> dict[str, bytes]:
        """The picture by its caption."""
        caption = _caption(wish, name)
        if wish.kind != IMAGE:
            image, said = view(wish.kind, image, labels, self.discriminator(name), self.space, wish.share)
            caption = f"{caption}: {said}"
        return {caption: png(image)}


def _caption(wish: Wish, name: str) -> str:
    return f"{name}, seed {wish.scene.noise.seed}"
