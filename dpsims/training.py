"""The training of DP-SIMS: `fit` runs it; `dpsims.trainer` has its step, which is the algorithm.

It saves, stops and comes back: after Ctrl-C, SIGTERM (spot instances, Slurm), SIGKILL or a full disk a run goes on from
its newest checkpoint, with the same numbers as one that was never stopped.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from tqdm.auto import tqdm

from dpsims.checkpoint import fold_spectral_norm
from dpsims.config import Config
from dpsims.data.guard import stop_signals
from dpsims.data.loader import prepared_data
from dpsims.run_folder import KEEP, RunFolder
from dpsims.trainer import Trainer
from dpsims.watch import DeadRun, naming_memory, naming_room, stop_if_hopeless

__all__ = ["DeadRun", "FitResult", "Trainer", "fit"]


@dataclass(frozen=True)
class FitResult:
    """Where a training stands: `finished` is False after Ctrl-C or SIGTERM, which save and stop."""

    out: Path
    step: int
    finished: bool


def fit(
    config: Config,
    out: str | Path,
    resume: bool = False,
    progress: bool = True,
    keep: int = KEEP,
    judge: Callable[[nn.Module], float] | None = None,
) -> FitResult:
    """Trains a DP-SIMS.

    Args:
        config: what to train; see `dpsims.presets.preset`.
        out: run folder; see `dpsims.checkpoint` for what is in it.
        resume: go on from the newest checkpoint in `out`, exactly as if nothing had happened; starts afresh where there
            is none. Without it a folder that holds a run is refused.
        progress: show a bar with the time left.
        keep: checkpoints kept, the newest ones; the best one stays beside them.
        judge: gives the Fréchet distance of a generator (folded, in evaluation mode), as
            `dpsims.evaluation.judge.FrechetJudge` does; asked every `train.judge_every` steps and at the end.

    Returns:
        Where the training stands; after Ctrl-C or SIGTERM it is saved but not finished.

    Raises:
        InputError: bad data or folder, a run of another configuration there, or memory or disk that do not suffice.
        DeadRun: the generator can no longer learn; the message says what to change.
    """
    data, t = prepared_data(config), config.train
    with naming_memory(config, Path(out), 0):
        trainer = Trainer(config, data)  # first: what is wrong with the configuration shows before a folder is made
    processes, progress = trainer.processes, progress and trainer.processes.main
    with trainer.accelerator.main_process_first():
        run = RunFolder(Path(out), config, resume, processes.main)
        done, seconds, cpu_seconds = run.restore(trainer)
    if done == 0:
        with naming_memory(config, run.out, 0):
            trainer.begin(progress)
    begin = time.monotonic() - seconds
    bar = tqdm(total=t.steps, initial=done, desc=f"training {run.out.name}", unit="step", disable=not progress)
    with stop_signals() as asked_to_stop, bar:
        for step in range(done, t.steps):
            before = time.process_time()
            with naming_memory(config, run.out, step):
                log = trainer.step(step, measure=step % t.grad_norm_every == 0)
            cpu_seconds += time.process_time() - before
            done = step + 1
            stop = processes.any(asked_to_stop.is_set())
            judged = judge is not None and bool(t.judge_every) and (done % t.judge_every == 0 or done == t.steps)
            save = done % t.checkpoint_every == 0 or done == t.steps or stop or judged
            frechet = judge(fold_spectral_norm(trainer.ema)) if judged else None
            with naming_room(run.out):
                if step % t.log_every == 0 or save:
                    row = processes.average(log) | {"cpu_seconds": cpu_seconds}
                    row |= {} if frechet is None else {"frechet": frechet}
                    if step % t.log_every == 0 or judged:
                        run.log(step, row)
                    bar.set_postfix_str(_told(row))
                    # before weights that are no numbers push out good ones
                    stop_if_hopeless(run.out, step, row, int(trainer.dead), t.dead_after)
                if done % t.sample_every == 0 or done == t.steps:  # first: a kill before the checkpoint draws it again
                    run.sample(trainer.ema, data, done)
                if save:
                    run.save(trainer, done, time.monotonic() - begin, cpu_seconds, keep, frechet)
            bar.update()
            if stop:
                if processes.main:
                    print(f"Saved at step {done} of {t.steps}. To go on: dpsims train --resume with the same settings.")
                break
    return FitResult(run.out, done, done == t.steps)


def _told(row: dict[str, float]) -> str:
    """What the bar says beside the time left."""
    distance = f", Fréchet distance {row['frechet']:.1f}" if "frechet" in row else ""
    return f"D finds {row['fakes_found']:.0%} of fakes, gradient {row['grad_generator']:.2g}{distance}"
