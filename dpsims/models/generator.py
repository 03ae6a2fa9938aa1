"""The two-pyramid generator: a label-map pyramid that carries the noise modulates an image pyramid.

arXiv 2312.13314, Sec. 3.2. Published: (i) an image network goes from the low-resolution label map to the
full-resolution image; (ii) a label-map encoder turns the full-resolution label map into multi-scale features that
modulate (i); attention for context; the noise enters the multi-scale label-map features by cross-attention. Recalled:
the encoder is UNet-like with self-attention at low resolution, the noise is a set of tokens behind a mapping network
shared by all scales. Default: blocks and modulation of Dual-Pyramid GAN.

B batch, C channels, H and W height and width, K classes, L levels (coarse to fine), N noise tokens, d their width,
R regions.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from dpsims.models.attention import NoiseCrossAttention, NoiseMapping, SelfAttention
from dpsims.precision import exact

# widths of the image network, coarse to fine, from 8 x 8 to 256 x 256 (Dual-Pyramid GAN, as OASIS)
CHANNELS_256 = (1024, 1024, 1024, 512, 256, 128, 64)


class ReplicateConv2d(nn.Conv2d):
    """A convolution with replicated borders, padded in the precision of its input: autocast would pad in float32."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        device = "cpu" if input.is_meta else input.device.type  # there is no autocast for meta tensors
        with torch.autocast(device, enabled=False):
            padded = F.pad(input, self._reversed_padding_repeated_twice, mode="replicate")
        return F.conv2d(padded, weight, bias, self.stride)


def conv(
    in_channels: int, out_channels: int, kernel: int, spectral: bool, bias: bool = True, padding: str = "zeros"
) -> nn.Module:
    """A convolution that keeps the size, under spectral norm if asked."""
    kind = ReplicateConv2d if padding == "replicate" else nn.Conv2d
    layer = kind(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias, padding_mode=padding)
    return spectral_norm(layer) if spectral else layer


def in_regions(maps: list[Tensor], regions: Tensor) -> Tensor:
    """R maps (B, C, h, w), each where its region is, mixed where they meet: regions (B, R, H, W) -> (B, C, h, w)."""
    if len(maps) == 1:
        return maps[0]
    shares = F.adaptive_avg_pool2d(regions, maps[0].shape[-2:]).to(maps[0].dtype)
    return sum(m * shares[:, r : r + 1] for r, m in enumerate(maps))


def each_for_some(maps: Tensor, batch: int) -> Tensor:
    """Maps (M, C, H, W) -> (B, C, H, W): each of the M for B / M neighbours in the batch."""
    if len(maps) == batch:
        return maps
    last = maps.permute(0, 2, 3, 1)[:, None]  # channels last, as the convolutions have them: their order is kept
    return last.expand(-1, batch // len(maps), -1, -1, -1).flatten(0, 1).permute(0, 3, 1, 2)


class LabelEncoder(nn.Module):
    """Full-resolution label map -> one feature map a level: a small UNet, `channels` wide everywhere (recalled).

    Args:
        num_classes: K; the input has K+1 channels, void being one of them.
        channels: of each level.
        heights: of the L levels, coarse to fine.
        attention_max_size: self-attention at levels of at most this height; 0 for none.
    """

    def __init__(self, num_classes: int, channels: int, heights: list[int], attention_max_size: int, spectral: bool):
        super().__init__()
        levels = len(heights)
        self.stem = conv(num_classes + 1, channels, 3, spectral)
        self.down = nn.ModuleList(conv(channels, channels, 3, spectral) for _ in range(levels - 1))
        self.up = nn.ModuleList(conv(2 * channels, channels, 3, spectral) for _ in range(levels - 1))
        self.attention = nn.ModuleList(
            SelfAttention(channels) if height <= attention_max_size else nn.Identity() for height in heights
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels) for _ in heights)

    def forward(self, onehot: Tensor) -> list[Tensor]:
        """(B, K+1, H, W) -> L maps (B, C, H_l, W_l), coarse to fine, of about unit RMS."""
        x = self.stem(onehot)
        skips = [x]
        for down in self.down:
            x = down(F.avg_pool2d(F.leaky_relu(x, 0.2), 2))
            skips.append(x)
        skips.reverse()  # coarse to fine
        x = self.attention[0](skips[0])
        features = [self.norms[0](x)]
        for level, up in enumerate(self.up, start=1):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = up(F.leaky_relu(torch.cat([x, skips[level]], dim=1), 0.2))
            x = self.attention[level](x)
            features.append(self.norms[level](x))
        return features


