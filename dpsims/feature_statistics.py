"""What the channels of a backbone's features share: covariance, its eigenvalues, correlation, before and after
conditioning.

Published (arXiv 2312.13314): raw features of discriminative backbones are ill-conditioned, a few channels dominate.
How that is measured here is our default: pixels of all images are the samples, channels the variables.

B batch, C channels, H and W height and width, L levels.
"""

import numpy as np
import torch
from torch import Tensor

from dpsims.errors import InputError
from dpsims.models.discriminator import Discriminator

STAGES = ("raw", "normalised", "decorrelated")  # before step 1, after it, after step 2; the noise of step 3 is no step


@torch.no_grad()
def stages(discriminator: Discriminator, images: Tensor) -> dict[str, list[Tensor]]:
    """Features before and after each step of feature conditioning, whose constants are fitted to these images.

    Args:
        discriminator: its conditioning is fitted anew.
        images: (B, 3, H, W) in [-1, 1].

    Returns:
        stage of `STAGES` -> L features (B, C_l, H_l, W_l), fine to coarse.
    """
    raw = [level.float() for level in discriminator.features(images)]
    conditioning = discriminator.conditioning
    conditioning.fit(lambda: [raw])
    normalised = [level.normalise(x) for level, x in zip(conditioning.levels, raw, strict=True)]
    decorrelated = [level.decorrelate(x) for level, x in zip(conditioning.levels, normalised, strict=True)]
    return dict(zip(STAGES, (raw, normalised, decorrelated), strict=True))


def channel_covariance(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (C, C) covariance between channels in float64.

    Raises:
        InputError: fewer than two pixels in all.
    """
    samples = features.detach().double().transpose(0, 1).flatten(1)  # (C, B*H*W)
    if samples.shape[1] < 2:
        raise InputError(f"features of shape {tuple(features.shape)}: two pixels are needed for a covariance")
    return torch.cov(samples).reshape(len(samples), len(samples))


def channel_eigenvalues(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (C,) eigenvalues of the covariance between channels as shares of their sum, largest first.

    All zero for constant features. With fewer pixels than channels some are zero whatever the features are.
    """
    values = torch.linalg.eigvalsh(channel_covariance(features)).clamp_min(0).flip(0)
    return values / values.sum().clamp_min(1e-300)


def effective_channels(features: Tensor) -> float:
    """(sum of eigenvalues)^2 / sum of their squares: 1 where all channels say the same, C where all are independent
    and equally loud; NaN for constant features."""
    covariance = channel_covariance(features)
    squares = float(covariance.square().sum())
    return float(covariance.trace() ** 2 / squares) if squares else float("nan")


def channel_correlation(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (C, C) correlation in [-1, 1]; 0 beside a constant channel, 1 on the diagonal."""
    covariance = channel_covariance(features)
    scale = covariance.diagonal().clamp_min(0).sqrt()
    correlation = (covariance / (scale[:, None] * scale)).nan_to_num(0.0, 0.0, 0.0)
    correlation.fill_diagonal_(1.0)
    return correlation


def principal_colours(features: Tensor) -> np.ndarray:
    """The three strongest directions of a level, which say most of what it says, as red, green and blue.

    Args:
        features: (B, C, H, W), C >= 3.

    Returns:
        (B, H, W, 3) uint8; each colour runs from the 1st to the 99th percentile of its direction over all images.

    Raises:
        InputError: fewer than three channels.
    """
    if features.shape[1] < 3:
        raise InputError(f"features of shape {tuple(features.shape)}: three channels are needed for three colours")
    vectors = torch.linalg.eigh(channel_covariance(features))[1].flip(1)[:, :3]  # (C, 3), strongest first
    heaviest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    shown = torch.einsum("bchw,cd->bhwd", features.detach().double(), vectors * heaviest.sign())  # a sign that is fixed
    low, high = torch.quantile(shown.flatten(0, 2)[:: max(1, shown[..., 0].numel() // 100_000)],
                               torch.tensor([0.01, 0.99], dtype=torch.float64), dim=0)  # fmt: skip
    scaled = (shown - low) / (high - low).clamp_min(1e-12)
    return (255 * scaled.clamp(0, 1)).round().byte().cpu().numpy()
