"""A second opinion on realism: features of a network that never saw a scene, for the second Fréchet distance.

The method's claim A8 is that a ranking holds under features that do not share the discriminator's pre-training (the
paper measures FID with SwAV features beside Inception's: published). What is shared here, said plainly:

- The features of `unet.py` share *nothing* with the discriminator's pre-training, but they know scenes and their
  moods: trained on real images of the very distribution that is judged.
- These features, of `texture_resnet10t_b`, know nothing of scenes, as Inception knows nothing of a new data set; but
  they share the *kind* of pre-training and the architecture with the discriminator's backbone (the texture world; other
  seed, other images). A generator that cheats such features in general would cheat them too.

So a ranking is supported where both distances agree, and not where one of them alone says it. The same network is the
default of the contrastive loss: `kinship` says whether a generator was trained against it.
Standing: default of this project; SwAV weights cannot be had offline and cannot judge procedural scenes.

Shapes: B images, H and W pixels, T features.
"""

import torch
from torch import Tensor

from dpsims.config import Config
from dpsims.evaluation.unet import pool
from dpsims.files import sha256
from dpsims.images import from_bytes
from dpsims.models.backbone import Backbone
from dpsims.paths import BACKBONES

NAME = "texture_resnet10t_b"
STRIDES = (4, 8)  # pooled; at 64 px the coarser levels have 16 and 4 pixels, and more channels than there are images


class TextureFeatures:
    """Mean and standard deviation over the pixels of every channel of two levels of the texture-world network.

    Args:
        device: where it runs.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.network = Backbone(NAME, strides=STRIDES).to(self.device, memory_format=torch.channels_last)
        self.num_features = 2 * sum(self.network.channels)  # T

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """8-bit images (B,3,H,W) -> (B,T) float32 on the CPU, not yet standardised."""
        x = from_bytes(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        return torch.cat([pool(level) for level in self.network(x)], dim=1).cpu()


def describe() -> dict:
    """Name, weights and levels, for the protocol."""
    return {"name": NAME, "sha256": sha256(BACKBONES / NAME / "weights.safetensors"), "strides": list(STRIDES)}


class Standardiser:
    """Gives every feature mean 0 and deviation 1 over real images, so that no channel's scale rules the distance.

    Args:
        real: features (N,T) of the real images of the maps that are measured.
    """

    def __init__(self, real: Tensor) -> None:
        self.mean, std = real.mean(0), real.std(0, unbiased=False)
        self.std = std.clamp_min(0.05 * float(std.median()) + 1e-6)  # a dead channel must not be blown up

    def __call__(self, features: Tensor) -> Tensor:
        """(B,T) -> (B,T)."""
        return (features - self.mean) / self.std


def kinship(config: Config) -> str:
    """What a trained model shares with the texture features, in words for a report."""
    loss, discriminator = config.loss, config.discriminator
    if loss.lambda_contrastive > 0 and loss.contrastive_backbone == NAME:
        return "the same weights: the contrastive loss trained the generator against them"
    if discriminator.backbone == NAME:
        return "the same weights: the discriminator's backbone"
    return f"the kind of pre-training at most (the discriminator's backbone is {discriminator.backbone})"
