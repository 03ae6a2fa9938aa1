"""Load the evaluation network of `unet.py`, or train it on Scenes: `dpsims train-evaluators`.

Standing: default of this project throughout; see `unet.py`.
"""

import time
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from dpsims import checkpoint
from dpsims.checks import as_device, as_seeds, check_pool
from dpsims.data import scenes
from dpsims.errors import InputError
from dpsims.evaluation.segmentation import VOID, SegmentationScore
from dpsims.evaluation.unet import Segmenter
from dpsims.files import make_folder, read_json, sha256
from dpsims.images import from_bytes
from dpsims.paths import EVALUATORS

BATCH = 16
LEARNING_RATE = 2e-3  # highest of a one-cycle schedule
MOOD_WEIGHT = 0.3  # of the mood's cross-entropy beside the pixels'
POOL = 4096  # training images, rendered once and mirrored at random
HELD_OUT = 500  # images of split "val" on which the provenance is measured


def load_evaluator(path: str | Path = EVALUATORS / "scenes-64", device: str | torch.device | None = "cpu") -> Segmenter:
    """Load a trained evaluation network (stored as float16) for float32 inference.

    Args:
        path: folder with `weights.safetensors` and `provenance.json`, made by `dpsims train-evaluators`.
        device: where it runs; None: the GPU where there is one.

    Returns:
        The network in eval mode, without gradients; `.sha256` is that of its weights file, and `.quality` what its
        provenance says of it: `miou`, `pixel_accuracy` and `mood_accuracy` on `images` held-out real images.

    Raises:
        InputError: the folder is missing, of another format, or its weights are not those of its provenance; a device
            that is not here.
    """
    device, folder = as_device(device), Path(path)
    provenance, weights = folder / "provenance.json", folder / "weights.safetensors"
    again = f"make it with: dpsims train-evaluators --out {folder}"
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


