"""Fréchet distance between two sets of images, each given by the features of its images, which may have weights.

d^2 = |m_r - m_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2)), m and S the mean and covariance of the features of real and
generated images (Heusel et al. 2017, published). torchmetrics knows no weights and starts from all features each time;
the tests hold this module against it. With S = R^T R, tr (S_r S_g)^(1/2) is the sum of the singular values of
R_r R_g^T, which is exact for sets that are smaller than the number of features and needs no root of a matrix.

The features are those of `unet.py` and `texture.py`, not Inception's: values compare with the reference rows of the
same protocol and with nothing else. Like every such distance they grow as images become fewer.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of the features of a set of images, in float64."""

    mean: Tensor  # (F,)
    root: Tensor  # (R,F), R <= F; the covariance is root^T root


def effective_size(weights: Tensor) -> float:
    """How many equally weighted images weights (N,) >= 0 are worth: (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weights.sum() ** 2 / weights.square().sum()) if bool(weights.any()) else 0.0


def moments(features: Tensor, weights: Tensor | None = None) -> Moments:
    """Mean and covariance of features (N,F); equal weights divide by N - 1.

    Args:
        features: any floating type, on any device.
        weights: (N,) >= 0, of any sum; None: equal ones. The covariance is numpy's with `aweights`.

    Raises:
        ValueError: another shape, or fewer than two images that count.
    """
    weights = torch.ones(len(features)) if weights is None else weights
    if features.ndim != 2 or weights.shape != features.shape[:1] or effective_size(weights) < 1.5:
        raise ValueError(
            f"features {tuple(features.shape)} of {effective_size(weights):.1f} effective image(s) with weights "
            f"{tuple(weights.shape)}, expected (N,F) and (N,) with N >= 2"
        )
    counted = weights > 0
    x, w = features[counted].cpu().double(), weights[counted].cpu().double()
    w = w / w.sum()
    mean = w @ x
    scaled = (x - mean) * (w / (1 - w.square().sum())).sqrt()[:, None]
    return Moments(mean, torch.linalg.qr(scaled, mode="r").R)


def frechet_distance(real: Moments, generated: Moments) -> float:
    """The distance d^2, which is what "FID" denotes, >= 0; symmetric.

    Raises:
        ValueError: another number of features.
    """
    if real.mean.shape != generated.mean.shape:
        raise ValueError(f"{len(real.mean)} features against {len(generated.mean)}")
    overlap = torch.linalg.svdvals(real.root @ generated.root.T).sum()
    spreads = real.root.square().sum() + generated.root.square().sum()
    distance = (real.mean - generated.mean).square().sum() + spreads - 2 * overlap
    return max(0.0, float(distance))  # rounding leaves about -1e-12 for identical sets
