"""Speed and memory on the device at hand: images a second of G alone and of the training step, beside its peak.

The peak is that of a large bf16 matrix product on random data, as measured; operations are those of convolutions and
matrix products, as `torch.utils.flop_counter` counts them in one call. Times are of single calls between
synchronised clocks, after warm-up; a step's includes the reading of its batch, as in a training.
"""

import gc
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dpsims.checkpoint import device_name, fold_spectral_norm
from dpsims.config import Config, override
from dpsims.data.prepare import ensure_scenes
from dpsims.data.prepared import PreparedData, load_prepared
from dpsims.data.workers import cores
from dpsims.synthesis import build_generator
from dpsims.trainer import Trainer

# how the networks run: autocast to bf16 or not, and whether cuDNN tries its algorithms first
MODES = {"bf16": (True, False), "bf16, cuDNN tried out": (True, True), "float32": (False, False)}
STEP, IMAGE = "training step", "drawing"  # kinds of work


@dataclass(frozen=True)
class Load:
    """What is measured."""

    configs: tuple[Config, ...]  # one for each size
    steps: tuple[tuple[str, int], ...]  # (mode, batch) of training steps
    images: tuple[tuple[str, int], ...]  # (mode, batch) of G alone
    matrix: int = 8192  # side of the matrices of the product
    repeats: int = 20  # timed calls
    warmup: int = 3  # calls before them


def spread(numbers: Sequence[float], digits: int) -> dict[str, float]:
    """Median, least and most, rounded."""
    found = {"median": statistics.median(numbers), "least": min(numbers), "most": max(numbers)}
    return {name: round(value, digits) for name, value in found.items()}


def on_gpu() -> bool:
    """Whether there is one that torch can use; a training takes it then."""
    return torch.cuda.is_available()


def synchronise() -> None:
    """Waits for the GPU, where there is one."""
    if on_gpu():
        torch.cuda.synchronize()


def milliseconds(work: Callable[[], Any], repeats: int, warmup: int) -> dict[str, float]:
    """Wall time of one call in ms: median, least and most of `repeats`."""
    times = []
    for _ in range(warmup + repeats):
        synchronise()
        begin = time.perf_counter()
        work()
        synchronise()
        times.append(1e3 * (time.perf_counter() - begin))
    return spread(times[warmup:], digits=3)


def matrix_peak(side: int, repeats: int, warmup: int) -> float:
    """10^12 operations a second of a product of two bf16 matrices of `side` rows, random numbers."""
    a, b = (torch.randn(side, side, device="cuda" if on_gpu() else "cpu").bfloat16() for _ in range(2))
    took = milliseconds(lambda: a @ b, repeats, warmup)["median"]
    return round(2 * side**3 / took / 1e9, 4)


def peak_memory_mib() -> int:
    """Most memory that tensors took on the GPU since `fresh_memory`; without one, the peak of this process so far."""
    if on_gpu():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def fresh_memory() -> None:
    """Gives what earlier work held back, and counts the peak anew."""
    gc.collect()
    if on_gpu():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def bench(load: Load, done: dict[str, Any], keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measures what `done` lacks.

    Args:
        load: what to measure.
        done: an earlier, unfinished result, {} at first; one of another device is measured anew.
        keep: called with the result so far after every row.

    Returns:
        device: its name; matrix_tflops: the peak, 10^12 operations a second; memory_of: whose peak_memory_mib is;
        float32_tf32: whether cuDNN may round float32 convolutions to TF32; repeats; and rows, each of work, size_px,
        batch, mode, ms (median, least, most of a call), images_per_s, gmacs_per_image (10^9 multiply-adds), tflops,
        share_of_peak (of matrix_tflops; bf16 alone), peak_memory_mib; or `failed`: "out of memory" instead of the last
        six.
    """
    device = device_name()
    if done.get("device") != device:  # rows of two devices do not compare
        done = {}
    result = {
        "device": device,
        "memory_of": "tensors on the GPU" if on_gpu() else "the process",
        "float32_tf32": torch.backends.cudnn.allow_tf32,
        "repeats": load.repeats,
        "rows": [],
        **done,
    }
    if "matrix_tflops" not in result:
        result["matrix_tflops"] = matrix_peak(load.matrix, load.repeats, load.warmup)
        keep(result)
    known = {(row["work"], row["size_px"], row["batch"], row["mode"]) for row in result["rows"]}
    for config in load.configs:
        work = [(IMAGE, *each) for each in load.images] + [(STEP, *each) for each in load.steps]
        for kind, mode, batch in work:
            if (kind, config.data.height, batch, mode) not in known:
                row = _row(kind, config, mode, batch, load, result["matrix_tflops"])
                result["rows"].append(row)
                print(_line(row), flush=True)
                keep(result)
    return result


def _row(kind: str, config: Config, mode: str, batch: int, load: Load, peak: float) -> dict[str, Any]:
    row = {"work": kind, "size_px": config.data.height, "batch": batch, "mode": mode}
    bf16, torch.backends.cudnn.benchmark = MODES[mode]
    fresh_memory()
    try:
        call = (_step if kind == STEP else _image)(config, bf16, batch)
        with FlopCounterMode(display=False) as counter:
            call()
        gmacs = counter.get_total_flops() / 2e9 / batch
        took = milliseconds(call, load.repeats, load.warmup)
    except torch.OutOfMemoryError:
        return row | {"failed": "out of memory"}
    finally:
        torch.backends.cudnn.benchmark = False
    speed = 1e3 * batch / took["median"]
    tflops = 2 * gmacs * speed / 1e3
    row |= {"ms": took, "images_per_s": round(speed, 4), "gmacs_per_image": round(gmacs, 4), "tflops": round(tflops, 4)}
    if bf16:
        row["share_of_peak"] = round(tflops / peak, 5)
    return row | {"peak_memory_mib": peak_memory_mib()}


def _data(config: Config) -> PreparedData:
    """A few scenes of the size."""
    return load_prepared(ensure_scenes(config.data.height, n=256, n_val=64, progress=False, jobs=cores()))


def _step(config: Config, bf16: bool, batch: int) -> Callable[[], Any]:
    """One training step after another, with random weights."""
    config = override(
        config,
        [f"train.bf16={bf16}", f"train.batch_size={batch}", "discriminator.statistics_images=64", "train.start_from="],
    )
    trainer = Trainer(config, _data(config))
    trainer.fit_conditioning(progress=False)
    steps = iter(range(config.train.steps))
    return lambda: trainer.step(next(steps))


def _image(config: Config, bf16: bool, batch: int) -> Callable[[], Any]:
    """G as it is exported, on real label maps."""
    device = "cuda" if on_gpu() else "cpu"
    maps = torch.from_numpy(_data(config).split("train").labels[:batch].astype("int64")).to(device)
    generator = fold_spectral_norm(build_generator(config, folded=False)).to(device, memory_format=torch.channels_last)
    noise = generator.sample_noise(len(maps)).to(device)

    @torch.inference_mode()
    def call() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            generator(maps, noise)

    return call


def _line(row: dict[str, Any]) -> str:
    said = f"  {row['work']}, {row['size_px']} px, batch {row['batch']}, {row['mode']}: "
    if "failed" in row:
        return said + row["failed"]
    share = f", {row['share_of_peak']:.1%} of the matrix peak" if "share_of_peak" in row else ""
    return said + f"{row['images_per_s']:,.1f} images/s{share}, {row['peak_memory_mib']} MiB"
