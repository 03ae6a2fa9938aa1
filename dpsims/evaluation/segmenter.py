"""Load the evaluation network of `unet.py`, or train it, on Scenes or on prepared data: `dpsims train-evaluators`.

Standing: default of this project throughout; see `unet.py`.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from dpsims import checkpoint, paths
from dpsims.checks import as_device, as_seeds, check_pool
from dpsims.data import scenes
from dpsims.data.guard import locked
from dpsims.data.prepared import SplitArrays, load_prepared, open_prepared
from dpsims.errors import InputError
from dpsims.evaluation.measuring import Protocol
from dpsims.evaluation.segmentation import SegmentationScore
from dpsims.evaluation.unet import Segmenter
from dpsims.files import make_folder, read_json, sha256, writing
from dpsims.images import channels_first, from_bytes
from dpsims.paths import EVALUATORS

BATCH = 16
LEARNING_RATE = 2e-3  # highest of a one-cycle schedule
MOOD_WEIGHT = 0.3  # of the mood's cross-entropy beside the pixels'
POOL = 4096  # training images of Scenes, rendered once and mirrored at random
STANDARDISED = 2048  # training images whose features get mean 0 and deviation 1
IGNORED = 255  # target of void pixels: outside 0..K-1, for `ignore_index` of the loss
HELD_OUT = 500  # images of split "val" on which the provenance is measured, at most


def load_evaluator(path: str | Path = EVALUATORS / "scenes-64", device: str | torch.device | None = "cpu") -> Segmenter:
    """Load a trained evaluation network (stored as float16) for float32 inference.

    Args:
        path: folder with `weights.safetensors` and `provenance.json`, made by `dpsims train-evaluators`.
        device: where it runs; None: the GPU where there is one.

    Returns:
        The network in eval mode, without gradients; `.sha256` is that of its weights file, `.dataset` and `.names` say
        on what it was trained, and `.quality` how good it is: `miou`, `pixel_accuracy` and `mood_accuracy` (None
        without moods) on `images` held-out real images.

    Raises:
        InputError: the folder is missing, of another format, or its weights are not those of its provenance; a device
            that is not here.
    """
    device, folder = as_device(device), Path(path)
    provenance, weights = folder / "provenance.json", folder / "weights.safetensors"
    again = f"make it with: dpsims train-evaluators --out {folder} (and --data, for data of your own)"
    about = read_json(provenance, again)
    if not weights.is_file():
        raise InputError(f"{weights}: no such file; {again}")
    try:
        architecture = about["architecture"]
        network = Segmenter(
            num_classes=int(architecture["num_classes"]),
            moods=tuple(architecture["moods"]),
            height=int(architecture["height"]),
            width=int(architecture["width"]),
            widths=tuple(architecture["widths"]),
        )
        network.quality = {name: about["metrics"][name] for name in ("miou", "pixel_accuracy", "mood_accuracy")}
        network.quality["images"] = about["images"]["held_out_count"]
        made_of = about.get("data", {"dataset": "scenes", "classes": scenes.CLASSES})  # once there was nothing else
        network.dataset, network.names = made_of["dataset"], tuple(made_of["classes"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{provenance}: not the provenance of an evaluation network ({error}); {again}") from error
    digest = sha256(weights)
    if digest != about.get("sha256"):
        raise InputError(
            f"{weights}: sha256 {digest[:12]} is not {str(about.get('sha256'))[:12]} of provenance.json; "
            f"fetch both again (git checkout -- {folder}) or {again}"
        )
    checkpoint.load_weights(network, weights, described=provenance.name)
    network.sha256 = digest
    return network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)


@dataclass(frozen=True)
class _Lesson:
    """What a network is trained on and measured by; the arrays are in memory, or memory maps."""

    train: SplitArrays  # their last field is not used
    held_out: SplitArrays
    names: tuple[str, ...]  # of the K classes
    moods: tuple[str, ...]  # none where they are not known
    standard: slice  # which training images have features of mean 0 and deviation 1
    facts: dict[str, Any]  # for the provenance
    option: str  # that asks for these data


def train_evaluator(
    out: str | Path,
    *,
    data: str | Path | None = None,
    size: int | None = None,
    steps: int = 1500,
    seed: int = 100,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> dict:
    """Train the evaluation network and write `out/weights.safetensors` (float16) and `out/provenance.json`.

    On Scenes it has images of its own: split "evaluator" of the given seed, which no prepared data set contains. On
    prepared data it has split "train", which models are trained on too. Both are measured on "val".

    Args:
        out: folder, made if missing; files in it are replaced when all is done.
        data: prepared folder of any data set with photographs, height and width multiples of 8; None: Scenes, drawn.
        size: side of the square images in pixels, a multiple of 8; 64 for None. Prepared data have their own.
        steps: training steps of 16 images.
        seed: of the drawn images, the initialisation and the order.
        device: default: the GPU where there is one.
        progress: show bars.

    Returns:
        The provenance: command, commit, seed, hardware, seconds, data, architecture, metrics, sha256.

    Raises:
        InputError: size is not a multiple of 8 or too large for the memory, steps < 1, a bad seed, a device that is
            not here, data that are missing, changed or without photographs, or `out` cannot be written; all before
            anything is made.
    """
    if steps < 1:
        raise InputError(f"--steps {steps}: give at least 1")
    place, folder = as_device(device), Path(out)
    (seed,), size = as_seeds([seed]), _checked_size(data, size, steps)
    started = time.perf_counter()
    lesson = None if data is None else _prepared(data, progress)
    make_folder(folder, ("weights.safetensors", "provenance.json"))  # last: nothing is made where anything is wrong
    lesson = lesson or _drawn(size, seed, steps, progress)
    read = time.perf_counter()
    with torch.random.fork_rng(devices=[]):  # the caller's random state is none of our business
        torch.manual_seed(seed)
        network = Segmenter(len(lesson.names), lesson.moods, *lesson.train.labels.shape[1:])
    network = network.to(place).to(memory_format=torch.channels_last)
    _fit(network, lesson.train, steps, seed, progress)
    _standardise(network, lesson.train.images[lesson.standard])
    trained = time.perf_counter()
    weights = checkpoint.halved(network.state_dict())
    network.load_state_dict(weights)  # measure what is shipped
    facts = {
        "what": "evaluation network: classes, features, moods where they are known; see dpsims/evaluation/unet.py",
        "command": f"dpsims train-evaluators {lesson.option} --steps {steps} --seed {seed} --out {out}",
        "seed": seed,
        "steps": steps,
        "batch": BATCH,
        **lesson.facts,
        "seconds": {"reading": round(read - started, 1), "training": round(trained - read, 1)},
        "architecture": _architecture(network),
        "metrics": measure(network, lesson.held_out, lesson.names),
    }
    return checkpoint.write_network(folder, save(weights), facts)


def evaluator_for(data: str | Path) -> Path:
    """Where the evaluation network for a prepared data set is, or is to be: the shipped one of its name and size, or
    a folder in the cache that is named by what the data set holds."""
    index = open_prepared(data).index
    if index["height"] == index["width"] and (shipped := EVALUATORS / f"{index['dataset']}-{index['height']}").is_dir():
        return shipped
    holds = json.dumps([index["sha256"], index.get("names")], sort_keys=True)
    return paths.CACHE / f"evaluator-{index['dataset']}-{hashlib.sha256(holds.encode()).hexdigest()[:12]}"


def ensure_evaluator(data: str | Path, *, progress: bool = True) -> Path:
    """The evaluation network of `evaluator_for`, trained when it is missing (see `train_evaluator`): minutes on a CPU
    at 64 pixels. Arguments and errors as there."""
    folder = evaluator_for(data)
    if (folder / "provenance.json").is_file():
        return folder
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{folder.name}.lock"):
            if (folder / "provenance.json").is_file():  # another process has made it while this one waited
                return folder
            Protocol().count(load_prepared(data))  # complains of too few held-out images before the work, not after it
            train_evaluator(folder, data=data, progress=progress)
    return folder


def _checked_size(data: str | Path | None, size: int | None, steps: int) -> int | None:
    """The side of drawn images, None for prepared data; raises InputError where the network cannot take the size."""
    if data is None:
        size = 64 if size is None else size
        if size < 16 or size % 8:
            raise InputError(f"--size {size}: the network halves three times; give a multiple of 8, 16 or more")
        check_pool(min(POOL, steps * BATCH), size)
        return size
    index = open_prepared(data).index
    height, width = index["height"], index["width"]
    if size is not None:
        raise InputError(f"--size {size}: the images of {data} are {height} x {width}; leave --size out with --data")
    if height % 8 or width % 8:
        raise InputError(
            f"{data}: images of {height} x {width} pixels; the evaluation network halves them three times, so prepare "
            "the data at multiples of 8"
        )
    return None


def _drawn(size: int, seed: int, steps: int, progress: bool) -> _Lesson:
    """Scenes of the split that no model is trained on."""
    pool = min(POOL, steps * BATCH)
    held_out = min(HELD_OUT, pool)
    return _Lesson(
        train=_render(pool, size, seed, "evaluator", progress),
        held_out=_render(held_out, size, seed, "val", progress),
        names=scenes.CLASSES,
        moods=scenes.MOODS,
        standard=slice(STANDARDISED),
        facts={
            "data": {"dataset": "scenes", "classes": scenes.CLASSES, "version": scenes.VERSION},
            "images": {"split": "evaluator", "count": pool, "held_out": "val", "held_out_count": held_out},
        },
        option=f"--size {size}",
    )


def _prepared(path: str | Path, progress: bool) -> _Lesson:
    """The two splits of a prepared folder."""
    data = load_prepared(path)
    train, val = data.pairs("train"), data.pairs("val")
    data.verify(progress=progress)  # the provenance carries hashes: they must be theirs
    count = len(train.labels)
    held_out = SplitArrays(*(array if array is None else array[:HELD_OUT] for array in val))
    return _Lesson(
        train=train,
        held_out=held_out,
        names=data.space.names[1:],
        moods=scenes.MOODS if train.moods is not None and val.moods is not None else (),
        standard=slice(0, None, -(-count // STANDARDISED)),  # spread evenly: Cityscapes come city by city
        facts={
            "data": {"dataset": data.index["dataset"], "classes": data.space.names[1:], "sha256": data.index["sha256"]},
            "images": {"split": "train", "count": count, "held_out": "val", "held_out_count": len(held_out.labels)},
        },
        option=f"--data {path}",
    )


def _architecture(network: Segmenter) -> dict:
    """What `load_evaluator` needs to build the network again, and its size."""
    return {
        "num_classes": network.num_classes,
        "moods": list(network.moods),
        "height": network.height,
        "width": network.width,
        "widths": list(network.widths),
        "parameters": sum(p.numel() for p in network.parameters()),
        "num_features": network.num_features,
    }


@torch.inference_mode()
def measure(network: Segmenter, real: SplitArrays, names: tuple[str, ...]) -> dict:
    """Scores on real images: `miou`, `pixel_accuracy`, `iou` by class name, `mood_accuracy`, all in [0,1]; None for
    what does not occur.

    Args:
        network: in any mode; put to eval.
        real: N images, label maps and, for a network with a mood head, moods.
        names: of the K classes.
    """
    network.eval()
    score, right = SegmentationScore(network.num_classes), 0
    for chunk in np.array_split(np.arange(len(real.labels)), -(-len(real.labels) // BATCH)):
        judged = network.judge(channels_first(real.images[chunk]))
        score.update(judged.classes.argmax(1).cpu(), torch.from_numpy(real.labels[chunk]))
        if judged.moods is not None:
            right += int((judged.moods.argmax(1).cpu().numpy() == real.moods[chunk]).sum())
    result = score.result()
    return {
        "miou": result["miou"],
        "pixel_accuracy": result["pixel_accuracy"],
        "iou": dict(zip(names, result["iou"], strict=True)),
        "mood_accuracy": right / len(real.labels) if network.moods else None,
    }


def _render(count: int, size: int, seed: int, split: str, progress: bool) -> SplitArrays:
    """Drawn images (N,H,W,3), label maps (N,H,W) and moods (N,), all uint8."""
    images = np.empty((count, size, size, 3), np.uint8)  # filled in place: what `check_pool` counts, once
    labels, moods = np.empty((count, size, size), np.uint8), np.empty(count, np.uint8)
    for first in tqdm(range(0, count, 64), desc=f"rendering {split}", unit="batch", disable=not progress):
        some = slice(first, min(first + 64, count))
        batch = scenes.render(range(some.start, some.stop), size, seed=seed, split=split)
        images[some], labels[some], moods[some] = batch.images, batch.labels, batch.moods
    return SplitArrays(images, labels, moods, rarest=moods[:0])


def _fit(network: Segmenter, train: SplitArrays, steps: int, seed: int, progress: bool) -> None:
    place = network.feature_mean.device
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=max(steps, 2), pct_start=0.1)
    draw = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    network.train()
    bar = tqdm(range(steps), desc="training the evaluation network", unit="step", disable=not progress)
    for step in bar:
        while len(order) < BATCH:  # more than once where there are few images
            order = torch.cat([order, torch.randperm(len(train.labels), generator=draw)])
        chosen, order = order[:BATCH].numpy(), order[BATCH:]
        x, target = from_bytes(channels_first(train.images[chosen])), torch.from_numpy(train.labels[chosen]).long()
        mirrored = torch.rand(len(chosen), generator=draw) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(-1), x).to(place, memory_format=torch.channels_last)
        target = torch.where(mirrored[:, None, None], target.flip(-1), target).to(place)
        with torch.autocast(place.type, dtype=torch.bfloat16):
            judged = network(x)
        loss = _pixel_loss(judged.classes, target)
        if judged.moods is not None:
            mood = torch.from_numpy(train.moods[chosen]).long().to(place)
            loss = loss + MOOD_WEIGHT * functional.cross_entropy(judged.moods, mood)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    network.eval()


def _pixel_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (B,K,H,W) and ids (B,H,W), the mean over pixels that are not void; 0 where all are."""
    targets = torch.where(labels == 0, IGNORED, labels - 1)
    if bool((targets == IGNORED).all()):
        return 0.0 * logits.sum()
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED)


@torch.inference_mode()
def _standardise(network: Segmenter, images: np.ndarray) -> None:
    """Give every feature mean 0 and deviation 1 over training images (N,H,W,3) uint8, so that no channel's scale rules
    the distance."""
    place = network.feature_mean.device
    chunks = (channels_first(images[first : first + 64]) for first in range(0, len(images), 64))
    pooled = torch.cat([network.raw_features(network.encode(from_bytes(chunk.to(place)))) for chunk in chunks])
    network.feature_mean.copy_(pooled.mean(0))
    network.feature_std.copy_(pooled.std(0, unbiased=False).clamp_min(1e-3))  # a dead channel must not be blown up
