"""The baseline: generator and discriminator of OASIS, rebuilt from their published architecture.

Schoenfeld et al., "You Only Need Adversarial Supervision for Semantic Image Synthesis", ICLR 2021 (arXiv 2012.04781).
DP-SIMS keeps its idea, a discriminator that segments, and replaces its parts. With the interfaces of this library: ids
0 = void, 1..K, and K+1 logits of which the last is "fake". At ADE20K's size (150 classes, void and fake, 256 px) G has
74.31 M parameters and 194.4 GMACs, D 22.26 M and 48.9: those of the published code (`tests/test_oasis.py`).

B batch, C channels, H and W height and width, K classes, L levels (coarse to fine), d noise channels, R regions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from dpsims.models.generator import CHANNELS_256, conv, each_for_some, in_regions
from dpsims.precision import exact


class Spade(nn.Module):
    """Batch norm, then * (1 + gamma) + beta from the label map and the noise at this size, by a small network of its
    own."""

    def __init__(self, channels: int, condition_channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.shared = nn.Conv2d(condition_channels, hidden, 3, padding=1)
        self.gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.beta = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, C, h, w), condition (B, K+1+d, H, W) -> (B, C, h, w)."""
        hidden = F.relu(self.shared(F.interpolate(condition, x.shape[-2:])))
        return self.norm(x) * (1 + self.gamma(hidden)) + self.beta(hidden)


