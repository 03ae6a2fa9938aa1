"""The frozen, pre-trained image backbone that is the encoder of the discriminator's UNet.

"Unlocking Pre-trained Image Backbones for Semantic Image Synthesis" (arXiv 2312.13314), Sec. 3.1. Published: the
encoder is a pre-trained image backbone and stays fixed. Default: its own preprocessing, native resolution,
strides 4 to 32.

B batch, C channels, H and W height and width, L levels.
"""

from difflib import get_close_matches
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpsims.errors import InputError
from dpsims.models.backbone_weights import load_backbone
from dpsims.models.timm_pyramid import fit, padded, run
from dpsims.paths import BACKBONES
from dpsims.precision import exact

STRIDES = (4, 8, 16, 32)  # the levels that the discriminator uses, unless told otherwise

# The slim ResNet that `dpsims pretrain` trains on the texture world: the project's own stand-in for ImageNet weights.
EMBEDDED_MODEL = ("resnet10t", {"channels": (32, 64, 128, 256)})


def embedded_backbones() -> list[str]:
    """Names of the backbones that are shipped in data/backbones, usable wherever a timm name is."""
    return sorted(path.parent.name for path in BACKBONES.glob("*/weights.safetensors"))


class Backbone(nn.Module):
    """A timm model as a frozen feature pyramid with its own input normalisation.

    It is frozen by its own class: parameters ask for no gradient and `train()` leaves it in evaluation mode, so that
    batch norm statistics cannot drift. Gradients still flow *through* it to its input, which is how the generator
    learns.

    Images may have any size: they are padded at the right and below to a multiple of what the model needs, or, where it
    takes one size alone, resized to that (a deviation; `fixed` tells). Features are on the grid of the image at each
    stride: a model with other strides than asked for, such as a plain ViT, has its levels interpolated to it.

    Args:
        name: a timm model with ``features_only``, or a shipped one such as ``"texture_resnet10t"``.
        pretrained: True for the published (or shipped) weights, False for random ones, or the path of a local state
            dict of the classifier or of its features (safetensors, or a ``.pth`` that `torch.load(weights_only=True)`
            reads).
        frozen: False trains it like any module (a control; the paper's encoder is frozen).
        strides: of the levels wanted, ascending.
        size: (H, W) of the images that are to come, in pixels; only some models have to know.
        checkpointing: keeps few activations for the backward pass, and computes the others again: less memory.

    Raises:
        InputError: unknown name (the nearest are given), a model without features or for other sizes alone, missing or
            foreign weights, or `checkpointing` of a model that does not know it.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str | Path = True,
        frozen: bool = True,
        strides: tuple[int, ...] = STRIDES,
        size: tuple[int, int] = (256, 256),
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.frozen = name, frozen
        embedded = name in embedded_backbones()
        model_name, options = EMBEDDED_MODEL if embedded else (name, {})
        if not timm.is_model(model_name.split(".")[0]):
            known = embedded_backbones() + timm.list_models()
            close = get_close_matches(name, known, n=3, cutoff=0.3) or embedded_backbones()
            raise InputError(f"unknown backbone {name!r}; did you mean {', '.join(close)}?")
        fitted = fit(model_name, strides, size, pretrained is not False, **options)
        try:
            from_hub = pretrained is True and not embedded
            self.model = timm.create_model(model_name, features_only=True, pretrained=from_hub, **fitted.options)
        except (RuntimeError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"backbone {name!r}: {reason}; give pretrained=PATH to a local file instead") from error
        if embedded and pretrained is True:
            pretrained = BACKBONES / name / "weights.safetensors"
        if not isinstance(pretrained, bool):
            load_backbone(self.model, Path(pretrained), name)
        self.channels, self.strides = fitted.channels, list(strides)  # L numbers each, fine to coarse
        self.native_strides = fitted.reductions  # of the model itself; others are interpolated
        self.multiple, self.fixed = fitted.multiple, fitted.fixed
        self._levels = [fitted.options["out_indices"].index(level) for level in fitted.levels]
        for key, value in zip(("mean", "std"), fitted.normalisation, strict=True):  # CLIP's differ from ImageNet's
            self.register_buffer(key, torch.tensor(value).view(1, 3, 1, 1), persistent=False)
        if checkpointing:
            able = [m for m in (self.model, getattr(self.model, "model", None)) if hasattr(m, "set_grad_checkpointing")]
            if not able:
                raise InputError(f"backbone {name!r}: knows no checkpointing; set discriminator.checkpointing=false")
            able[0].set_grad_checkpointing(True)
        self.requires_grad_(not frozen)
        self.train(not frozen)

    def train(self, mode: bool = True) -> "Backbone":
        """Keeps a frozen encoder in evaluation mode whatever is asked."""
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> L feature maps (B, C_l, ceil(H/s_l), ceil(W/s_l)), fine to coarse."""
        x, size = (images * 0.5 + 0.5 - self.mean) / self.std, images.shape[-2:]
        if self.fixed:
            if tuple(size) != self.fixed:
                x = F.interpolate(x, self.fixed, mode="bilinear", antialias=True, align_corners=False)
            covered = size  # what the features show, in pixels of the image
        else:
            covered = padded(size, self.multiple)
            if covered != size:
                x = F.pad(x, (0, covered[1] - size[1], 0, covered[0] - size[0]), mode="replicate")
        features = run(self.model, x)
        return [to_grid(features[level], covered, size, s) for level, s in zip(self._levels, self.strides, strict=True)]


def to_grid(feature: Tensor, covered: tuple[int, int], size: tuple[int, int], stride: int) -> Tensor:
    """A feature map (B, C, h, w) that shows `covered` pixels -> (B, C, ceil(H/s), ceil(W/s)), whose cell (i, j) is
    centred on pixel ((i + 1/2) s, (j + 1/2) s) of an image of `size` (H, W); interpolated where it has none."""
    grid = [-(-side // stride) for side in size]
    if all(have * stride == all_of_it for have, all_of_it in zip(feature.shape[-2:], covered, strict=True)):
        return feature[..., : grid[0], : grid[1]]
    rows, columns = (
        (torch.arange(n, device=feature.device) + 0.5) * stride / side * 2 - 1
        for n, side in zip(grid, covered, strict=True)
    )
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).expand(len(feature), -1, -1, -1)
    feature = exact(feature)
    return F.grid_sample(feature, places.to(feature.dtype), padding_mode="border", align_corners=False)
