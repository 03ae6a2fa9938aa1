"""What things cost here: the training step, one image, drawing Scenes, memory. Medians of process CPU time."""

import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from dpsims.checkpoint import fold_spectral_norm, provenance
from dpsims.config import preset
from dpsims.data import scenes
from dpsims.data.loader import TrainingBatches
from dpsims.data.prepare import ensure_scenes, load_prepared
from dpsims.files import check_file, write_json
from dpsims.synthesis import build_generator
from dpsims.training import Trainer


def cpu_milliseconds(work: Callable[[int], Any], repeats: int, warmup: int = 2) -> dict[str, float]:
    """Process CPU time of ``work(i)`` in ms: median, least and most of `repeats` calls.

    CPU time, all threads added, is what a busy machine disturbs least.
    """
    times = []
    for index in range(warmup + repeats):
        begin = time.process_time()
        work(index)
        times.append(1e3 * (time.process_time() - begin))
    kept = sorted(times[warmup:])
    return {"median": round(statistics.median(kept), 2), "least": round(kept[0], 2), "most": round(kept[-1], 2)}


def bench(out: str | Path | None = None, repeats: int = 20, progress: bool = True) -> dict[str, Any]:
    """Measures on one CPU thread and returns, or writes, the figures.

    Args:
        out: JSON file; None writes none.
        repeats: timed calls of each piece of work.
        progress: show a bar.

    Returns:
        CPU milliseconds of a training step (batch 8, 64 px, preset scenes64), of one 64 px image, of reading a batch
        and of drawing 16 scenes at 64 and 128 px, and the peak memory of this process in MiB.

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
    finally:
        torch.set_num_threads(threads)
    figures["peak_memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    result = {"figures": figures, **provenance(repeats=repeats, unit="process CPU time, one thread")}
    result["threads"] = 1
    if out is not None:
        write_json(Path(out), result)
    return result
