"""What each tested backbone gives and costs: `python -m dpsims.backbone_costs` counts it, README.md shows it.

Counted on the meta device, from shapes alone: convolutions and matrix products, as `torch.utils.flop_counter` has them.
"""

from collections.abc import Callable
from typing import Any

from dpsims.evaluation import report
from dpsims.files import read_json, write_json
from dpsims.paths import DATA

FILE = DATA / "results" / "backbones.json"
SIDE = 256  # pixels of the images
TESTED = (  # at 64 x 64, 256 x 256 and 256 x 512 pixels, see tests/test_backbones.py
    "resnet18", "resnet50", "resnet50_clip", "regnety_004", "regnetx_002", "efficientnet_b0", "tf_efficientnet_lite0",
    "tf_efficientnetv2_b0", "mobilenetv3_small_050", "convnext_atto", "convnext_tiny", "convnextv2_atto",
    "mambaout_femto", "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256", "maxvit_rmlp_pico_rw_256",
    "maxvit_tiny_tf_224", "hrnet_w18_small", "vgg11", "vit_tiny_patch16_224", "vit_small_patch16_224",
    "vit_small_patch14_dinov2", "vit_base_patch16_clip_224", "levit_128s", "mixer_s32_224",
)  # fmt: skip
# the paper's, and others too large for tests here: counted, not run
PAPER = (
    "convnext_base", "convnext_large", "convnext_xlarge", "swin_base_patch4_window7_224",
    "swin_large_patch4_window7_224", "convnext_base.clip_laion2b",
)  # fmt: skip


def cost(name: str) -> dict[str, Any]:
    """One backbone at 256 x 256 pixels.

    Returns:
        channels and strides: of its levels, fine to coarse; strides other than 4, 8, 16, 32 are interpolated.
        parameters: in millions, of the layers up to the coarsest level.
        gmacs: of one forward pass of one image, in 10^9 multiply-adds.

    Raises:
        InputError: as of `dpsims.models.timm_pyramid.fit`.
    """
    import timm
    import torch

    from dpsims.models.backbone import STRIDES
    from dpsims.models.timm_pyramid import fit, padded, run

    fitted = fit(name, STRIDES, (SIDE, SIDE), False)
    with torch.device("meta"):
        model = timm.create_model(name, features_only=True, **fitted.options).eval()
        sides = fitted.fixed or padded((SIDE, SIDE), fitted.multiple)
        macs = gmacs(lambda: run(model, torch.empty(1, 3, *sides)))
    return {
        "channels": fitted.channels,
        "strides": fitted.reductions,
        "parameters": round(sum(p.numel() for p in model.parameters()) / 1e6, 2),
        "gmacs": round(macs, 2),
    }


def gmacs(work: Callable[[], Any]) -> float:
    """10^9 multiply-adds of the convolutions and matrix products that a call does, without gradient."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2e9


def table() -> str:
    """The block of README.md; empty where nothing was counted."""
    if not FILE.is_file():
        return ""
    found = read_json(FILE, "run python -m dpsims.backbone_costs")
    lines = [["backbone", "channels", "strides of its own", "parameters, M", "GMACs", "GMACs a step"]]
    for name, row in found.items():
        channels, strides = (", ".join(f"{value:g}" for value in row[key]) for key in ("channels", "strides"))
        tried = "" if name in TESTED else " (not run)"
        lines.append(
            [f"`{name}`{tried}", channels, strides, row["parameters"], row["gmacs"], round(3 * row["gmacs"], 2)]
        )
    return report.markdown([[str(cell) for cell in line] for line in lines])


if __name__ == "__main__":
    write_json(FILE, {name: cost(name) for name in (*TESTED, *PAPER)})