class Modulation(nn.Module):
    """norm(x) * (1 + gamma) + beta, with gamma and beta by 3x3 convolutions of the level's label features.

    No MLP is shared between label map and gamma, beta: the label pyramid has done that work once (Dual-Pyramid GAN).
    """

    def __init__(self, channels: int, label_channels: int, norm: str, spectral: bool) -> None:
        super().__init__()
        # without affine parameters: gamma and beta are those
        self.norm = nn.BatchNorm2d(channels, affine=False) if norm == "batch" else nn.GroupNorm(
            math.gcd(channels, 8), channels, affine=False
        )  # fmt: skip
        self.to_gamma_beta = conv(label_channels, 2 * channels, 3, spectral)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """x (B, C, H, W), labels (B, C_label, H, W), or (M, ...) each for B / M neighbours -> (B, C, H, W)."""
        gamma, beta = each_for_some(self.to_gamma_beta(labels), len(x)).chunk(2, dim=1)
        # group norm's backward is slower in bfloat16 than in float32 on a CPU
        return self.norm(exact(x)).to(gamma.dtype) * (1 + gamma) + beta


class GeneratorBlock(nn.Module):
    """Residual block of the image network: twice modulation - LeakyReLU - 3x3, and a modulated 1x1 shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, label_channels: int, norm: str, spectral: bool, padding: str
    ) -> None:
        super().__init__()
        middle = min(in_channels, out_channels)
        self.modulate1 = Modulation(in_channels, label_channels, norm, spectral)
        self.modulate2 = Modulation(middle, label_channels, norm, spectral)
        self.conv1 = conv(in_channels, middle, 3, spectral, padding=padding)
        self.conv2 = conv(middle, out_channels, 3, spectral, padding=padding)
        self.shortcut = (
            conv(in_channels, out_channels, 1, spectral, bias=False) if in_channels != out_channels else None
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """x (B, C_in, H, W), labels as in `Modulation` -> (B, C_out, H, W)."""
        h = self.modulate1(x, labels)
        skip = x if self.shortcut is None else self.shortcut(h)
        h = self.conv1(F.leaky_relu(h, 0.2))
        h = self.conv2(F.leaky_relu(self.modulate2(h, labels), 0.2))
        return skip + h


class Generator(nn.Module):
    """Label map and noise -> image.

    Args:
        num_classes: K, without void; void has a channel too, so it can be painted.
        height, width: of label map and image, pixels.
        channels: L+1 numbers, coarse to fine: block l goes from channels[l] to channels[l+1]. At 256 px (default, from
            Dual-Pyramid GAN): 1024, 1024, 1024, 512, 256, 128, 64, starting at 8 x 8.
        label_channels: of every level of the label pyramid (64 at 256 px, default).
        attention: self-attention in the ``label_encoder`` (place recalled), in ``both`` networks, or ``none``.
        attention_max_size: at levels of at most this height.
        noise_tokens, noise_dim, noise_heads: N, d and the heads of the cross-attention.
        noise_sharpness: see `NoiseCrossAttention`.
        noise_max_size: cross-attention noise at levels of at most this height.
        noise_places: the queries of the cross-attention know their place, see `NoiseCrossAttention`.
        upsample: ``bilinear`` or ``nearest``, between the blocks.
        padding: of the image network, ``zeros`` or ``replicate``; zeros leave a frame around small images.
        norm: ``group`` or ``batch``, before the modulation.
    """

    def __init__(
        self,
        num_classes: int = 12,
        height: int = 256,
        width: int = 256,
        *,
        channels: tuple[int, ...] = CHANNELS_256,
        label_channels: int = 64,
        attention: str = "label_encoder",
        attention_max_size: int = 16,
        noise_tokens: int = 32,
        noise_dim: int = 64,
        noise_heads: int = 4,
        noise_sharpness: float = 0.25,
        noise_max_size: int = 64,
        noise_places: bool = False,
        upsample: str = "bilinear",
        padding: str = "zeros",
        norm: str = "group",
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        levels = len(channels) - 1
        self.num_classes, self.height, self.width, self.upsample = num_classes, height, width, upsample
        self.noise_tokens, self.noise_dim = noise_tokens, noise_dim
        self.heights = [height >> (levels - 1 - level) for level in range(levels)]  # coarse to fine
        inner = attention_max_size if attention != "none" else 0
        self.label_encoder = LabelEncoder(num_classes, label_channels, self.heights, inner, spectral_norm)
        self.mapping = NoiseMapping(noise_dim)
        self.noise = nn.ModuleList(
            NoiseCrossAttention(
                label_channels,
                noise_tokens,
                noise_dim,
                noise_heads,
                noise_sharpness,
                places=(h, width * h // height) if noise_places else None,
            )
            if h <= noise_max_size
            else None
            for h in self.heights
        )
        self.stem = conv(num_classes + 1, channels[0], 3, spectral_norm)
        self.blocks = nn.ModuleList(
            GeneratorBlock(channels[level], channels[level + 1], label_channels, norm, spectral_norm, padding)
            for level in range(levels)
        )
        outer = attention_max_size if attention == "both" else 0
        self.attention = nn.ModuleList(
            SelfAttention(channels[level + 1]) if h <= outer else nn.Identity() for level, h in enumerate(self.heights)
        )
        self.to_rgb = conv(channels[-1], 3, 3, spectral=False, padding=padding)

    def onehot(self, labels: Tensor) -> Tensor:
        """Label ids (B, H, W), 0 to K -> (B, K+1, H, W) float, void first."""
        return F.one_hot(labels.long(), self.num_classes + 1).movedim(-1, 1).to(self.to_rgb.weight.dtype)

    def sample_noise(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """z ~ N(0, 1), (B, N, d), on the CPU, so that a seed means the same on every device."""
        return torch.randn(batch, self.noise_tokens, self.noise_dim, generator=generator)

    def label_features(self, onehot: Tensor, noise: Tensor, regions: Tensor, strength: float = 1.0) -> list[Tensor]:
        """Label pyramid with the noise in it.

        Args:
            onehot: (M, K+1, H, W), each map for B / M neighbouring noises.
            noise: z (B, R, N, d), one for each of R regions.
            regions: (B, R, H, W), the share of each region in a pixel.
            strength: what the noise adds to the features is multiplied by it.

        Returns:
            L maps (B, C, H_l, W_l), coarse to fine; (M, C, H_l, W_l) at levels without noise.
        """
        tokens = self.mapping(noise).unbind(1)
        features = []
        for f, attend in zip(self.label_encoder(onehot), self.noise, strict=True):
            if attend is not None:
                f = each_for_some(f, len(noise))
                added = in_regions([attend(f, t) for t in tokens], regions)
                f = f + (added if strength == 1 else strength * added)
            features.append(f)
        return features

    def features(self, onehot: Tensor, noise: Tensor, regions: Tensor, strength: float = 1.0) -> Tensor:
        """As `label_features` -> features before the RGB layer (B, channels[-1], H, W)."""
        labels = self.label_features(onehot, noise, regions, strength)
        x = self.stem(F.adaptive_avg_pool2d(onehot, labels[0].shape[-2:]))  # shares of the classes in a coarse cell
        x = each_for_some(x, len(noise))
        for level, (block, attend) in enumerate(zip(self.blocks, self.attention, strict=True)):
            if level:
                bilinear = self.upsample == "bilinear"
                x = F.interpolate(x, scale_factor=2.0, mode=self.upsample, align_corners=False if bilinear else None)
            x = attend(block(x, labels[level]))
        return x

    def forward(
        self, labels: Tensor, noise: Tensor, regions: Tensor | None = None, strength: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Images, and the features that they are made of.

        Args:
            labels: (M, H, W) integer ids, 0 = void, 1..K, M being B or a divisor of it: each map is for B / M
                neighbouring noises, and what does not depend on the noise is then computed once.
            noise: z (B, N, d), or (B, R, N, d) with `regions`; what goes in is what is used, there is no other
                randomness.
            regions: (B, H, W) integers in 0..R-1: which of the R noises a place listens to (default: one for all).
            strength: of the noise in the label features: 0 without noise, 1 as trained.

        Returns:
            images (B, 3, H, W) in [-1, 1], and features before the RGB layer (B, channels[-1], H, W), for the diversity
            constraint.
        """
        if regions is None:
            noise, shares = noise[:, None], noise.new_ones(len(noise), 1, 1, 1)
        else:
            shares = F.one_hot(regions.long(), noise.shape[1]).movedim(-1, 1).to(noise.dtype)
        features = self.features(self.onehot(labels), noise, shares, strength)
        return torch.tanh(exact(self.to_rgb(F.leaky_relu(features, 0.2)))), features
