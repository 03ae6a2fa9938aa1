"""The evaluation protocol: one way to measure a generator and the reference rows, and everything that fixes it.

All label maps of "val" (or the first of them) are drawn once; these images give the Fréchet distance to the real
images of the same maps, the segmentation scores and the shares of moods. The first maps are drawn several times for
diversity. Every image is turned to 8 bits before anything is measured, and everything is measured in float32 or better.
Sample i of map j has the seed of `sample_seed`. Standing: default of this project (`unet.py` says why).
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from dpsims import checkpoint as checkpoints
from dpsims.data.prepare import PreparedData, load_prepared
from dpsims.errors import InputError
from dpsims.evaluation import diversity
from dpsims.evaluation.frechet import FrechetDistance
from dpsims.evaluation.references import Reference, Synthesise, rows_for
from dpsims.evaluation.segmentation import SegmentationScore
from dpsims.evaluation.segmenter import load_evaluator
from dpsims.evaluation.unet import Segmenter, to_bytes
from dpsims.labels import label_space
from dpsims.paths import CACHE, EVALUATORS

FORMAT = 1
MAX_SAMPLES = 1000  # a map; `sample_seed` gives each map so many seeds of its own


@dataclass(frozen=True)
class Protocol:
    """How much is drawn. Two results compare only where this, the data and the evaluation network are the same."""

    max_maps: int | None = None  # the first so many maps of "val"; None: all
    samples_per_map: int = 6  # draws of each map that diversity is measured on
    diversity_maps: int = 50  # the first so many maps, for diversity
    seed: int = 0  # of all draws; see `sample_seed`
    batch_size: int = 32  # maps at once; changes nothing but speed and memory

    def __post_init__(self) -> None:
        lowest = {"max_maps": 4, "samples_per_map": 2, "diversity_maps": 1, "seed": 0, "batch_size": 1}
        for name, bound in lowest.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise InputError(f"evaluation: {name} is {value}; give at least {bound}")
        if self.samples_per_map > MAX_SAMPLES:
            raise InputError(f"evaluation: samples_per_map is {self.samples_per_map}; give at most {MAX_SAMPLES}")

    def count(self, data: PreparedData) -> int:
        """Number of maps of `data` that are drawn."""
        available = len(data.split("val").labels)
        if available < 4:  # two halves of two: the least that has a covariance
            raise InputError(f"the data set has {available} held-out image(s); prepare it with at least 4 (--n-val)")
        return available if self.max_maps is None else min(self.max_maps, available)


def sample_seed(seed: int, map_index: int, draw: int) -> int:
    """Seed of draw number `draw` (< 1000) of map `map_index` (< 1,000,000) in an evaluation with `seed`: all differ."""
    return (seed * 1_000_000 + map_index) * MAX_SAMPLES + draw


def evaluate(
    synthesise: Synthesise,
    data: PreparedData,
    *,
    evaluator: Segmenter,
    progress: bool = True,
    **settings: Any,
) -> dict:
    """Measure anything that draws images from label maps, on the held-out split.

    Args:
        synthesise: labels (B,H,W) int64 on the CPU, a seed per map -> (B,3,H,W) float in [-1,1] (clipped), any device.
        data: prepared data; split "val" is used.
        evaluator: from `load_evaluator`, trained at the size of the data.
        progress: show a bar.
        settings: fields of `Protocol`: max_maps, samples_per_map, diversity_maps, seed, batch_size.

    Returns:
        frechet: distance to the real images of the same maps, >= 0, one image a map; lower is better.
        miou, pixel_accuracy: in [0,1], over the whole set; iou: by class name, None for an absent class.
        diversity_l1: mean pairwise L1 in [0,1] of samples of one map, mean over maps.
        mood_shares: by mood, of one image a map; moods_per_six: distinct moods in six draws of a map (None when fewer
        than six are drawn). Both None for data without moods.
        num_images, num_maps_diversity: how many maps the figures rest on.

    Raises:
        InputError: impossible settings; an evaluation network of another size or other classes.
        ValueError: `synthesise` returned another shape or values that are not finite.
    """
    protocol = Protocol(**settings)
    maps = range(protocol.count(data))
    row = Reference("generated", "what was given", synthesise, maps, against=maps)
    return _Bench(data, evaluator, protocol).measure(row, progress)


def reference_rows(
    data: PreparedData, evaluator: Segmenter, *, cache: bool = True, progress: bool = True, **settings: Any
) -> dict[str, dict]:
    """The results of `evaluate` for every row of `references.py`, by name, each with its `meaning`.

    They cost more than a generator's row, so they are kept under `CACHE/references`, by a hash of the protocol, the
    data, the evaluation network and the source of this package.

    Args:
        data, evaluator, settings: as in `evaluate`.
        cache: take them from there, and put them there.
        progress: show bars.
    """
    protocol = Protocol(**settings)
    described = json.dumps(describe(data, evaluator, protocol), sort_keys=True)
    sources = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    file = CACHE / "references" / f"{hashlib.sha256(described.encode() + sources).hexdigest()[:24]}.json"
    if cache and file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    bench = _Bench(data, evaluator, protocol)
    rows = {
        row.name: {"meaning": row.meaning, **bench.measure(row, progress)}
        for row in rows_for(data, protocol.count(data))
    }
    if cache:
        _write(file, rows)
    return rows


def evaluate_checkpoint(
    checkpoint: str | Path,
    data_path: str | Path,
    out: str | Path | None = None,
    *,
    evaluator_path: str | Path = EVALUATORS / "scenes-64",
    references: bool = True,
    device: str = "cpu",
    progress: bool = True,
    **settings: Any,
) -> dict:
    """Measure a trained generator and write a JSON file: protocol, reference rows, generator row.

    Args:
        checkpoint: folder that `dpsims.synthesis.load_generator` reads.
        data_path: folder of `dpsims prepare`.
        out: JSON file to write, whole or not at all; None: only return.
        evaluator_path: folder of `dpsims train-evaluators`.
        references: measure the reference rows too (from the cache where they are known).
        device: of the generator and the evaluation network.
        progress: show bars.
        settings: fields of `Protocol`.

    Returns:
        What was written: format, protocol, checkpoint, generator, references (None if not asked for), seconds.

    Raises:
        InputError: anything missing, foreign or not matching; `out` cannot be written (found before measuring).
    """
    from dpsims.synthesis import load_generator  # only here: measuring anything else needs no models

    if out is not None:
        _check_writable(Path(out))
    data, evaluator = load_prepared(data_path), load_evaluator(evaluator_path, device)
    generator = load_generator(checkpoint, device=device)
    started = time.perf_counter()
    row = evaluate(
        lambda labels, seeds: generator(labels, seed=seeds), data, evaluator=evaluator, progress=progress, **settings
    )
    drawn = time.perf_counter()
    result = {
        "format": FORMAT,
        "protocol": describe(data, evaluator, Protocol(**settings)),
        "checkpoint": str(checkpoint),
        "generator": row,
        "references": reference_rows(data, evaluator, progress=progress, **settings) if references else None,
        "seconds": {"generator": round(drawn - started, 1), "references": round(time.perf_counter() - drawn, 1)},
    }
    if out is not None:
        _write(Path(out), result)
    return result


def describe(data: PreparedData, evaluator: Segmenter, protocol: Protocol) -> dict:
    """All that must be equal for two results to be comparable, as plain JSON values."""
    index = data.index
    return {
        "split": "val",
        "maps": protocol.count(data),
        "samples_per_map": protocol.samples_per_map,
        "diversity_maps": min(protocol.diversity_maps, protocol.count(data)),
        "seed": protocol.seed,
        "sample_seed": "(seed * 1000000 + map) * 1000 + draw",
        "distance": "draw 0 of every map against the real images of the same maps",
        "quantisation": "uint8",
        "height": index["height"],
        "width": index["width"],
        "data": {
            "dataset": index["dataset"],
            "sha256": hashlib.sha256(json.dumps(index["sha256"], sort_keys=True).encode()).hexdigest(),
        },
        "evaluator": {"sha256": evaluator.sha256, "num_features": evaluator.num_features},
    }


class _Bench:
    """Holds what all rows share: the data, the network and the features of the real images."""

    def __init__(self, data: PreparedData, evaluator: Segmenter, protocol: Protocol) -> None:
        self.data, self.evaluator, self.protocol = data, evaluator, protocol
        self.names = label_space(data.index["dataset"]).names[1:]
        if evaluator.num_classes != data.index["num_classes"]:
            raise InputError(
                f"the evaluation network knows {evaluator.num_classes} classes and the data set "
                f"{data.index['dataset']} has {data.index['num_classes']}; name one that was trained for it"
            )
        images = data.split("val").images[: protocol.count(data)]
        chunks = range(0, len(images), protocol.batch_size)
        self.real_features = torch.cat(
            [evaluator.judge(_channels_first(images[i : i + protocol.batch_size])).features.cpu() for i in chunks]
        )

    def measure(self, row: Reference, progress: bool) -> dict:
        """The figures of one row; see `evaluate`."""
        labels = self.data.split(row.split).labels[row.maps.start : row.maps.stop]
        score, features, moods = SegmentationScore(self.evaluator.num_classes), [], []
        diverse = min(self.protocol.diversity_maps, len(labels))
        first_draws: list[Tensor] = []
        size, draws = self.protocol.batch_size, self.protocol.samples_per_map
        bar = tqdm(total=len(labels) + diverse * (draws - 1), desc=row.name, unit="image", disable=not progress)
        with bar:
            for first in range(0, len(labels), size):
                chunk = torch.from_numpy(labels[first : first + size].astype(np.int64))
                images = self._draw(row, chunk, [(first + i, 0) for i in range(len(chunk))])
                judged = self.evaluator.judge(images)
                score.update(judged.classes.argmax(1).cpu(), chunk)
                features.append(judged.features.cpu())
                moods.append(judged.moods.argmax(1).cpu())
                first_draws.append(images[: max(0, diverse - first)])
                bar.update(len(chunk))
            spread = self._spread(row, labels, torch.cat(first_draws), torch.cat(moods), bar)
        result = score.result()
        has_moods = self.data.split(row.split).moods is not None
        return {
            "frechet": FrechetDistance(self.real_features[row.against.start : row.against.stop])(torch.cat(features)),
            "miou": result["miou"],
            "pixel_accuracy": result["pixel_accuracy"],
            "iou": dict(zip(self.names, result["iou"], strict=True)),
            "diversity_l1": spread[0],
            "mood_shares": diversity.mood_shares(torch.cat(moods), self.evaluator.moods) if has_moods else None,
            "moods_per_six": spread[1] if has_moods else None,
            "num_images": len(labels),
            "num_maps_diversity": diverse,
        }

    def _spread(
        self, row: Reference, labels: np.ndarray, first_draws: Tensor, first_moods: Tensor, bar: tqdm
    ) -> tuple[float, float | None]:
        """Mean pairwise L1 and distinct moods in six draws, over the maps of `first_draws` (S,3,H,W)."""
        distances, distinct = [], []
        for j, image in enumerate(first_draws):
            keys = [(j, draw) for draw in range(1, self.protocol.samples_per_map)]
            more = []
            for some in _batches(keys, self.protocol.batch_size):
                chunk = torch.from_numpy(labels[j].astype(np.int64)).expand(len(some), -1, -1)
                more.append(self._draw(row, chunk, some))
                bar.update(len(some))
            drawn = torch.cat(more)
            distances.append(diversity.pairwise_l1(torch.cat([image[None], drawn])))
            moods = torch.cat([first_moods[j : j + 1], self.evaluator.judge(drawn).moods.argmax(1).cpu()])
            distinct.append(diversity.distinct_in_draws(moods))
        known = [d for d in distinct if d is not None]
        return float(np.mean(distances)), float(np.mean(known)) if known else None

    @torch.inference_mode()
    def _draw(self, row: Reference, labels: Tensor, keys: list[tuple[int, int]]) -> Tensor:
        """Images (B,3,H,W) uint8 on the CPU of labels (B,H,W); keys: (map, draw) of each."""
        images = row.synthesise(labels, [sample_seed(self.protocol.seed, j, draw) for j, draw in keys])
        expected = (len(labels), 3, *labels.shape[1:])
        if tuple(images.shape) != expected:
            raise ValueError(
                f"{row.name}: images of shape {tuple(images.shape)} for {len(labels)} maps, not {expected}"
            )
        if not bool(torch.isfinite(images).all()):
            raise ValueError(f"{row.name}: images with values that are not finite; nothing can be measured")
        return to_bytes(images).cpu()


def _batches(items: list, size: int) -> Iterator[list]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)  # a copy: torch wants no read-only memory map


def _check_writable(file: Path) -> None:
    if file.is_dir():
        raise InputError(f"{file}: a folder; --out names the JSON file to write")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        probe = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); give another --out") from error


def _write(file: Path, content: dict) -> None:
    _check_writable(file)
    checkpoints.write_json(file, content)
