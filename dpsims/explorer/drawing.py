"""What the explorer draws, without a widget: noises of classes and of a region, pixels that stay, walks.

H and W height and width, N noise tokens, d their width, R regions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from dpsims.images import to_uint8
from dpsims.noise import in_places, interpolate
from dpsims.synthesis import Synthesizer


@dataclass(frozen=True)
class Own:
    """A noise of one's own: from the image's noise (share 0) on the great circle to that of `seed` (share 1)."""

    seed: int
    share: float = 1.0


@dataclass(frozen=True)
class Noise:
    """The noise of an image."""

    seed: int = 0
    strength: float = 1.0
    classes: Mapping[int, Own] = field(default_factory=dict)  # by class id
    region: Own | None = None  # inside a painted region, whatever the class


@dataclass(frozen=True)
class Kept:
    """Pixels that stay as they are in an image, bit for bit, until they are given another class."""

    image: np.ndarray  # (H, W, 3) uint8
    labels: np.ndarray  # (H, W) ids, of that image
    classes: frozenset[int] = frozenset()  # that stay
    outside: bool = False  # of the painted region, everything stays

    def where(self, labels: np.ndarray, region: np.ndarray) -> np.ndarray:
        """(H, W) bool: the pixels that stay, for the label map and the region as they are now."""
        stays = np.isin(labels, list(self.classes))
        if self.outside:
            stays |= ~region
        return stays & (labels == self.labels)

    def over(self, image: np.ndarray, labels: np.ndarray, region: np.ndarray) -> np.ndarray:
        """`image` (H, W, 3) uint8 with the pixels that stay put back."""
        return np.where(self.where(labels, region)[..., None], self.image, image)


@dataclass(frozen=True)
class Scene:
    """All that an image is made of, as it is at one moment."""

    generator: Synthesizer
    labels: np.ndarray  # (H, W) ids
    region: np.ndarray  # (H, W) bool, where ``noise.region`` counts
    noise: Noise
    kept: Kept | None = None

    def tensors(self, base: Tensor) -> tuple[Tensor, Tensor | None]:
        """What `Synthesizer` takes, for an image whose noise is `base` (1, N, d): z (1, N, d) and None, or z
        (1, R, N, d) and regions (1, H, W)."""
        owners = [(self.labels == number, own) for number, own in self.noise.classes.items()]
        if self.noise.region is not None:
            owners.append((self.region, self.noise.region))
        places = [
            (torch.from_numpy(where)[None], interpolate(base, self.generator.noise(own.seed), own.share))
            for where, own in owners
            if own.share and where.any()
        ]
        return in_places(base, places)

    def image(self, seed: int | None = None, base: Tensor | None = None) -> np.ndarray:
        """(H, W, 3) uint8; of another seed of the whole image, or of its noise z (1, N, d), if one is given.

        Raises:
            InputError: as of `Synthesizer`.
        """
        if base is None:
            base = self.generator.noise(self.noise.seed if seed is None else seed)
        z, regions = self.tensors(base)
        drawn = self.generator(self.labels, noise=z, regions=regions, strength=self.noise.strength)
        image = to_uint8(drawn)[0]
        return image if self.kept is None else self.kept.over(image, self.labels, self.region)

    def walk(self, first: int, second: int, steps: int) -> Iterator[np.ndarray]:
        """`steps` images from one seed of the whole image to another; classes and regions keep what they have of their
        own."""
        start, end = self.generator.noise([first, second], 2).split(1)
        for step in range(steps):
            yield self.image(base=interpolate(start, end, step / (steps - 1)))

    def of(self, generator: Synthesizer, labels: np.ndarray, region: np.ndarray) -> "Scene":
        """The same for another generator; nothing of it is kept."""
        return replace(self, generator=generator, labels=labels, region=region, kept=None)
