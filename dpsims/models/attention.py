"""Attention in the generator: self-attention for context, cross-attention by which the noise enters (arXiv 2312.13314).

Published: both exist, and the noise enters the multi-scale label-map features by cross-attention. The details are
recalled or defaults (see each class).

B batch, C channels, H and W height and width, N noise tokens, d their width, h heads.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Residual multi-head self-attention over the pixels of a map, after a group norm (place and form recalled).

    The output projection starts at a tenth, so that a block starts near the identity.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads if channels % heads == 0 else 1
        self.norm = nn.GroupNorm(1, channels)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.to_out = nn.Conv2d(channels, channels, 1)
        with torch.no_grad():
            self.to_out.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same; cost O((HW)^2), hence at low resolution only."""
        batch, channels, height, width = x.shape
        qkv = self.to_qkv(self.norm(x)).view(batch, 3, self.heads, channels // self.heads, height * width)
        q, k, v = qkv.unbind(1)  # each (B, h, C/h, HW)
        # plain products: the maps are small, and the fused kernel's backward is several times slower on a CPU
        weights = (q.transpose(-1, -2) @ k / math.sqrt(channels // self.heads)).softmax(dim=-1)
        out = v @ weights.transpose(-1, -2)
        return x + self.to_out(out.reshape(batch, channels, height, width))


class NoiseMapping(nn.Module):
    """M, shared by all scales: three residual linear layers on every noise token (recalled)."""

    def __init__(self, dim: int, layers: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))

    def forward(self, noise: Tensor) -> Tensor:
        """z (B, N, d) -> M(z) (B, N, d)."""
        for layer in self.layers:
            noise = noise + F.leaky_relu(layer(noise), 0.2)
        return noise


class NoiseCrossAttention(nn.Module):
    """n_s = softmax(Q K^T / sqrt(d_h)) V W_O, added to the label features of a scale (details recalled).

    Queries come from the label features, keys and values from M(z): every place chooses what noise it listens to, at a
    cost of O(HW N). W_O is *not* zero at the start, or the noise would never arrive. A near-uniform softmax averages N
    tokens and shrinks the noise by up to sqrt(N); against that a learned embedding tells the tokens apart, and the
    values are normalised and scaled by a learned gain that starts n_s at about the RMS of the label features, 1
    (default).

    Args:
        channels: C of the label features.
        tokens, dim, heads: N, d, h.
        sharpness: standard deviation of the attention logits at the start (default). At 1 two classes share a third of
            their noise, at 0.25 nearly all of it: what concerns the whole image, such as the light, is found together.
        places: height and width of the maps where queries are to know their place too, by a fixed random code for every
            place and a projection that starts at 0 (default). Else all places of a class that are far from its borders
            hear the same noise, and grain, leaves and waves must be made out of nothing: a small generator makes
            stripes.
    """

    def __init__(
        self,
        channels: int,
        tokens: int,
        dim: int,
        heads: int,
        sharpness: float = 0.25,
        places: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.from_place = None
        if places:
            drawn = torch.Generator().manual_seed(places[0])
            codes = torch.randn(1, channels, *places, generator=drawn, device="cpu")
            self.register_buffer("places", codes, persistent=False)  # fixed by code, so not stored
            self.from_place = nn.Conv2d(channels, channels, 1, bias=False)
            nn.init.zeros_(self.from_place.weight)
        self.norm_keys = nn.LayerNorm(dim)
        self.norm_values = nn.LayerNorm(dim)
        self.embedding = nn.Parameter(torch.randn(tokens, dim))
        self.to_q = nn.Conv2d(channels, channels, 1, bias=False)
        self.to_k = nn.Linear(dim, channels, bias=False)
        self.to_v = nn.Linear(dim, channels, bias=False)
        self.to_out = nn.Conv2d(channels, channels, 1, bias=False)
        for layer, fan_in in ((self.to_q, channels), (self.to_k, dim), (self.to_v, dim), (self.to_out, channels)):
            nn.init.normal_(layer.weight, std=fan_in**-0.5)  # unit variance in, unit variance out
        with torch.no_grad():
            self.to_q.weight.mul_(sharpness)
        # with logits N(0, sharpness^2) the softmax keeps E[w^2] = exp(sharpness^2) / N of the tokens' variance
        self.gain = nn.Parameter(torch.full((1,), math.sqrt(tokens / math.exp(sharpness**2))))

    def weights(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """Attention weights (B, h, N, HW) over the N tokens, for every place."""
        batch, channels, height, width = labels.shape
        q = self.to_q(labels)
        if self.from_place is not None:
            q = q + self.from_place(self.places)
        q = q.view(batch, self.heads, channels // self.heads, height * width)
        k = self.to_k(self.norm_keys(tokens + self.embedding)).view(batch, -1, self.heads, channels // self.heads)
        # plain products: N is small, and the fused kernel's backward is several times slower on a CPU
        return (k.transpose(1, 2) @ q / math.sqrt(channels // self.heads)).softmax(dim=2)

    def forward(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """Label features (B, C, H, W), tokens M(z) (B, N, d) -> n_s (B, C, H, W)."""
        v = self.to_v(self.norm_values(tokens)).view(len(tokens), tokens.shape[1], self.heads, -1)
        noise = v.permute(0, 2, 3, 1) @ self.weights(labels, tokens)  # (B, h, C/h, HW)
        return self.gain * self.to_out(noise.reshape(labels.shape))