class SpadeBlock(nn.Module):
    """Residual block of the generator: twice SPADE - LeakyReLU - 3x3; SPADE and 1x1 on a shortcut that widens."""

    def __init__(
        self, in_channels: int, out_channels: int, condition_channels: int, hidden: int, spectral: bool
    ) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.norm1 = Spade(in_channels, condition_channels, hidden)
        self.norm2 = Spade(middle, condition_channels, hidden)
        self.conv1 = conv(in_channels, middle, 3, spectral)
        self.conv2 = conv(middle, out_channels, 3, spectral)
        self.norm_skip = self.skip = None
        if in_channels != out_channels:
            self.norm_skip = Spade(in_channels, condition_channels, hidden)
            self.skip = conv(in_channels, out_channels, 1, spectral, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (B, C_in, h, w), condition (B, K+1+d, H, W) -> (B, C_out, h, w)."""
        h = self.conv1(F.leaky_relu(self.norm1(x, condition), 0.2))
        h = self.conv2(F.leaky_relu(self.norm2(h, condition), 0.2))
        return h + (x if self.skip is None else self.skip(self.norm_skip(x, condition)))


class OasisGenerator(nn.Module):
    """Label map and noise -> image; the noise is d more channels of the label map ("3D noise"), at every level.

    Args:
        num_classes: K, without void; void has a channel too.
        height, width: of label map and image, pixels.
        channels: L+1 numbers, coarse to fine, as in `dpsims.models.Generator`.
        noise_dim: d.
        hidden: width of the small network in every SPADE.
        spectral_norm: on the convolutions of the residual blocks.
    """

    noise_tokens = 1  # so that a noise is (N, d) as elsewhere

    def __init__(
        self,
        num_classes: int,
        height: int,
        width: int,
        channels: tuple[int, ...] = CHANNELS_256,
        noise_dim: int = 64,
        hidden: int = 128,
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes, self.height, self.width, self.noise_dim = num_classes, height, width, noise_dim
        condition = num_classes + 1 + noise_dim
        self.stem = nn.Conv2d(condition, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            SpadeBlock(channels[i], channels[i + 1], condition, hidden, spectral_norm) for i in range(len(channels) - 1)
        )
        self.to_rgb = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def sample_noise(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """z ~ N(0, 1), (B, 1, d), on the CPU."""
        return torch.randn(batch, 1, self.noise_dim, generator=generator)

    def forward(
        self, labels: Tensor, noise: Tensor, regions: Tensor | None = None, strength: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """As of `dpsims.models.Generator.forward`, with N = 1; `strength` multiplies the noise."""
        noise = noise if strength == 1 else strength * noise
        onehot = F.one_hot(labels.long(), self.num_classes + 1).movedim(-1, 1).to(noise.dtype)
        onehot = each_for_some(onehot, len(noise))
        size, noises = onehot.shape[-2:], [noise] if regions is None else noise.unbind(1)
        maps = [z[:, 0, :, None, None].expand(-1, -1, *size) for z in noises]
        if regions is not None:
            maps = [in_regions(maps, F.one_hot(regions.long(), len(maps)).movedim(-1, 1).to(noise.dtype))]
        condition = torch.cat([maps[0], onehot], dim=1)
        steps = len(self.blocks) - 1
        x = self.stem(F.interpolate(condition, (size[0] >> steps, size[1] >> steps)))
        for level, block in enumerate(self.blocks):
            x = block(F.interpolate(x, scale_factor=2.0) if level else x, condition)
        return torch.tanh(exact(self.to_rgb(F.leaky_relu(x, 0.2)))), x


class DownBlock(nn.Module):
    """Residual block of the encoder, to half the size."""

    def __init__(self, in_channels: int, out_channels: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.conv1 = spectral_norm(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        widens = in_channels != out_channels
        self.skip = spectral_norm(nn.Conv2d(in_channels, out_channels, 1)) if widens else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H/2, W/2)."""
        # after the very first input no activation, and its shortcut is halved first: three channels are cheap
        skip = self.skip(F.avg_pool2d(x, 2)) if self.first else F.avg_pool2d(self.skip(x), 2)
        h = self.conv1(x if self.first else F.leaky_relu(x, 0.2))
        return skip + F.avg_pool2d(self.conv2(F.leaky_relu(h, 0.2)), 2)


class UpBlock(nn.Module):
    """Residual block of the decoder, to twice the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        widens = in_channels != out_channels
        self.skip = spectral_norm(nn.Conv2d(in_channels, out_channels, 1)) if widens else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, 2H, 2W)."""
        h = self.conv1(F.interpolate(F.leaky_relu(x, 0.2), scale_factor=2.0))
        return self.skip(F.interpolate(x, scale_factor=2.0)) + self.conv2(F.leaky_relu(h, 0.2))


class Unconditioned(nn.Module):
    """In the place of `FeatureConditioning`: nothing is changed, no noise is added."""

    sigma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList()
        self.register_buffer("sigma", torch.zeros(()))

    def forward(self, features: list[Tensor], draw_noise: object = None) -> list[Tensor]:
        """The features."""
        return features

    def update_noise(self, gap: Tensor) -> None:
        """Nothing."""

    def fit(self, feature_batches: object, add_up: object = None) -> None:
        """Nothing."""


class OasisDiscriminator(nn.Module):
    """UNet from the image alone, trained from scratch: no frozen encoder, no conditioning. It has the methods of
    `dpsims.models.Discriminator`; its features are the image.

    Args:
        num_classes: K, without void.
        channels: of the encoder, from stride 2 to the coarsest.
        last: channels at full size.
    """

    def __init__(
        self, num_classes: int = 12, channels: tuple[int, ...] = (128, 128, 256, 256, 512, 512), last: int = 64
    ) -> None:
        super().__init__()
        self.num_classes, self.frozen, self.strides = num_classes, False, []
        self.conditioning = Unconditioned()
        wide = (3, *channels)
        levels = range(len(channels))
        self.down = nn.ModuleList(DownBlock(wide[i], wide[i + 1], first=i == 0) for i in levels)
        self.up = nn.ModuleList(
            UpBlock(wide[i + 1] * (1 if i == len(channels) - 1 else 2), wide[i] if i else last)
            for i in reversed(levels)
        )
        self.to_logits = nn.Conv2d(last, num_classes + 1, 1)  # without spectral norm

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> logits (B, K+1, H, W): channel k-1 is class k, channel K is "fake"."""
        return self.decode([images], images.shape[-2:])

    def features(self, images: Tensor) -> list[Tensor]:
        """The images alone."""
        return [images]

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """[(B, 3, H, W)] -> logits (B, K+1, H, W)."""
        x, skips = features[0], []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = self.up[0](skips.pop())
        for up in self.up[1:]:
            x = up(torch.cat([skips.pop(), x], dim=1))
        return self.to_logits(x)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """All."""
        return list(self.parameters())