def train_evaluator(
    out: str | Path,
    *,
    size: int = 64,
    steps: int = 1500,
    seed: int = 100,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> dict:
    """Train the evaluation network on Scenes and write `out/weights.safetensors` (float16) and `out/provenance.json`.

    Trained on split "evaluator" of the given seed, which no prepared data set contains; measured on "val".

    Args:
        out: folder, made if missing; files in it are replaced when all is done.
        size: side of the square images in pixels, a multiple of 8.
        steps: training steps of 16 images.
        seed: of the images, the initialisation and the order.
        device: default: the GPU where there is one.
        progress: show bars.

    Returns:
        The provenance: command, commit, seed, hardware, seconds, architecture, metrics, sha256.

    Raises:
        InputError: size is not a multiple of 8 or too large for the memory, steps < 1, a bad seed, a device that is
            not here, or `out` cannot be written; all before anything is made.
    """
    if size < 16 or size % 8:
        raise InputError(f"--size {size}: the network halves three times; give a multiple of 8, 16 or more")
    if steps < 1:
        raise InputError(f"--steps {steps}: give at least 1")
    pool = min(POOL, steps * BATCH)
    check_pool(pool, size)
    (seed,), place, folder = as_seeds([seed]), as_device(device), Path(out)
    make_folder(folder, ("weights.safetensors", "provenance.json"))  # last: nothing is made where anything is wrong
    started = time.perf_counter()
    images, labels, moods = _render(pool, size, seed, "evaluator", progress)
    rendered = time.perf_counter()
    with torch.random.fork_rng(devices=[]):  # the caller's random state is none of our business
        torch.manual_seed(seed)
        network = Segmenter(len(scenes.CLASSES), tuple(scenes.MOODS), size, size)
    network = network.to(place).to(memory_format=torch.channels_last)
    _fit(network, images, labels, moods, steps, seed, progress)
    _standardise(network, images)
    trained = time.perf_counter()
    weights = checkpoint.halved(network.state_dict())
    network.load_state_dict(weights)  # measure what is shipped
    metrics = measure(network, *_render(min(HELD_OUT, pool), size, seed, "val", progress))
    facts = {
        "what": "evaluation network of Scenes: classes, moods and features; see dpsims/evaluation/unet.py",
        "command": f"dpsims train-evaluators --size {size} --steps {steps} --seed {seed} --out {out}",
        "seed": seed,
        "steps": steps,
        "batch": BATCH,
        "images": {"split": "evaluator", "count": pool, "held_out": "val", "held_out_count": min(HELD_OUT, pool)},
        "scenes_version": scenes.VERSION,
        "seconds": {"rendering": round(rendered - started, 1), "training": round(trained - rendered, 1)},
        "architecture": _architecture(network),
        "metrics": metrics,
    }
    return checkpoint.write_network(folder, save(weights), facts)


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
def measure(network: Segmenter, images: Tensor, labels: Tensor, moods: Tensor) -> dict:
    """Scores on real images: `miou`, `pixel_accuracy`, `iou` by class name, `mood_accuracy`, all in [0,1].

    Args:
        network: in any mode; put to eval.
        images: (N,3,H,W) uint8.
        labels: (N,H,W) ids.
        moods: (N,) ids of moods.
    """
    network.eval()
    score, right = SegmentationScore(network.num_classes), 0
    for chunk in torch.arange(len(images)).split(64):
        judged = network.judge(images[chunk])
        score.update(judged.classes.argmax(1).cpu(), labels[chunk])
        right += int((judged.moods.argmax(1).cpu() == moods[chunk]).sum())
    result = score.result()
    return {
        "miou": result["miou"],
        "pixel_accuracy": result["pixel_accuracy"],
        "iou": dict(zip(scenes.CLASSES, result["iou"], strict=True)),
        "mood_accuracy": right / len(images),
    }


def _render(count: int, size: int, seed: int, split: str, progress: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N,3,H,W) uint8, labels (N,H,W) uint8, moods (N,) int64."""
    images = torch.empty((count, size, size, 3), dtype=torch.uint8)  # filled in place: what `check_pool` counts, once
    labels, moods = torch.empty((count, size, size), dtype=torch.uint8), torch.empty(count, dtype=torch.long)
    for first in tqdm(range(0, count, 64), desc=f"rendering {split}", unit="batch", disable=not progress):
        some = slice(first, min(first + 64, count))
        batch = scenes.render(range(some.start, some.stop), size, seed=seed, split=split)
        images[some], labels[some] = torch.from_numpy(batch.images), torch.from_numpy(batch.labels)
        moods[some] = torch.from_numpy(batch.moods).long()
    return images.permute(0, 3, 1, 2), labels, moods


def _fit(
    network: Segmenter, images: Tensor, labels: Tensor, moods: Tensor, steps: int, seed: int, progress: bool
) -> None:
    place = network.feature_mean.device
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=max(steps, 2), pct_start=0.1)
    draw = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    network.train()
    bar = tqdm(range(steps), desc="training the evaluation network", unit="step", disable=not progress)
    for step in bar:
        if len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(images), generator=draw)])
        chosen, order = order[:BATCH], order[BATCH:]
        x, target, mood = from_bytes(images[chosen]), labels[chosen].long(), moods[chosen].to(place)
        mirrored = torch.rand(len(chosen), generator=draw) < 0.5
        x = torch.where(mirrored[:, None, None, None], x.flip(-1), x).to(place, memory_format=torch.channels_last)
        target = torch.where(mirrored[:, None, None], target.flip(-1), target).to(place)
        with torch.autocast(place.type, dtype=torch.bfloat16):
            judged = network(x)
        pixels = functional.cross_entropy(judged.classes, torch.where(target == 0, VOID, target - 1), ignore_index=VOID)
        loss = pixels + MOOD_WEIGHT * functional.cross_entropy(judged.moods, mood)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    network.eval()


@torch.inference_mode()
def _standardise(network: Segmenter, images: Tensor) -> None:
    """Give every feature mean 0 and deviation 1 over training images, so that no channel's scale rules the distance."""
    place = network.feature_mean.device
    pooled = torch.cat(
        [network.raw_features(network.encode(from_bytes(chunk.to(place)))) for chunk in images[:2048].split(64)]
    )
    network.feature_mean.copy_(pooled.mean(0))
    network.feature_std.copy_(pooled.std(0, unbiased=False).clamp_min(1e-3))  # a dead channel must not be blown up
