"""The evaluation network: a small UNet that names the class of every pixel and the mood of an image; and features.

It shares no weights with the discriminator that it judges: another architecture (a plain UNet with group normalisation,
where the discriminator uses a timm ResNet) and another seed. Of Scenes it has images of its own (split "evaluator",
which no model is trained on); other data have one training split, which it shares with the models, as published
segmenters do. Standing: the whole network is a *default* of this project. The paper measures with Inception and with
published segmenters; those cannot judge procedural scenes.

Shapes: B images, C channels, H and W pixels, K classes, M moods, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpsims.errors import InputError
from dpsims.images import from_bytes, to_bytes  # noqa: F401  a notebook takes the second from here

WIDTHS = (24, 48, 96, 160)  # channels at 1, 1/2, 1/4 and 1/8 of the size
FEATURE_LEVELS = (1, 2)  # pooled for the distance; the deepest level is all but blind to blur and drawn to moods alone
GROUPS = 8


@dataclass(frozen=True)
class Judgement:
    """What the network says of a batch of images."""

    classes: Tensor  # (B,K,H,W) logits, channel k-1 is class k
    moods: Tensor | None  # (B,M) logits; None of a network without a mood head
    features: Tensor  # (B,F) standardised: mean 0 and standard deviation 1 over real images, each on its own


class ConvBlock(nn.Module):
    """3x3 convolution, group normalisation, ReLU; as many times as asked."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(depth):
            layers += [
                nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1, bias=False),
                nn.GroupNorm(GROUPS, outputs),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B,C_in,H,W) -> (B,C_out,H,W)."""
        return self.layers(x)


class Segmenter(nn.Module):
    """UNet with a class head, a mood head and pooled features.

    Args:
        num_classes: K, without void.
        moods: names of the moods, in the order of the mood head; none: no such head.
        height, width: size in pixels of the images it is trained on, multiples of 8.
        widths: channels of the four levels, multiples of 8.
    """

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(
        self,
        num_classes: int,
        moods: tuple[str, ...],
        height: int,
        width: int,
        widths: tuple[int, int, int, int] = WIDTHS,
    ) -> None:
        super().__init__()
        self.num_classes, self.moods, self.height, self.width, self.widths = num_classes, moods, height, width, widths
        self.sha256 = ""  # of the weights file, set by `load_evaluator`, as the following
        self.dataset, self.names = "", ()  # what it was trained on, and the K classes
        self.quality: dict[str, float | None] = {}  # on held-out real images
        self.down = nn.ModuleList(
            ConvBlock(inputs, outputs, depth=2) for inputs, outputs in zip((3, *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(
            ConvBlock(below + skip, skip, depth=1) for below, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.class_head = nn.Conv2d(widths[0], num_classes, 1)
        self.mood_head = nn.Linear(2 * widths[-1], len(moods)) if moods else None
        self.num_features = 2 * sum(widths[level] for level in FEATURE_LEVELS)
        self.register_buffer("feature_mean", torch.zeros(self.num_features))
        self.register_buffer("feature_std", torch.ones(self.num_features))

    def encode(self, images: Tensor) -> list[Tensor]:
        """Levels from fine to coarse, (B,C,H,W) to (B,C,H/8,W/8)."""
        levels = [self.down[0](images)]
        for block in self.down[1:]:
            levels.append(block(functional.max_pool2d(levels[-1], 2)))
        return levels

    def raw_features(self, levels: list[Tensor]) -> Tensor:
        """Pooled levels 1 and 2, not yet standardised, (B,F)."""
        return torch.cat([pool(levels[level]) for level in FEATURE_LEVELS], dim=1)

    def forward(self, images: Tensor) -> Judgement:
        """Images (B,3,H,W) float in [-1,1], H and W multiples of 8."""
        levels = self.encode(images)
        x = levels[-1]
        for block, skip in zip(self.up, levels[-2::-1], strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2, mode="nearest"), skip], dim=1))
        features = (self.raw_features(levels) - self.feature_mean) / self.feature_std
        moods = None if self.mood_head is None else self.mood_head(pool(levels[-1])).float()
        return Judgement(self.class_head(x).float(), moods, features)

    @torch.inference_mode()
    def judge(self, images: Tensor) -> Judgement:
        """Judge 8-bit images (B,3,H,W) uint8, on the device of the network, in float32; H and W as it was trained.

        Raises:
            InputError: images of another size: features and IoU of another scale would be measured.
        """
        if tuple(images.shape[-2:]) != (self.height, self.width):
            raise InputError(
                f"the evaluation network was trained at {self.height}x{self.width} and the images are "
                f"{images.shape[-2]}x{images.shape[-1]}; train one of that size with dpsims "
                "train-evaluators (--size, or --data for data of your own)"
            )
        floats = from_bytes(images.to(self.feature_mean.device))
        return self(floats.contiguous(memory_format=torch.channels_last))


def pool(level: Tensor) -> Tensor:
    """Mean and standard deviation over the pixels: (B,C,H,W) -> (B,2C) float32."""
    level = level.float()
    return torch.cat([level.mean((2, 3)), (level.var((2, 3), unbiased=False) + 1e-6).sqrt()], dim=1)
