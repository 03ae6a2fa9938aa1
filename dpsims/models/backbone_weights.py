"""Weights of a backbone from a local file, in timm's naming of a classifier or of its feature layers."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dpsims.errors import InputError

WRAPPERS = ("state_dict", "model", "model_ema", "teacher")  # keys under which training scripts keep the weights


def load_backbone(model: nn.Module, path: Path, name: str) -> None:
    """Loads a state dict into timm's feature model; a classifier head, or later layers, are left aside.

    Args:
        model: of `timm.create_model(name, features_only=True)`.
        path: safetensors, or a ``.pth`` that `torch.load(weights_only=True)` reads.
        name: of the model, for errors.

    Raises:
        InputError: no such file, no state dict, tensors missing or of other shapes.
    """
    state, wanted = _read(path), model.state_dict()
    found = {key: next((state[k] for k in _spellings(key) if k in state), None) for key in wanted}
    missing = sorted(key for key, value in found.items() if value is None)
    if missing:
        raise InputError(f"{path}: lacks {len(missing)} tensors of {name}, such as {missing[0]}; another model?")
    for key, value in wanted.items():
        if found[key].shape != value.shape:
            there, here = tuple(found[key].shape), tuple(value.shape)
            raise InputError(f"{path}: {key} has shape {there}, {name} needs {here}; another model?")
    model.load_state_dict({key: found[key].to(wanted[key].dtype) for key in wanted})


def _read(path: Path) -> dict[str, Tensor]:
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
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not a state dict; save model.state_dict()")
    return {str(key).removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}


def _spellings(key: str) -> list[str]:
    """How a feature model's key may be called elsewhere: ``stages_0.x`` is ``stages.0.x`` in the classifier,
    ``stem_in_conv.x`` is ``stem.in_conv.x``, and ``model.blocks.0.x`` is ``blocks.0.x``."""
    first, dot, rest = key.partition(".")
    split = [f"{first[:i]}.{first[i + 1 :]}{dot}{rest}" for i, letter in enumerate(first) if letter == "_"]
    return [key, key.removeprefix("model."), *split]
