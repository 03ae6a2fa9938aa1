"""The evaluation protocol: one way to measure a generator and the reference rows, and everything that fixes it.

All label maps of "val" (or the first of them) are drawn once; these images give the Fréchet distances to the real
images of the same maps, the segmentation scores and the shares of moods. The first maps are drawn several times for
diversity. Every image is turned to 8 bits before anything is measured, and everything is measured in float32 or better.
Sample i of map j has the seed of `sample_seed`. Standing: default of this project (`unet.py` says why).
"""

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsims.data.prepared import PreparedData, load_prepared
from dpsims.errors import InputError
from dpsims.evaluation import intervals, rebalancing, texture
from dpsims.evaluation.drawn_images import find_drawn
from dpsims.evaluation.measuring import Protocol, Yardstick
from dpsims.evaluation.references import Reference, Synthesise, rows_for
from dpsims.evaluation.segmenter import evaluator_for, load_evaluator
from dpsims.evaluation.unet import Segmenter
from dpsims.files import check_file, write_json
from dpsims.paths import CACHE, EVALUATORS
from dpsims.processes import Processes

if TYPE_CHECKING:
    from dpsims.synthesis import Synthesizer

FORMAT = 2  # 1 had one distance and no intervals


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
        evaluator: from `load_evaluator`, trained on these data.
        progress: show a bar.
        settings: fields of `Protocol`: max_maps, samples_per_map, diversity_maps, seed, batch_size.

    Returns:
        frechet: distance to the real images of the same maps, >= 0, one image a map; lower is better.
        frechet_texture: the same in features that know nothing of scenes; `texture.py` says what they share.
        frechet_rebalanced: `frechet` with the moods that are drawn given their real shares, see `rebalancing.py`;
        rebalanced_moods: these; rebalanced_images: effective numbers of real and generated images it rests on.
        miou, pixel_accuracy: in [0,1], over the whole set; iou: by class name, None for an absent class.
        diversity_l1: mean pairwise L1 in [0,1] of samples of one map, mean over maps; None of one image a map.
        <name>_interval: [low, high] of 90 % for the three distances, miou and diversity_l1, see `intervals.py`; None
        where there are too few maps (four for a distance, two for the others).
        mood_shares: by mood, of one image a map; moods_per_six: distinct moods in six draws of a map (None when fewer
        than six are drawn). These and the re-balanced figures are None for data without moods.
        num_images, num_maps_diversity: how many maps the figures rest on.

    Raises:
        InputError: impossible settings; an evaluation network of another size, other classes or another data set; data
            without held-out photographs.
        ValueError: `synthesise` returned another shape or values that are not finite.
    """
    return _generated(synthesise, Yardstick(data, evaluator, Protocol(**settings)), progress)


def _generated(synthesise: Synthesise, yardstick: Yardstick, progress: bool) -> dict:
    return yardstick.measure(_row(synthesise, yardstick), progress)


def _row(synthesise: Synthesise, yardstick: Yardstick) -> Reference:
    return Reference("generated", "what was given", synthesise, range(yardstick.count))


def usual_evaluator(data_path: str | Path) -> Path:
    """The network that measures prepared data where none is given: the one of `evaluator_for` if it is there, else the
    shipped one for Scenes of 64 pixels, of which `Yardstick` then says what does not fit."""
    usual = evaluator_for(data_path)
    return usual if (usual / "provenance.json").is_file() else EVALUATORS / "scenes-64"


def open_yardstick(
    data_path: str | Path,
    evaluator_path: str | Path | None = None,
    device: str | None = None,
    *,
    progress: bool = True,
    processes: Processes | None = None,
    **settings: Any,
) -> Yardstick:
    """What checkpoints are measured by, once for all of them; arguments and errors as of `evaluate_checkpoint`."""
    protocol = Protocol(**settings)  # first: verifying reads every file
    evaluator = evaluator_path or usual_evaluator(data_path)
    yardstick = Yardstick(load_prepared(data_path), load_evaluator(evaluator, device), protocol, processes)
    if yardstick.processes.main:  # results and cached rows carry the hash of the data: it must be theirs
        yardstick.data.verify(progress=progress)
    return yardstick


def measure_checkpoint(checkpoint: str | Path, yardstick: Yardstick, progress: bool = True) -> dict:
    """The figures of a trained generator, as `evaluate` gives them, drawn where the evaluation network is."""
    return _generated(_drawing(_generator(checkpoint, yardstick)), yardstick, progress)


def _generator(checkpoint: str | Path, yardstick: Yardstick) -> "Synthesizer":
    """The generator of a checkpoint; raises InputError unless it is for the classes and the size of the data."""
    from dpsims.synthesis import load_generator  # only here: measuring anything else needs no generator

    generator, data = load_generator(checkpoint, device=yardstick.texture.device), yardstick.data
    size = (data.index["height"], data.index["width"])
    if generator.size != size or generator.space.names != data.space.names:
        draws, are = (
            f"{space.num_classes} classes of {space.name} at {height} x {width} pixels"
            for space, (height, width) in ((generator.space, generator.size), (data.space, size))
        )
        raise InputError(
            f"{checkpoint}: draws {draws}, and {data.path} holds {are}, or has other names for them; give the data set "
            "that it was trained on, prepared at its size"
        )
    return generator


def _drawing(generator: "Synthesizer") -> Synthesise:
    return lambda labels, seeds: generator(labels, seed=seeds)


def reference_rows(
    data: PreparedData, evaluator: Segmenter, *, cache: bool = True, progress: bool = True, **settings: Any
) -> dict[str, dict]:
    """The results of `evaluate` for every row of `references.py`, by name, with `meaning` and `diversity_ratio`.

    They cost more than a generator's row, so they are kept under `CACHE/references`, by a hash of the protocol, the
    data, the evaluation network and the source of this package.

    Args:
        data, evaluator, settings: as in `evaluate`.
        cache: take them from there, and put them there.
        progress: show bars.
    """
    return _reference_rows(Yardstick(data, evaluator, Protocol(**settings)), cache, progress)


def _reference_rows(yardstick: Yardstick, cache: bool, progress: bool) -> dict[str, dict]:
    described = json.dumps(describe(yardstick.data, yardstick.evaluator, yardstick.protocol), sort_keys=True)
    sources = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    file = CACHE / "references" / f"{hashlib.sha256(described.encode() + sources).hexdigest()[:24]}.json"
    known = _cached(file) if cache else {}
    if not yardstick.processes.any(not known):  # all have them, or all measure
        return known
    rows = {
        row.name: {"meaning": row.meaning, **yardstick.measure(row, progress)}
        for row in rows_for(yardstick.data, yardstick.count)
    }
    for row in rows.values():
        row["diversity_ratio"] = diversity_ratio(row, rows)
    if cache and yardstick.processes.main:
        write_json(file, rows)
    return rows


def _cached(file: Path) -> dict[str, dict]:
    """Rows from the cache; none where the file is missing or damaged, so that they are measured anew."""
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(rows, dict) and all(isinstance(row, dict) and "frechet" in row for row in rows.values())
    return rows if whole else {}


def diversity_ratio(row: dict, references: dict[str, dict]) -> float | None:
    """`diversity_l1` of a row over that of row "redrawn", which samples the known distribution: 1 is as it should be.

    Returns:
        None where there is no such row (data other than Scenes), its diversity is 0 or that of `row` is not known.
    """
    known = references.get("redrawn", {}).get("diversity_l1")
    return row["diversity_l1"] / known if known and row["diversity_l1"] is not None else None


def evaluate_checkpoint(
    checkpoint: str | Path,
    data_path: str | Path,
    out: str | Path | None = None,
    *,
    evaluator_path: str | Path | None = None,
    device: str | None = "cpu",
    progress: bool = True,
    **settings: Any,
) -> dict:
    """Measure a trained generator and write a JSON file: protocol, reference rows, generator row.

    Args:
        checkpoint: folder that `dpsims.synthesis.load_generator` reads.
        data_path: folder of `dpsims prepare`.
        out: JSON file to write, whole or not at all; None: only return.
        evaluator_path: folder of `dpsims train-evaluators`; None: that of `usual_evaluator`.
        device: of the generator and the evaluation network; None: the GPU where there is one.
        progress: show bars.
        settings: `processes` that share the work, from `processes.launched`, of which one writes; fields of `Protocol`.

    Returns:
        What was written: format; protocol; evaluator: how good it is on held-out real images, from its provenance;
        checkpoint; texture_shares: what its training shares with the texture features; generator, with
        `diversity_ratio`; references (from the cache where they are known); seconds.

    Raises:
        InputError: anything missing, foreign or not matching; `out` cannot be written (found before measuring).
    """
    if out is not None:
        check_file(Path(out))
    yardstick = open_yardstick(data_path, evaluator_path, device, progress=progress, **settings)
    generator = _generator(checkpoint, yardstick)
    row = _row(_drawing(generator), yardstick)
    facts = {"checkpoint": str(checkpoint), "texture_shares": texture.kinship(generator.config)}
    return _measured(row, facts, yardstick, out, progress)


def evaluate_images(
    images: str | Path,
    data_path: str | Path,
    out: str | Path | None = None,
    *,
    device: str | None = "cpu",
    progress: bool = True,
    **options: Any,
) -> dict:
    """Measure images that were drawn elsewhere, as `evaluate_checkpoint` does those of a checkpoint.

    Args:
        images: folder of PNG files, at least one for each label map that is drawn; `drawn_images.find_drawn` says how
            they are named. Diversity is measured where each of the first maps has several, and None otherwise.
        data_path, out, device, progress: as of `evaluate_checkpoint`.
        options: its other keywords.

    Returns:
        As `evaluate_checkpoint`, but instead of `checkpoint` it says `images`: their folder, how they are named, and
        how many of each map were used.

    Raises:
        InputError: as of `evaluate_checkpoint` and `find_drawn`.
    """
    if out is not None:
        check_file(Path(out))
    yardstick = open_yardstick(data_path, device=device, progress=progress, **options)
    drawn = find_drawn(images, yardstick.data, yardstick.count, progress)
    draws = min(drawn.draws(yardstick.protocol.diversity_maps), yardstick.protocol.samples_per_map)
    row = Reference("generated", "images drawn elsewhere", drawn, range(yardstick.count), draws=draws)
    facts = {
        "images": {"folder": str(images), "named_by": drawn.named_by, "draws": draws},
        "texture_shares": "an unknown part: the images were drawn elsewhere",
    }
    return _measured(row, facts, yardstick, out, progress)


def _measured(
    reference: Reference, facts: dict[str, Any], yardstick: Yardstick, out: str | Path | None, progress: bool
) -> dict:
    """The result of one row beside the reference rows, written to `out`; `facts` say what was measured."""
    started = time.perf_counter()
    row = yardstick.measure(reference, progress)
    drawn = time.perf_counter()
    rows = _reference_rows(yardstick, True, progress)
    row["diversity_ratio"] = diversity_ratio(row, rows)
    result = {
        "format": FORMAT,
        "protocol": describe(yardstick.data, yardstick.evaluator, yardstick.protocol),
        "evaluator": yardstick.evaluator.quality,
        **facts,
        "generator": row,
        "references": rows,
        "seconds": {"generator": round(drawn - started, 1), "references": round(time.perf_counter() - drawn, 1)},
    }
    if out is not None and yardstick.processes.main:
        write_json(Path(out), result)
    return result


def describe(data: PreparedData, evaluator: Segmenter, protocol: Protocol) -> dict:
    """All that must be equal for two results to be comparable, as plain JSON values."""
    index = data.index
    return {
        "format": FORMAT,  # rows of another format have other figures: not to be compared, nor taken from the cache
        "split": "val",
        "maps": protocol.count(data),
        "samples_per_map": protocol.samples_per_map,
        "diversity_maps": min(protocol.diversity_maps, protocol.count(data)),
        "seed": protocol.seed,
        "sample_seed": "(seed * 1000000 + map) * 1000 + draw",
        "distance": "draw 0 of every map against the real images of the same maps",
        "rebalanced": f"moods of {rebalancing.LEAST_SHARE:.1%} or more of the generated images, at their real shares",
        "intervals": {"level": intervals.LEVEL, "halves": intervals.HALVES, "method": "centred half-sampling of maps"},
        "quantisation": "uint8",
        "height": index["height"],
        "width": index["width"],
        "data": {
            "dataset": index["dataset"],
            "sha256": hashlib.sha256(json.dumps(index["sha256"], sort_keys=True).encode()).hexdigest(),
        },
        "evaluator": {"sha256": evaluator.sha256, "num_features": evaluator.num_features},
        "texture": texture.describe(),
    }
