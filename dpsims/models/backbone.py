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
from safetensors.torch import load_file
from torch import Tensor, nn

from dpsims.errors import InputError
from dpsims.paths import BACKBONES

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

    Args:
        name: a timm model with ``features_only``, or a shipped one such as ``"texture_resnet10t"``.
        pretrained: True for the published (or shipped) weights, False for random ones, or the path of a local state
            dict (safetensors, or a ``.pth`` that `torch.load(weights_only=True)` reads).
        frozen: False trains it like any module (a control; the paper's encoder is frozen).
        strides: of the levels wanted; those that the model lacks are left out.

    Raises:
        InputError: unknown name (the nearest are given), missing or foreign weights.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | str | Path = True,
        frozen: bool = True,
        strides: tuple[int, ...] = STRIDES,
    ) -> None:
        super().__init__()
        self.name, self.frozen = name, frozen
        embedded = name in embedded_backbones()
        model_name, options = EMBEDDED_MODEL if embedded else (name, {})
        if not timm.is_model(model_name.split(".")[0]):
            known = embedded_backbones() + timm.list_models()
            close = get_close_matches(name, known, n=3, cutoff=0.3) or embedded_backbones()
            raise InputError(f"unknown backbone {name!r}; did you mean {', '.join(close)}?")
        from_hub = pretrained is True and not embedded
        try:
            probe = timm.create_model(model_name, features_only=True, pretrained=False, **options)
            levels = [i for i, r in enumerate(probe.feature_info.reduction()) if r in strides]
            self.model = timm.create_model(
                model_name, features_only=True, pretrained=from_hub, out_indices=levels, **options
            )
        except (RuntimeError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"backbone {name!r}: {reason}; give pretrained=PATH to a local file instead") from error
        if embedded and pretrained is True:
            pretrained = BACKBONES / name / "weights.safetensors"
        if not isinstance(pretrained, bool):
            self._load(Path(pretrained))
        self.channels: list[int] = self.model.feature_info.channels()  # L numbers, fine to coarse
        self.strides: list[int] = self.model.feature_info.reduction()
        config = probe.pretrained_cfg  # CLIP and EfficientNet-lite differ from ImageNet's
        for key in ("mean", "std"):
            self.register_buffer(key, torch.tensor(config[key]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(not frozen)
        self.train(not frozen)

    def _load(self, path: Path) -> None:
        """Loads a state dict of the whole model or of its feature layers; a classifier head is left aside."""
        if not path.is_file():
            raise InputError(f"{path}: no such file of backbone weights")
        try:
            if path.suffix == ".safetensors":
                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the readers raise many kinds; all of them mean that the file is not usable
            raise InputError(
                f"{path}: not a readable state dict ({type(error).__name__}); give safetensors, or a .pth with tensors "
                "alone"
            ) from error
        if not isinstance(state, dict):
            raise InputError(f"{path}: holds a {type(state).__name__}, not a state dict; save model.state_dict()")
        wanted = self.model.state_dict()
        missing = sorted(wanted.keys() - state.keys())
        if missing:
            raise InputError(
                f"{path}: lacks {len(missing)} tensors of {self.name}, such as {missing[0]}; another model?"
            )
        for key, value in wanted.items():
            if state[key].shape != value.shape:
                there, here = tuple(state[key].shape), tuple(value.shape)
                raise InputError(f"{path}: {key} has shape {there}, {self.name} needs {here}; another model?")
        self.model.load_state_dict({key: state[key].to(wanted[key].dtype) for key in wanted})

    def train(self, mode: bool = True) -> "Backbone":
        """Keeps a frozen encoder in evaluation mode whatever is asked."""
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [-1, 1] -> L feature maps (B, C_l, H/s_l, W/s_l), fine to coarse."""
        x = (images * 0.5 + 0.5 - self.mean) / self.std
        return self.model(x)
