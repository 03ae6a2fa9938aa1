"""Noise in a user's hands: one noise for the image, or others for classes and regions; walks between two noises.

The paper publishes that noise enters the label features of every place by cross-attention; that each place may then
listen to a noise of its own, so that one class changes while the rest stays, is this project's use of it.

B batch, H and W height and width, N noise tokens, d their width, R regions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpsims.checks import as_integers
from dpsims.errors import InputError
from dpsims.labels import LabelSpace


def class_region(labels: Tensor | np.ndarray, classes: Sequence[int]) -> Tensor:
    """Regions (B, H, W) of label ids (B, H, W): 1 where the class is one of `classes`, 0 elsewhere."""
    labels = as_integers(labels, "labels")
    return torch.isin(labels, torch.tensor(list(classes), dtype=labels.dtype, device=labels.device)).long()


def interpolate(first: Tensor, second: Tensor, share: float, spherical: bool = True) -> Tensor:
    """From one noise to another.

    Args:
        first, second: z (..., N, d).
        share: 0 gives the first, 1 the second.
        spherical: along the great circle of each whole z, which keeps the length that a generator is used to; in the
            middle of a straight line z is shorter.

    Returns:
        (..., N, d).

    Raises:
        InputError: shapes differ.
    """
    if first.shape != second.shape:
        raise InputError(f"noises of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be mixed")
    if not spherical:
        return torch.lerp(first, second, share)
    a, b = first.flatten(-2).double(), second.flatten(-2).double()
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1)
    angle = torch.arccos(cosine)[..., None]
    small = angle.sin() < 1e-6  # the same or opposite directions: no one circle, so the line
    weights = (((1 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin())
    mixed = torch.where(small, torch.lerp(a, b, share), weights[0] * a + weights[1] * b)
    return mixed.view(first.shape).to(first.dtype)


def locked(image: Tensor, before: Tensor, region: Tensor) -> Tensor:
    """`image` inside the region, `before` outside it, bit for bit.

    Args:
        image, before: (B, 3, H, W).
        region: (B, H, W), not 0 inside.
    """
    return torch.where(region[:, None] != 0, image, before)


def in_places(default: Tensor, places: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor | None]:
    """Noises of places, as a generator takes them.

    Args:
        default: z (B, N, d) of all other places.
        places: masks (B, H, W) bool, of later ones before earlier ones, each with its z (N, d) or (B, N, d).

    Returns:
        z (B, R, N, d), and regions (B, H, W) in 0..R-1: which of them a place listens to; without places `default` and
        None.
    """
    if not places:
        return default, None
    regions = torch.zeros_like(places[0][0], dtype=torch.long)
    for number, (mask, _) in enumerate(places, start=1):
        regions[mask] = number
    noises = [default, *(z.to(default).expand_as(default) for _, z in places)]
    return torch.stack(noises, dim=1), regions


def by_class(
    labels: Tensor, space: LabelSpace, noise: Mapping[str, Tensor | np.ndarray], default: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Noises of classes by name.

    Args:
        labels: (B, H, W) int64 ids.
        space: the classes.
        noise: name of a class -> z (N, d), or (B, N, d); under "default" that of all others.
        default: z (B, N, d) of all others where `noise` has no "default".

    Returns:
        As of `in_places`.

    Raises:
        InputError: an unknown class, or a noise of another shape or type.
    """
    parts = {name: as_noise(z, f"noise of {name}") for name, z in noise.items()}
    for name, z in parts.items():
        if z.shape not in (default.shape, default.shape[1:]):
            one, all_ = tuple(default.shape[1:]), tuple(default.shape)
            raise InputError(f"noise of {name}: shape {tuple(z.shape)}; give (N, d) = {one}, or (B, N, d) = {all_}")
    default = parts.pop("default", default).to(default).expand_as(default)
    places = [(labels == space.id_of(name), z) for name, z in parts.items()]
    return in_places(default, places)


def as_noise(given: Any, name: str) -> Tensor:
    """A noise as float32; raises InputError for what holds no finite numbers."""
    try:
        noise = torch.as_tensor(given).float()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name}: a {type(given).__name__}; give a tensor of numbers") from None
    if not noise.isfinite().all():
        raise InputError(f"{name}: holds NaN or infinity; give finite numbers, such as torch.randn makes")
    return noise
