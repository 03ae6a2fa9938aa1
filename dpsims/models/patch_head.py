"""Features of image patches for the contrastive loss: a frozen network and a small trained head.

arXiv 2312.13314, Sec. 3.3. Published: a patch contrastive loss. Recalled: VGG features. Default: a shipped backbone of
another seed, levels at strides 4, 8 and 16, two-layer heads of 256 outputs (CUT).

B batch, C channels, P places, M features.
"""

import torch
from torch import Tensor, nn

from dpsims.models.backbone import Backbone

LEVELS = 3  # strides 4, 8, 16


class PatchHead(nn.Module):
    """Images -> features of P places a level; the backbone is frozen, the heads train with the generator.

    Args:
        backbone: a shipped or timm backbone; it should not be the discriminator's.
        features: M, the width of the heads' outputs.
        pretrained: see `Backbone`.
    """

    def __init__(self, backbone: str, features: int = 256, pretrained: bool = True) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, pretrained)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(c, features), nn.ReLU(), nn.Linear(features, features))
            for c in self.backbone.channels[:LEVELS]
        )

    def forward(self, images: Tensor, places: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) in [-1, 1] and places (B, LEVELS, P) in [0, 1) -> LEVELS tensors (B, P, M).

        A place is a share of the level's row-by-row pixels, so that one draw serves every size.
        """
        out = []
        for level, (feature, head) in enumerate(zip(self.backbone(images), self.heads, strict=False)):
            flat = feature.flatten(2).transpose(1, 2)  # (B, H*W, C)
            index = (places[:, level] * flat.shape[1]).long()[..., None].expand(-1, -1, flat.shape[2])
            out.append(head(torch.gather(flat, 1, index)))
        return out
