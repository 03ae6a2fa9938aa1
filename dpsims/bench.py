"""What things cost here: the training step, one image, drawing Scenes, reading and preparing files, memory.

Times are medians of process CPU time. Files are those of a small data set that is drawn, so that no real one is needed.
Drawn pictures are flat, and decoded faster than photographs of their size: what preparing adds weighs more than there.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from dpsims.checkpoint import fold_spectral_norm, provenance
from dpsims.data import scenes
from dpsims.data.loader import TrainingBatches
from dpsims.data.prepare import ensure_scenes
from dpsims.data.prepare_folders import prepare_folders
from dpsims.data.prepared import load_prepared
from dpsims.explorer.maps import SceneMaps
from dpsims.explorer.panel import ExplorerPanel
from dpsims.files import check_file, write_json
from dpsims.gpu_bench import spread
from dpsims.launch import command_line
from dpsims.paths import CHECKPOINTS
from dpsims.presets import preset
from dpsims.run_folder import read_metrics
from dpsims.synthesis import build_generator
from dpsims.trainer import Trainer

PAIRS, BATCH = 64, 32  # files of the drawn data set, and images read at a time
HEIGHT, WIDTH = 384, 512  # of the files; of those of COCO-Stuff and ADE20K, most are larger
SIZE, LARGER = 256, 286  # pixels: what is trained on, and what parts of this size are cut from

_CHILD = """
import resource, sys
from dpsims.data.prepare_folders import prepare_folders
prepare_folders("custom", sys.argv[1], sys.argv[2], size=int(sys.argv[3]), progress=False, jobs=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def cpu_milliseconds(work: Callable[[int], Any], repeats: int, warmup: int = 2) -> dict[str, float]:
    """Process CPU time of ``work(i)`` in ms: median, least and most of `repeats` calls.

    CPU time, all threads added, is what a busy machine disturbs least.
    """
    times = []
    for index in range(warmup + repeats):
        begin = time.process_time()
        work(index)
        times.append(1e3 * (time.process_time() - begin))
    return spread(times[warmup:], digits=2)


def bench(
    out: str | Path | None = None, repeats: int = 20, progress: bool = True, processes: bool = True
) -> dict[str, Any]:
    """Measures on one CPU thread and returns, or writes, the figures.

    Args:
        out: JSON file; None writes none.
        repeats: timed calls of each piece of work.
        progress: show a bar.
        processes: also `process_cost`, which starts four trainings.

    Returns:
        `figures`, named by their unit: CPU milliseconds of a training step (batch 8, 64 px, preset scenes64), of one
        64 px image, of reading a batch, of drawing 16 scenes at 64 and 128 px, and of `painting`; those of
        `file_costs`; the peak memory of this process in MiB.

    Raises:
        InputError: `out` cannot be written.
    """
    if out is not None:
        check_file(Path(out))  # before minutes of measuring
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = preset("scenes64")
        data = load_prepared(ensure_scenes(64, n=256, n_val=64))
        trainer = Trainer(config, data)
        trainer.fit_conditioning(progress=False)
        generator = fold_spectral_norm(build_generator(config, folded=False))
        labels = torch.from_numpy(data.split("val").labels[:1].astype("int64"))
        noise = generator.sample_noise(1)
        batches: TrainingBatches = trainer.batches

        @torch.inference_mode()
        def one_image(index: int) -> None:
            generator(labels, noise)

        work: dict[str, Callable[[int], Any]] = {
            "training_step_ms": trainer.step,
            "image_64_ms": one_image,
            "read_batch_ms": batches,
            "draw_16_scenes_64_ms": lambda i: scenes.render(range(16 * i, 16 * i + 16), 64),
            "draw_16_scenes_128_ms": lambda i: scenes.render(range(16 * i, 16 * i + 16), 128),
        }
        figures: dict[str, Any] = {}
        for name, call in tqdm(work.items(), "benchmark", disable=not progress):
            figures[name] = cpu_milliseconds(call, repeats)
        for size in (64, 128):
            figures[f"painted_to_image_{size}_ms"] = cpu_milliseconds(painting(CHECKPOINTS / f"scenes-{size}"), repeats)
        with tempfile.TemporaryDirectory() as folder:
            figures |= file_costs(Path(folder) / "files", repeats)
            if processes:
                figures["two_processes_ratio"] = process_cost(Path(folder) / "half", repeats)
                figures["two_processes_per_image_ratio"] = process_cost(Path(folder) / "whole", repeats, whole=True)
    finally:
        torch.set_num_threads(threads)
    figures["peak_memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    result = {"figures": figures, **provenance(repeats=repeats, unit="process CPU time, one thread")}
    result["threads"] = 1
    if out is not None:
        write_json(Path(out), result)
    return result


def painting(checkpoint: Path) -> Callable[[int], None]:
    """What the explorer does between the message that the pen was lifted and the new image on its way, as a function of
    the number of the stroke."""
    panel = ExplorerPanel({checkpoint.name: checkpoint}, SceneMaps(2))
    maps = [panel.maps.labels(number, panel.generator.size).tobytes() for number in range(2)]
    return lambda i: panel.painter.set_state({"_labels": memoryview(maps[(i + 1) % 2])})


def process_cost(folder: Path, repeats: int, whole: bool = False) -> dict[str, float]:
    """CPU time of a training step in two processes, twice that of the first, as a multiple of that in one, an image:
    median, least and most of `repeats` steps, one thread a process, both kinds of training one after the other, twice.

    Args:
        folder: for the runs; not there yet.
        repeats: timed steps of each kind, to the next even number.
        whole: each process works on as many images as the one alone, instead of on half as many; what a step costs
            whatever the number of images (spectral norms, optimisers) then counts once a process and image.
    """
    few = ["data.num_images=256", "discriminator.statistics_images=64", f"train.steps={-(-repeats // 2) + 2}"]
    every = ["train.log_every=1", "train.grad_norm_every=1000000"]
    sets = [part for setting in (*few, *every) for part in ("--set", setting)]
    steps: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(2):
        for number in steps:
            out, images = folder / f"{number} {turn}", number if whole else 1
            batch = ["--set", f"train.batch_size={images * preset('scenes64').train.batch_size}"]
            command = command_line(number, ["train", "--preset", "scenes64", *sets, *batch, "--out", str(out)])
            subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
            took = np.diff(read_metrics(out)["cpu_seconds"])[1:]  # of the first process; two steps warm up
            steps[number] += [number / images * float(seconds) for seconds in took]
    one = statistics.median(steps[1])
    return spread([seconds / one for seconds in steps[2]], digits=3)


def file_costs(folder: Path, repeats: int) -> dict[str, Any]:
    """What reading and preparing files cost, on one core.

    Args:
        folder: empty; for the files.
        repeats: timed calls of each.

    Returns:
        read_256_per_s: images a second, read from prepared data of 256 px as they are.
        read_cut_256_per_s: the same from 286 px, cut, flipped and made numbers for the networks.
        prepare_ratio: speed of preparing as a share of that of `decode_and_resize`, files of 512 x 384 px to 256 px.
        prepare_mib, prepare_4_times_mib: peak memory of a process that prepares `PAIRS` pairs, and four times as many.
    """
    few, many = plant(folder / "few"), plant(folder / "many", copies=4)
    prepared = {size: folder / str(size) for size in (SIZE, LARGER)}
    for size, out in prepared.items():
        prepare_folders("custom", few, out, size=size, progress=False, jobs=1)
    data = {size: load_prepared(out) for size, out in prepared.items()}
    plain, pixels = data[SIZE].split("train"), data[LARGER].index["splits"]["train"]["class_pixels"]
    chosen = np.random.default_rng(0).integers(0, len(plain.labels), (repeats + 2, BATCH))
    cut = TrainingBatches(data[LARGER].split("train"), pixels, BATCH, 0, True, True, (SIZE, SIZE))
    reading = {
        "read_256_per_s": lambda i: (plain.images[chosen[i]], plain.labels[chosen[i]]),
        "read_cut_256_per_s": cut,
    }
    figures: dict[str, Any] = {}
    for name, call in reading.items():
        took = cpu_milliseconds(call, repeats)
        turned = {"median": "median", "least": "most", "most": "least"}  # the longest time is the lowest speed
        figures[name] = {key: round(1e3 * BATCH / took[of]) for key, of in turned.items()}
    figures["prepare_ratio"] = spread([prepare_share(few, folder / "again") for _ in range(repeats)], digits=3)
    for name, root in {"prepare_mib": few, "prepare_4_times_mib": many}.items():
        figures[name] = round(peak_kib(root, folder / name) / 1024)
    return figures


def plant(root: Path, pairs: int = PAIRS, copies: int = 1) -> Path:
    """Draw a custom data set of `pairs` * `copies` pairs, two of which are held out; returns `root`."""
    batch = scenes.render(range(pairs), (HEIGHT, WIDTH))
    for kind, suffix, arrays in (("images", "jpg", batch.images), ("labels", "png", batch.labels)):
        for split in ("train", "val"):
            (root / kind / split).mkdir(parents=True)
        for number, array in enumerate(arrays):
            first = root / kind / ("val" if number < 2 else "train") / f"{number}.{suffix}"
            Image.fromarray(array).save(first)
            for copy in range(1, copies):
                shutil.copy(first, root / kind / "train" / f"{number}-{copy}.{suffix}")
    names = ", ".join(f"{number}: {name}" for number, name in enumerate(scenes.CLASSES, 1))
    (root / "dataset.yml").write_text(f"names: {{{names}}}\n", encoding="utf-8")
    return root


def prepare_share(root: Path, out: Path) -> float:
    """Speed of preparing as a share of that of `decode_and_resize`, one after the other; `out` is removed again."""
    alone = cpu_milliseconds(lambda i: decode_and_resize(root), repeats=1, warmup=0)["median"]
    made = cpu_milliseconds(
        lambda i: prepare_folders("custom", root, out, size=SIZE, progress=False, jobs=1), repeats=1, warmup=0
    )["median"]
    shutil.rmtree(out)
    return round(alone / made, 2)


def decode_and_resize(root: Path) -> None:
    """What preparing cannot do without: every pair decoded and brought to size by Pillow; nothing checked or kept."""
    for label_file in sorted(root.glob("labels/*/*.png")):
        image_file = root / "images" / label_file.parent.name / f"{label_file.stem}.jpg"
        for file, way in ((image_file, Image.Resampling.BICUBIC), (label_file, Image.Resampling.NEAREST)):
            with Image.open(file) as image:
                np.asarray(image.resize((SIZE, SIZE), way))


def peak_kib(root: Path, out: Path) -> int:
    """Peak resident memory in KiB of a process that prepares a data set, one core at work.

    It is the child of a child: a process is told the peak of the one that started it where that is higher.
    """
    between = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"
    command = [sys.executable, "-c", between, "-c", _CHILD, str(root), str(out), str(SIZE)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
