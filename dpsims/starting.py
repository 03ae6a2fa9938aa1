"""A training that starts from a trained model instead of random weights: to go on with other data, or to grow.

Every tensor whose name and shape are also in the new networks is taken over, the others stay fresh: other classes leave
the layers that meet the classes fresh, another backbone those that meet its features. A generator with more levels than
the one that it starts from is *grown*, as progressive GANs are (default; the paper trains at full size from the start):
the coarse levels are those of the trained one, and the finest ones are new.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dpsims import checkpoint
from dpsims.errors import InputError
from dpsims.files import sha256
from dpsims.models.generator import Generator, LabelEncoder
from dpsims.paths import CHECKPOINTS
from dpsims.synthesis import load_discriminator, load_generator

LEAST = 0.5  # share of a generator's weights that must fit


@torch.no_grad()
def start_from(path: str | Path, generator: nn.Module, discriminator: nn.Module) -> dict[str, Any]:
    """Takes over the weights of a trained model, in place.

    Args:
        path: an exported model, a checkpoint or a run; or the name of a shipped one, such as scenes-64.
        generator: in training mode, of the same height and width or of 2, 4, ... times those with more levels.
        discriminator: its decoder, and its statistics, which a training computes anew, are taken over too.

    Returns:
        For the provenance: path, step, SHA-256 of the generator's file, and the shares of both networks' weights that
        fitted.

    Raises:
        InputError: no model there, or one of another kind: less than half of its generator fits.
    """
    shipped = CHECKPOINTS / path
    folder = checkpoint.resolve(shipped if shipped.is_dir() else path)
    trained = load_generator(folder).generator
    new_levels = 0
    if isinstance(generator, Generator) and isinstance(trained, Generator):
        new_levels = len(generator.heights) - len(trained.heights)
        if new_levels < 0 or generator.heights[: len(trained.heights)] != trained.heights:
            raise InputError(
                f"train.start_from={path}: has levels of {trained.heights} rows, this training of {generator.heights}; "
                "the coarse ones must be the same: one entry more in generator.channels for every doubling of the size"
            )
    fitted = _take_over(generator, trained.state_dict(), new_levels)
    if fitted < LEAST:
        raise InputError(
            f"train.start_from={path}: only {fitted:.0%} of its generator's weights fit this one; give a model of the "
            "same generator.kind, generator.channels and generator.label_channels"
        )
    if new_levels:
        _pass_through(generator.label_encoder, trained.label_encoder.stem, new_levels)
    fitted_d = _take_over(discriminator, checkpoint.without_backbone(load_discriminator(folder)), 0)
    return {
        "path": str(path),
        "step": checkpoint.read_provenance(folder).get("step"),
        "sha256": sha256(folder / "generator.safetensors"),
        "generator_fitted": round(fitted, 4),
        "discriminator_fitted": round(fitted_d, 4),
    }


def _take_over(new: nn.Module, state: dict[str, Tensor], new_levels: int) -> float:
    """Copies what fits; returns the share of the numbers in `state` that did."""
    fitted = 0
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        if owner.startswith("label_encoder.down."):  # the one list that goes from fine to coarse
            owner = f"label_encoder.down.{int(owner.split('.')[2]) + new_levels}"
        try:
            layer = new.get_submodule(owner)
        except AttributeError:
            continue
        found = getattr(layer, leaf, None)
        if isinstance(found, Tensor) and found.shape == value.shape:
            _assign(layer, leaf, value)
            fitted += value.numel()
    return fitted / sum(value.numel() for value in state.values())


def _assign(layer: nn.Module, leaf: str, value: Tensor, iterations: int = 15) -> None:
    """Sets a parameter or buffer, under spectral norm the weight behind it: power iteration then finds its norm."""
    if not parametrize.is_parametrized(layer, leaf):
        getattr(layer, leaf).copy_(value)
        return
    setattr(layer, leaf, value.to(getattr(layer, leaf)))
    for _ in range(iterations if layer.training else 0):
        getattr(layer, leaf)


def _pass_through(encoder: LabelEncoder, trained_stem: nn.Conv2d, new_levels: int) -> None:
    """Lets the new fine levels hand the classes down, so that the trained stem's work is done where it was learned.

    The new stem copies the K+1 channels of the label map (none is negative: the activations leave them as they are),
    and the last of the new levels does what the stem of the trained encoder did. Nothing is lost where K+1 channels
    fit; else the fresh weights stay.
    """
    classes = trained_stem.in_channels
    layers = [encoder.stem, *encoder.down[:new_levels]]
    if encoder.stem.weight.shape[1] != classes or classes > trained_stem.out_channels:
        return
    for layer in layers[:-1]:
        weight = 0.3 * layer.weight  # of the other channels, small, or they would take from the spectral norm
        weight[:classes] = 0
        weight[range(classes), range(classes), 1, 1] = 1
        _assign(layer, "weight", weight)
        layer.bias.zero_()
    weight = torch.zeros_like(layers[-1].weight)
    weight[:, :classes] = trained_stem.weight
    _assign(layers[-1], "weight", weight)
    layers[-1].bias.copy_(trained_stem.bias)
