"""What the explorer draws, as plain functions: noises of classes and of a region, and pixels that stay.

H and W height and width, N noise tokens, d their width, R regions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dpsims.images import to_uint8
from dpsims.noise import interpolate
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

    def tensors(self, generator: Synthesizer, labels: np.ndarray, region: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """What `Synthesizer` takes: z (1, N, d) and None, or z (1, R, N, d) and regions (1, H, W).

        Args:
            generator: whose noise it is.
            labels: (H, W) ids.
            region: (H, W) bool, where `self.region` counts.
        """
        noises = [generator.noise(self.seed)[0]]
        regions = np.zeros(labels.shape, np.int64)
        places = [(labels == number, own) for number, own in self.classes.items()]
        if self.region is not None:
            places.append((region, self.region))
        for where, own in places:
            if own.share and where.any():
                regions[where] = len(noises)
                noises.append(interpolate(noises[0], generator.noise(own.seed)[0], own.share))
        if len(noises) == 1:
            return noises[0][None], None
        return torch.stack(noises)[None], torch.from_numpy(regions)[None]


def draw(generator: Synthesizer, labels: np.ndarray, noise: Noise, region: np.ndarray | None = None) -> Tensor:
    """The image (1, 3, H, W) in [-1, 1] of a label map (H, W); `region` (H, W) bool is where ``noise.region`` counts.

    Raises:
        InputError: as of `Synthesizer`.
    """
    region = np.zeros(labels.shape, bool) if region is None else region
    z, regions = noise.tensors(generator, labels, region)
    return generator(labels, noise=z, regions=regions, strength=noise.strength)


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


def drawn(
    generator: Synthesizer, labels: np.ndarray, noise: Noise, region: np.ndarray, kept: Kept | None = None
) -> np.ndarray:
    """`draw` as (H, W, 3) uint8, with what is kept."""
    image = to_uint8(draw(generator, labels, noise, region))[0]
    return image if kept is None else kept.over(image, labels, region)
