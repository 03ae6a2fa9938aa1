"""The discriminator: frozen backbone -> feature conditioning -> trained UNet decoder -> a class for every pixel.

arXiv 2312.13314, Sec. 3.1. Published: UNet shape with a fixed pre-trained encoder, conditioning and a trainable
decoder. Recalled: K classes and one more, "fake" (OASIS's lineage). Default: the decoder's blocks are OASIS's, without
backbone skips at the two finest levels; at 64 px one at stride 2 lets D see what a stride of 4 hides.

B batch, C channels, H and W height and width, K classes, L levels.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from dpsims.errors import InputError
from dpsims.models.backbone import STRIDES, Backbone
from dpsims.models.conditioning import FeatureConditioning


class DecoderBlock(nn.Module):
    """LeakyReLU - (up x2) - 3x3 - LeakyReLU - 3x3, beside a 1x1 shortcut; spectral norm on all three (OASIS,
    default)."""

    def __init__(self, in_channels: int, out_channels: int, upsample: bool) -> None:
        super().__init__()
        self.upsample = upsample
        self.conv1 = spectral_norm(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = spectral_norm(nn.Conv2d(in_channels, out_channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, 2H, 2W), or (B, C_out, H, W) without up-sampling."""
        skip = self.shortcut(x)  # 1x1 before nearest up-sampling equals 1x1 after it, at a quarter of the cost
        x = F.leaky_relu(x, 0.2)
        if self.upsample:
            x, skip = F.interpolate(x, scale_factor=2.0), F.interpolate(skip, scale_factor=2.0)
        return skip + self.conv2(F.leaky_relu(self.conv1(x), 0.2))


class Discriminator(nn.Module):
    """UNet discriminator with a frozen, pre-trained encoder.

    Args:
        backbone: a timm name, or a shipped backbone; see `Backbone`.
        num_classes: K, without void.
        pretrained: True, False, or a path; see `Backbone`.
        frozen: False trains the encoder (a control).
        channels: of the decoder at strides 32, 16, 8, 4, 2, 1. For ConvNeXt-L at 256 px (default):
            512, 512, 256, 256, 128, 64.
        finest_stride: of the levels that D sees: 4 (default), 2 where the backbone has that level, or 1 for the image
            itself beside the backbone's levels (a deviation: D then sees what any frozen encoder is blind to).
        conditioning: keyword arguments of `FeatureConditioning`.
        size, checkpointing: of the images that are to come, (H, W) in pixels, and of the encoder; see `Backbone`.

    Raises:
        InputError: as of `Backbone`, or `finest_stride` 2 where the backbone has no such level.
    """

    def __init__(
        self,
        backbone: str = "texture_resnet10t",
        num_classes: int = 12,
        *,
        pretrained: bool | str | Path = True,
        frozen: bool = True,
        channels: tuple[int, ...] = (512, 512, 256, 256, 128, 64),
        finest_stride: int = 4,
        conditioning: dict | None = None,
        size: tuple[int, int] = (256, 256),
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        strides = (2, *STRIDES) if finest_stride == 2 else STRIDES
        self.backbone = Backbone(backbone, pretrained, frozen, strides, size, checkpointing)
        if finest_stride == 2 and self.backbone.native_strides[0] != 2:
            raise InputError(f"backbone {backbone!r}: has no level of stride 2; give finest_stride 4 or 1")
        self.sees_pixels = finest_stride == 1
        levels = [12] * self.sees_pixels + self.backbone.channels
        self.strides = [1] * self.sees_pixels + self.backbone.strides
        self.conditioning = FeatureConditioning(levels, **(conditioning or {}))
        skips = [*levels[::-1], 0, 0]  # coarse to fine; none at the finest levels
        self.squeeze = None  # a skip at stride 2 is as wide as all else there; less of it costs less
        if finest_stride == 2:
            self.squeeze = spectral_norm(nn.Conv2d(skips[4], channels[5], 1))
            skips[4] = channels[5]
        self.blocks = nn.ModuleList([DecoderBlock(skips[0], channels[0], upsample=False)])
        for level in range(1, 6):  # each block takes the level above, with its skip, one level finer
            skip = skips[level - 1] if level > 1 else 0
            self.blocks.append(DecoderBlock(channels[level - 1] + skip, channels[level], upsample=True))
        self.to_logits = nn.Conv2d(channels[5], num_classes + 1, 1)  # without spectral norm

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> L raw features (B, C_l, H_l, W_l), fine to coarse."""
        pixels = [F.pixel_unshuffle(images, 2)] if self.sees_pixels else []  # all of it at half its size: 12 channels
        return pixels + self.backbone(images)

    def forward(self, images: Tensor, draw_noise: Callable[[tuple[int, ...]], Tensor] | None = None) -> Tensor:
        """Logits of every pixel.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            draw_noise: see `FeatureConditioning`; None, as in evaluation, injects none.

        Returns:
            (B, K+1, H, W): channel k-1 is class k, channel K is "fake".
        """
        return self.decode(self.conditioning(self.features(images), draw_noise), images.shape[-2:])

    def decode(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Conditioned features, fine to coarse -> logits (B, K+1, H, W)."""
        coarse_to_fine = features[::-1]
        x = self.blocks[0](coarse_to_fine[0])
        for level, block in enumerate(self.blocks[1:], start=1):
            if 2 <= level <= len(features):
                skip = coarse_to_fine[level - 1]
                if skip.shape[-2:] != x.shape[-2:]:  # inputs that are no multiple of 32 pixels
                    x = F.interpolate(x, size=skip.shape[-2:])
                if level == 5 and self.squeeze is not None:
                    skip = self.squeeze(skip)
                x = torch.cat([x, skip.to(x.dtype)], dim=1)
            x = block(x)
        if x.shape[-2:] != tuple(size):
            x = F.interpolate(x, size=size)
        return self.to_logits(F.leaky_relu(x, 0.2))

    @property
    def frozen(self) -> bool:
        """Whether the encoder is."""
        return self.backbone.frozen

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The decoder's, and the encoder's only where it is not frozen."""
        return [p for p in self.parameters() if p.requires_grad]
