"""The stages of a session on a lent GPU, see `dpsims.gpu_session`: what each makes, and how much of it.

A stage gets the session and its own entry of results.json, to which it adds what it found. What it makes lies under
fixed names in the session's working folder.
"""

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dpsims import gpu_bench
from dpsims.checkpoint import checkpoints, export_run, newest_step
from dpsims.config import Config, override
from dpsims.data.prepare import ensure_scenes
from dpsims.data.workers import cores
from dpsims.errors import InputError, OutOfTime
from dpsims.evaluation.protocol import evaluate_checkpoint
from dpsims.evaluation.segmenter import train_evaluator
from dpsims.files import replacing
from dpsims.gpu_bench import Load
from dpsims.presets import preset
from dpsims.pretraining import pretrain
from dpsims.training import fit

if TYPE_CHECKING:  # the session runs the stages
    from dpsims.gpu_session import Session

NOTEBOOK = "03_training.ipynb"
KEPT = ("backbone", "evaluator", "run", "export", "evaluation.json", NOTEBOOK)  # what a session makes
ONLY_TO_GO_ON = ("training_state.pt", "generator_live.safetensors")  # of a checkpoint: a finished training needs none
EXPORT_LIMIT = 14e6  # bytes that a shipped model may have


@dataclass(frozen=True)
class Plan:
    """How much each stage does; the same at every call of one session."""

    size: int  # pixels
    training: Config
    bench: Load
    backbone: dict[str, int] = field(default_factory=dict)  # arguments of `pretrain`
    evaluator_steps: int = 1500
    evaluation: dict[str, Any] = field(default_factory=dict)  # fields of the protocol
    notebook: tuple[str, ...] = ()  # --set of `dpsims reproduce`

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return dataclasses.asdict(self)


def plan(size: int = 128, settings: Iterable[str] = ()) -> Plan:
    """The session of the command line.

    Args:
        size: 128 or 256 pixels.
        settings: further changes of the training, ``section.field=value``.

    Raises:
        InputError: another size, or bad settings.
    """
    if size not in (128, 256):
        raise InputError(f"--size {size}: the stages are made for 128 and 256 pixels; give one of them")
    load = Load(
        configs=(training(128), training(256)),
        steps=(("bf16", 8), ("bf16", 32), ("bf16", 128), ("bf16, cuDNN tried out", 32), ("float32", 32)),
        images=(("bf16", 1), ("bf16", 32), ("bf16", 256), ("bf16, cuDNN tried out", 32), ("float32", 32)),
    )
    return Plan(size, training(size, settings), load)


