"""Noise for every pixel of the image network, read from the same z as everything else. A deviation from the paper.

The paper's noise enters by cross-attention alone, which reaches whole regions. Without a source of randomness for every
pixel a small generator has to make grain, leaves and waves out of nothing, and makes stripes instead. StyleGAN adds
fresh noise to every feature map; here it is read from z, so that the noise given is still all the noise there is.

B batch, C channels, H and W height and width, N noise tokens, d their width.
"""

import torch
from torch import Tensor, nn


class PixelNoise(nn.Module):
    """Adds ``strength_c * n(y, x)`` to every channel c of a feature map; each pixel reads one number of z.

    Which number a pixel reads, and with which sign, is fixed at random, so that n looks like white noise although many
    pixels share a number where the map has more than N d pixels. The learned strengths start at 0.

    Args:
        channels: C of the feature map.
        height, width: of the feature map.
        numbers: N d.
        seed: of the fixed places; another one a level.
    """

    places: Tensor
    signs: Tensor

    def __init__(self, channels: int, height: int, width: int, numbers: int, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        rounds = -(-height * width // numbers)
        places = torch.cat([torch.randperm(numbers, generator=draw) for _ in range(rounds)])[: height * width]
        signs = torch.randint(0, 2, (height * width,), generator=draw) * 2.0 - 1.0
        self.register_buffer("places", places.view(height, width), persistent=False)
        self.register_buffer("signs", signs.view(height, width), persistent=False)
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """x (B, C, H, W), z (B, N, d) -> (B, C, H, W)."""
        field = noise.flatten(1)[:, self.places] * self.signs
        return x + (self.strength * field[:, None]).to(x.dtype)
