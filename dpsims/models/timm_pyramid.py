"""How any timm model becomes a feature pyramid: which of its levels stand for which stride, and what images it takes.

Standing: default throughout; the paper names ConvNeXt, EfficientNet and others whose levels have strides 4 to 32. All
is read from timm's `feature_info` and from forward passes on the meta device, never from a model's insides.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from dpsims.errors import InputError


class Fit(NamedTuple):
    """How to build a model and what to feed it."""

    options: dict[str, Any]  # of `timm.create_model`
    levels: list[int]  # of timm's, one for each stride; the same one twice where the model has too few
    channels: list[int]  # of these
    reductions: list[float]  # of these, in pixels: where not the strides asked for, features are interpolated
    multiple: int  # images are padded to a multiple of so many pixels
    fixed: tuple[int, int] | None  # the only (H, W) that it takes: images are resized to it
    normalisation: tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of its pre-training


def fit(name: str, strides: Sequence[int], size: tuple[int, int], weights: bool, **options: Any) -> Fit:
    """Find how a timm model gives features at these strides.

    Tried in this order: position embeddings of ViTs interpolated; Swin's check of the size switched off; as it is;
    built for `size`; images resized to the size of its pre-training.

    Args:
        name: known to timm.
        strides: wanted, ascending.
        size: (H, W) of the images that are to come.
        weights: whether it gets trained weights, which fit a model built for another size only where no shape changes.
        options: of `timm.create_model`.

    Raises:
        InputError: the model gives no features, or takes neither `size` nor its own.
    """
    try:
        probe = _on_meta(name, **options)
    except Exception as error:  # timm has many words for a model without features
        raise InputError(f"backbone {name!r}: gives no features ({_line(error)}); try another model") from error
    config = getattr(probe, "pretrained_cfg", None) or getattr(probe.model, "pretrained_cfg", {})
    native = tuple(config["input_size"][-2:])
    reductions = [level["reduction"] for level in probe.feature_info.info]
    levels = choose_levels(reductions, strides)
    chosen, multiple, problem = sorted(set(levels)), math.ceil(max(reductions[i] for i in levels)), None
    for more, fixed in _ways(native, size):
        try:
            model = _on_meta(name, out_indices=chosen, **options, **more)
            if (
                weights
                and "img_size" in more
                and _shapes(model) != _shapes(_on_meta(name, out_indices=chosen, **options))
            ):
                continue
            for more_pixels in (0,) if fixed else (0, multiple):  # one size may be right by chance, two are not
                sides = fixed or [side + more_pixels for side in padded(size, multiple)]
                channels = [feature.shape[1] for feature in run(model, torch.empty(1, 3, *sides, device="meta"))]
        except Exception as error:  # whatever a model says to a size that it does not take
            problem = error
            continue
        channels = [channels[chosen.index(level)] for level in levels]
        found = [reductions[level] for level in levels]
        normalisation = tuple(config["mean"]), tuple(config["std"])
        return Fit({**options, **more, "out_indices": chosen}, levels, channels, found, multiple, fixed, normalisation)
    raise InputError(
        f"backbone {name!r}: takes images of neither {size[0]} x {size[1]} nor {native[0]} x {native[1]} pixels "
        f"({_line(problem)}); try another model"
    )


def padded(size: Sequence[int], multiple: int) -> tuple[int, int]:
    """(H, W), each up to the next multiple."""
    height, width = (-(-side // multiple) * multiple for side in size)
    return height, width


def choose_levels(reductions: Sequence[float], strides: Sequence[int]) -> list[int]:
    """The level for each stride: the one of that stride, or of the nearest; levels of one stride are shared out evenly
    among those that want them, shallow ones to fine strides.

    So a plain ViT of 12 blocks, all of stride 16, gives blocks 2, 5, 8 and 11 for strides 4, 8, 16 and 32.
    """
    nearest = []
    for stride in strides:
        far = [abs(math.log2(reduction / stride)) for reduction in reductions]
        nearest.append([i for i, distance in enumerate(far) if distance == min(far)])
    levels = []
    for place, candidates in enumerate(nearest):
        wanting = [i for i, other in enumerate(nearest) if other == candidates]
        if len(wanting) == 1:
            levels.append(candidates[-1])
        else:
            share = (wanting.index(place) + 1) * len(candidates) / len(wanting)
            levels.append(candidates[max(math.ceil(share), 1) - 1])
    return levels


def run(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Images (B, 3, H, W) -> features (B, C, h, w) of timm's feature model, also where it has channels last."""
    last = str(getattr(model, "output_fmt", "")).endswith("NHWC")
    return [feature.permute(0, 3, 1, 2) if last else feature for feature in model(images)]


def _ways(native: tuple[int, int], size: tuple[int, int]) -> Iterator[tuple[dict[str, Any], tuple[int, int] | None]]:
    yield {"dynamic_img_size": True}, None
    yield {"strict_img_size": False}, None
    yield {}, None
    yield {}, size
    yield {"img_size": size}, size
    yield {}, native


def _on_meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, features_only=True, **options).eval()


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in model.state_dict().items()}


def _line(error: Exception | None) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
