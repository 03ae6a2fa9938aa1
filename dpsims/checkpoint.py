"""Checkpoints: safetensors for weights, JSON for words, a `weights_only` file for the optimisers. Never a pickle.

A run folder holds ``config.json``, ``metrics.csv``, ``samples/`` and ``checkpoints/step_0000500/``. A checkpoint
folder is written under another name and renamed when complete, so that a crash leaves the one before it, whole:

    config.json                 the configuration
    generator.safetensors       the EMA generator: what users want
    generator_live.safetensors  the generator as it trains
    discriminator.safetensors   decoder, conditioning statistics and noise level; the frozen backbone is not stored
    training_state.pt           optimisers and counters, read with weights_only=True
    provenance.json             step, seconds, hardware, versions

An *exported* model (`export_run`, shipped under data/checkpoints) keeps generator and discriminator in float16, the
generator with its spectral norm folded into the weights.
"""

import copy
import json
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dpsims import config as configuration
from dpsims.errors import InputError
from dpsims.files import replacing, sha256
from dpsims.paths import BACKBONES, ROOT


def fold_spectral_norm(model: nn.Module, iterations: int = 10) -> nn.Module:
    """A copy in evaluation mode with spectral norm folded into plain convolutions: same images, less time and memory.

    The EMA averages weights but takes the power iteration's vectors over from training, so the iteration runs again
    first. The layers are replaced rather than stripped: a copy shares its class with the original, and
    `remove_parametrizations` would take the weights of both.
    """
    model = copy.deepcopy(model).train()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if parametrize.is_parametrized(layer, "weight"):
                setattr(parent, name, _plain_convolution(layer, iterations))
    return model.eval()


@torch.no_grad()
def _plain_convolution(layer: nn.Conv2d, iterations: int) -> nn.Conv2d:
    for _ in range(iterations):
        weight = layer.weight  # in train mode every read is a step of the power iteration
    plain = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding, bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    ).to(weight)  # fmt: skip
    plain.weight.copy_(weight)
    if layer.bias is not None:
        plain.bias.copy_(layer.bias)
    return plain.to(memory_format=torch.channels_last)


