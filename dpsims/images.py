"""Images as bytes and as numbers, in one way.

B images, H and W height and width.
"""

import numpy as np
import torch
from torch import Tensor


def channels_first(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) -> (B, 3, H, W), channels last in memory; a copy, since memory maps are read-only."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)


def from_bytes(images: Tensor) -> Tensor:
    """Values of 0..255 -> float32 in [-1, 1]."""
    return images.to(torch.float32, copy=True).div_(127.5).sub_(1)  # in place: a batch of 256 px is large


def to_bytes(images: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8, rounded and clipped: what a PNG file keeps, and what every metric sees."""
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_tensor(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) of values 0..255 -> (B, 3, H, W) float in [-1, 1], channels last in memory."""
    return from_bytes(channels_first(images))


def to_uint8(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) float in [-1, 1] -> (B, H, W, 3) uint8, rounded and clipped."""
    return to_bytes(images).permute(0, 2, 3, 1).cpu().numpy()