def training(size: int, settings: Iterable[str] = ()) -> Config:
    """Preset scenes128 with larger batches and more images; at 256 px one level more in G. Batch and steps are ours and
    were not tried yet."""
    config = preset("scenes128")
    channels = config.generator.channels + (config.generator.channels[-1],) * (size // 256)
    batch = 64 * 128 // size
    fixed = [
        f"data.height={size}", f"data.width={size}", "data.num_images=6000", f"generator.channels={channels}",
        f"train.batch_size={batch}", "train.steps=8000", "train.decay_from=0.5", "train.checkpoint_every=1000",
        f"train.sample_every={2000 * size // 128}",  # a sheet of 256 px has 2.5 MB, and all have to travel
    ]  # fmt: skip
    return override(config, [*fixed, *settings])


def bench(session: "Session", entry: dict[str, Any]) -> None:
    """Speed and memory of drawing and of the training step, see `dpsims.gpu_bench`."""

    def keep(result: dict[str, Any]) -> None:
        entry["result"] = result
        session.keep()

    entry["result"] = gpu_bench.bench(session.plan.bench, entry.get("result", {}), keep)


def backbone(session: "Session", entry: dict[str, Any]) -> None:
    """The encoder of D, pre-trained on the texture world at this size. It cannot be interrupted and go on."""
    made = pretrain(session.work / "backbone", size=session.plan.size, jobs=cores(), **session.plan.backbone)
    entry |= {key: made[key] for key in ("sha256", "metrics")}


def evaluator(session: "Session", entry: dict[str, Any]) -> None:
    """The evaluation network of Scenes at this size. It cannot be interrupted and go on."""
    made = train_evaluator(session.work / "evaluator", size=session.plan.size, steps=session.plan.evaluator_steps)
    entry |= {key: made[key] for key in ("sha256", "metrics")}


def configuration(session: "Session") -> Config:
    """Of the training: with the session's own backbone where that stage was run."""
    if not session.entry("backbone").get("done"):
        return session.plan.training
    return override(session.plan.training, [f"discriminator.pretrained={session.work}/backbone/weights.safetensors"])


def data(session: "Session") -> Path:
    """The prepared data, drawn by all cores where they are missing: a fresh machine has none."""
    d = session.plan.training.data
    return Path(d.path) if d.path else ensure_scenes((d.height, d.width), n=d.num_images, seed=d.seed, jobs=cores())


def train(session: "Session", entry: dict[str, Any]) -> None:
    """The training, resumed where it stopped; `fit` saves and stops at the signal that ends the session."""
    config, run = configuration(session), session.work / "run"
    steps = config.train.steps
    data(session)
    before, begin = newest_step(run), time.monotonic()
    try:
        fit(config, run, resume=True, keep=1)
    except OutOfTime:  # outside its steps
        pass
    finally:
        step, seconds = newest_step(run), time.monotonic() - begin
        entry |= {"step": step, "steps": steps}
        if step > before:
            entry["last_call"] = {"steps": step - before, "seconds": round(seconds, 1)}
    if step < steps:
        forget_first_moments(run)
        pace = f", about {(steps - step) * seconds / (step - before) / 60:.1f} minutes more" if step > before else ""
        raise OutOfTime(f"at step {step} of {steps}{pace}")


def forget_first_moments(run: Path) -> None:
    """Zeroes Adam's running mean of the gradients in the newest checkpoint, where beta_1 = 0 makes the next step put
    its own gradient there in any case: no number of the training changes, and a quarter of the file packs to nothing.
    """
    for folder in checkpoints(run)[-1:]:
        file = folder / "training_state.pt"
        state = torch.load(file, map_location="cpu", weights_only=True)
        for optimiser in (state["g_optimiser"], state["d_optimiser"]):
            if all(group["betas"][0] == 0 for group in optimiser["param_groups"]):
                for moments in optimiser["state"].values():
                    moments["exp_avg"].zero_()
        with replacing(file) as temporary:
            torch.save(state, temporary)


def evaluate(session: "Session", entry: dict[str, Any]) -> None:
    """The whole protocol for the newest checkpoint, into evaluation.json. It cannot be interrupted and go on."""
    result = evaluate_checkpoint(
        session.work / "run", data(session), session.work / "evaluation.json",
        evaluator_path=session.work / "evaluator", device=None, **session.plan.evaluation,
    )  # fmt: skip
    names = ("frechet", "frechet_texture", "miou", "diversity_l1", "mood_shares", "moods_per_six", "num_images")
    entry |= {"step": newest_step(session.work / "run"), "figures": {name: result["generator"][name] for name in names}}


def export(session: "Session", entry: dict[str, Any]) -> None:
    """The model as it is shipped, with growth.png."""
    made = export_run(session.work / "run", session.work / "export")
    size = sum(file.stat().st_size for file in made.iterdir())
    step = newest_step(session.work / "run")
    entry |= {"step": step, "bytes": size, "within_limit": size <= EXPORT_LIMIT}


def notebook(session: "Session", entry: dict[str, Any]) -> None:
    """Notebook 03, executed on this device; `missing` tells whether it can be."""
    folder = session.work / "notebook"
    command = [sys.executable, "-m", "dpsims", "reproduce", "--preset", "demo", "--only", "03", "--out", str(folder)]
    command += [part for setting in session.plan.notebook for part in ("--set", setting)]
    root = Path(__file__).parent.parent  # kernels run in the folder of the notebooks, and may not have it installed
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH", ""))))
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": path})
    if (folder / NOTEBOOK).is_file():  # of one that failed too: it holds the traceback
        shutil.copy(folder / NOTEBOOK, session.work / NOTEBOOK)
    if ended.returncode:
        raise InputError(f"notebook 03 ended with exit code {ended.returncode}; its output is above")


def stale(session: "Session", entry: dict[str, Any]) -> bool:
    """Whether a stage was done for an older checkpoint: `--stages evaluate,export` measures a training under way."""
    return "step" in entry and entry["step"] != newest_step(session.work / "run")


def missing(name: str) -> str:
    """Why a stage cannot run on this machine; "" where it can."""
    wanted = ("papermill", "ipykernel", "nbformat") if name == "notebook" else ()
    lacking = [package for package in wanted if importlib.util.find_spec(package) is None]
    return f"{', '.join(lacking)} not installed here" if lacking else ""


def files(work: Path, trained: bool) -> list[str]:
    """What has to travel, as names relative to the working folder; of a finished training less."""
    found = [work / "results.json"]
    for name in KEPT:
        found += (
            [work / name] if (work / name).is_file() else sorted(p for p in (work / name).rglob("*") if p.is_file())
        )
    hidden = [p for p in found if any(part.startswith(".") for part in p.relative_to(work).parts)]  # half written
    dropped = ONLY_TO_GO_ON if trained else ()
    return [str(p.relative_to(work)) for p in found if p not in hidden and p.name not in dropped]


STAGES: dict[str, Callable[["Session", dict[str, Any]], None]] = {
    stage.__name__: stage for stage in (bench, backbone, evaluator, train, evaluate, export, notebook)
}
