"""Checkpoints: safetensors for weights, JSON for words, a `weights_only` file for the optimisers. Never a pickle.

A run folder holds ``config.json``, ``metrics.csv``, ``samples/`` and ``checkpoints/step_0000500/``. A checkpoint
folder is written under another name and renamed when complete, so that a crash leaves the one before it, whole:

    config.json                 the configuration
    generator.safetensors       the EMA generator: what users want
    generator_live.safetensors  the generator as it trains
    discriminator.safetensors   decoder, conditioning statistics and noise level; the frozen backbone is not stored
    training_state.pt           optimisers and counters, read with weights_only=True
    classes.csv                 the classes' names and colours
    provenance.json             step, seconds, hardware, versions

An *exported* model (`export_run`, shipped under data/checkpoints) keeps generator and discriminator in float16, the
generator with its spectral norm folded into the weights; growth.png shows how the run got there.
"""

import copy
import hashlib
import platform
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from dpsims import config as configuration
from dpsims.errors import InputError
from dpsims.files import read_json, replacing, sha256, write_folder, write_json, writing
from dpsims.labels import LabelSpace, classes_of
from dpsims.paths import BACKBONES, ROOT
from dpsims.sheets import as_sheet, growth


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


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state with its floats as float16, contiguous on the CPU; raises InputError for values that float16 lacks."""
    half = {k: (v.half() if v.is_floating_point() else v).detach().cpu().contiguous() for k, v in state.items()}
    broken = [key for key, value in half.items() if not value.isfinite().all()]
    if broken:
        raise InputError(
            f"{len(broken)} tensors hold values that float16 cannot (beyond 65504, or NaN), such as {broken[0]}; the "
            "training diverged, use an earlier checkpoint or lower rates"
        )
    return half


def load_weights(model: nn.Module, path: Path, described: str = "config.json") -> None:
    """Loads what `without_backbone` saved.

    Args:
        model: of the shapes that are to be there.
        path: a safetensors file.
        described: the file beside it that the model was built from.

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
            f"{path}: {len(wrong)} tensors do not fit its {described}, such as {wrong[0]}; a foreign checkpoint?"
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
    """The commit of the checkout when this process first asked, "+changes" where its files differ; "unknown" outside
    one."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip() or "unknown"


def device_name() -> str:
    """Of the GPU, or of the kind of processor."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"


def provenance(**facts: Any) -> dict[str, Any]:
    """Commit, versions and hardware, with `facts` before them, and the command line where `dpsims` was started by
    one."""
    started = Path(sys.argv[0])  # a notebook's or another program's says nothing here
    if started.name == "dpsims" or started == Path(__file__).with_name("__main__.py"):
        facts = {"command": shlex.join(["dpsims", *sys.argv[1:]]), **facts}
    return {
        **facts,
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "hardware": device_name(),
        "threads": torch.get_num_threads(),
    }


def write_network(folder: Path, weights: bytes, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes weights.safetensors, then provenance.json with their hash: a crash in between leaves one that differs.

    Args:
        folder: for both.
        weights: of `safetensors.torch.save`; its `save_file` makes files that only their owner may read.
        facts: of the network.

    Returns:
        The provenance.
    """
    with replacing(folder / "weights.safetensors") as temporary:
        temporary.write_bytes(weights)
    made = provenance(**facts, sha256=hashlib.sha256(weights).hexdigest())
    write_json(folder / "provenance.json", made)
    return made


def read_provenance(folder: Path) -> dict[str, Any]:
    """provenance.json of a checkpoint or an exported model; raises InputError where it is missing or damaged."""
    return read_json(folder / "provenance.json", "copy the checkpoint again")


def read_space(folder: Path, config: configuration.Config) -> LabelSpace:
    """The classes of a checkpoint, from its classes.csv; older ones have none and are of a data set that is known.

    Raises:
        InputError: a damaged file, or other classes than config.json says.
    """
    data, space = config.data, classes_of(folder, config.data.dataset)
    if space.num_classes != data.num_classes:
        file, said = folder / "classes.csv", f"config.json says {data.num_classes}"
        raise InputError(f"{file}: {space.num_classes} classes, {said}; copy the checkpoint again")
    return space


def backbone_sha256(config: configuration.Config) -> str:
    """Hash of the weights of a configuration's shipped backbone; empty where it is not shipped, or D has none."""
    if config.discriminator.kind == "oasis":
        return ""
    path = BACKBONES / config.discriminator.backbone / "weights.safetensors"
    return sha256(path) if path.is_file() else ""


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    found = [
        p for p in (run / "checkpoints").glob("step_*") if p.name[5:].isdecimal() and (p / "config.json").is_file()
    ]
    return sorted(found, key=lambda p: int(p.name[5:]))  # by number: names mislead from eight digits on


def newest_step(run: Path) -> int:
    """Steps of the newest checkpoint of a run; 0 without one."""
    found = checkpoints(run)
    return int(found[-1].name[5:]) if found else 0


def best(run: Path) -> Path | None:
    """The checkpoint of the least Fréchet distance among those of a run that were judged."""
    judged = {}
    for folder in checkpoints(run):
        frechet = read_provenance(folder).get("frechet")
        if isinstance(frechet, (int, float)):
            judged[folder] = frechet
    return min(judged, key=judged.__getitem__, default=None)


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
    folder: Path,
    config: configuration.Config,
    space: LabelSpace,
    networks: dict[str, dict[str, Tensor]],
    facts: dict[str, Any],
) -> None:
    """Writes config.json, classes.csv, NAME.safetensors for the state of every network, and provenance.json."""
    config.save(folder / "config.json")
    space.save(folder / "classes.csv")
    for name, state in networks.items():
        save_file(state, folder / f"{name}.safetensors")
    write_json(folder / "provenance.json", facts)


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
    facts, space = read_provenance(source), read_space(source, config)
    if facts.get("exported"):
        raise InputError(f"{source}: is exported already; give the run it came from")
    with writing(out):  # a name too long, a folder closed to the user
        if out.exists() and not (out.is_dir() and (not any(out.iterdir()) or _is_export(out))):
            raise InputError(f"{out}: holds something else than an exported model; choose another --out")
    generator, discriminator = build_generator(config, folded=False), build_discriminator(config)
    load_weights(generator, source / "generator.safetensors")
    load_weights(discriminator, source / "discriminator.safetensors")
    models = {"generator": fold_spectral_norm(generator), "discriminator": discriminator}
    networks = {name: halved(without_backbone(model)) for name, model in models.items()}
    facts |= {
        "exported": "float16; EMA generator with its spectral norm folded; the frozen backbone by reference",
        "backbone": config.discriminator.backbone,
        "backbone_sha256": backbone_sha256(config),
    }
    steps, strip = _growth(source, config, facts["step"])
    facts |= {"growth_steps": steps}

    def write(folder: Path) -> None:
        save_model(folder, config, space, networks, facts)
        if strip is not None:
            Image.fromarray(strip).save(folder / "growth.png", optimize=True)

    write_folder(out, write)
    return out


def _growth(
    source: Path, config: configuration.Config, step: int, maps: int = 3
) -> tuple[list[int], np.ndarray | None]:
    """Steps and picture of how the run of a checkpoint grew; nothing where its sample sheets are gone."""
    try:
        steps, images = growth(source.parent.parent, config.data.height, config.data.width, until=step)
    except InputError:
        return [], None
    return steps, as_sheet(images[:, :maps])