def without_backbone(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model, less a frozen backbone, contiguous on the CPU."""
    frozen = tuple(f"{name}." for name, module in model.named_modules() if getattr(module, "frozen", False))
    return {
        key: value.detach().cpu().contiguous()
        for key, value in model.state_dict().items()
        if not key.startswith(frozen)
    }


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads what `without_backbone` saved.

    Raises:
        InputError: a missing, damaged or foreign file, another kind of numbers, or some that are not finite.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; is this folder a dpsims checkpoint?")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error}); copy or train it again") from None
    wanted = without_backbone(model)
    wrong = [k for k in wanted if k not in state or not _alike(state[k], wanted[k])]
    wrong += sorted(state.keys() - wanted.keys())
    if wrong:
        raise InputError(
            f"{path}: {len(wrong)} tensors do not fit its config.json, such as {wrong[0]}; a foreign checkpoint?"
        )
    state = {key: value.to(wanted[key].dtype) for key, value in state.items()}
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        raise InputError(
            f"{path}: {len(broken)} tensors hold NaN or infinity, such as {broken[0]}; the training diverged, use an "
            "earlier checkpoint"
        )
    model.load_state_dict(state, strict=False)


def _alike(found: Tensor, wanted: Tensor) -> bool:
    """Of one shape and both floating point (of any width) or both of one other type."""
    both_float = found.is_floating_point() and wanted.is_floating_point()
    return found.shape == wanted.shape and (both_float or found.dtype == wanted.dtype)


@cache
def commit() -> str:
    """The commit of the checkout when this process first asked; "unknown" outside one."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip() or "unknown"


def provenance(**facts: Any) -> dict[str, Any]:
    """Commit, versions and hardware, with `facts` before them."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"
    return {
        **facts,
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "hardware": device,
        "threads": torch.get_num_threads(),
    }


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically; raises InputError where `path` is neither missing nor a regular file."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def write_folder(folder: Path, write: Any) -> None:
    """Calls ``write(temporary folder)`` and renames it to `folder` when complete; an older `folder` goes last.

    The older one is moved aside, not removed, before the new one takes its name: a kill in between loses neither.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:40]}."))
    aside = temporary.with_name(f"{temporary.name}.old")
    try:
        write(temporary)
        temporary.chmod(0o755)  # mkdtemp and safetensors leave both for the owner alone
        for file in temporary.iterdir():
            file.chmod(0o644)
        if folder.exists():
            folder.rename(aside)
        temporary.rename(folder)
    except BaseException:
        if aside.exists() and not folder.exists():
            aside.rename(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def read_provenance(folder: Path) -> dict[str, Any]:
    """provenance.json of a checkpoint or an exported model; raises InputError where it is missing or damaged."""
    try:
        facts = json.loads((folder / "provenance.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'provenance.json'}: not readable ({error}); copy the checkpoint again") from None
    if not isinstance(facts, dict):
        raise InputError(f"{folder / 'provenance.json'}: holds a {type(facts).__name__}; copy the checkpoint again")
    return facts


def backbone_sha256(config: configuration.Config) -> str:
    """Hash of the weights of a configuration's shipped backbone; empty for one that is not shipped."""
    path = BACKBONES / config.discriminator.backbone / "weights.safetensors"
    return sha256(path) if path.is_file() else ""


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [
        p for p in (run / "checkpoints").glob("step_*") if p.name[5:].isdecimal() and (p / "config.json").is_file()
    ]
    return sorted(found, key=lambda p: int(p.name[5:]))  # by number: names mislead from eight digits on


def resolve(path: str | Path) -> Path:
    """The model folder that `path` means: an exported model, a checkpoint, or a run (its newest checkpoint).

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    if (path / "generator.safetensors").is_file():
        return path
    found = checkpoints(path)
    if not found:
        raise InputError(f"{path}: holds no dpsims checkpoint; give a run folder, a checkpoint or an exported model")
    return found[-1]


def save_model(
    folder: Path, config: configuration.Config, generator: nn.Module, discriminator: nn.Module, facts: dict
) -> None:
    """Writes config.json, both networks' weights and provenance.json into an existing folder."""
    config.save(folder / "config.json")
    save_file(without_backbone(generator), folder / "generator.safetensors")
    save_file(without_backbone(discriminator), folder / "discriminator.safetensors")
    (folder / "provenance.json").write_text(json.dumps(facts, indent=2) + "\n")


def _is_export(folder: Path) -> bool:
    return (folder / "provenance.json").is_file() and bool(read_provenance(folder).get("exported"))


def export_run(run: str | Path, out: str | Path) -> Path:
    """Writes the small model of a run's newest checkpoint: float16, spectral norm folded, ready for `load_generator`.

    Args:
        run: run or checkpoint folder.
        out: folder to make; an older export there is replaced.

    Raises:
        InputError: no checkpoint in `run`, or `out` cannot be written.
    """
    from dpsims.synthesis import build_discriminator, build_generator

    source, out = resolve(run), Path(out)
    config = configuration.load(source / "config.json")
    facts = read_provenance(source)
    if facts.get("exported"):
        raise InputError(f"{source}: is exported already; give the run it came from")
    try:
        if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _is_export(out))):
            raise InputError(f"{out}: holds something else than an exported model; choose another --out")
    except OSError as error:  # a name too long, a folder closed to the user
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    generator, discriminator = build_generator(config, folded=False), build_discriminator(config)
    load_weights(generator, source / "generator.safetensors")
    load_weights(discriminator, source / "discriminator.safetensors")
    generator = fold_spectral_norm(generator).half()
    facts |= {
        "exported": "float16; EMA generator with its spectral norm folded; the frozen backbone by reference",
        "backbone": config.discriminator.backbone,
        "backbone_sha256": backbone_sha256(config),
    }
    try:
        write_folder(out, lambda folder: save_model(folder, config, generator, discriminator.half(), facts))
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}); choose another --out") from None
    return out
