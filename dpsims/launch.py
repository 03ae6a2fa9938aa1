"""Starts a training in several processes from one that is none of them, such as a notebook's kernel, and follows it.

On GPUs `accelerate launch` starts them, one a GPU. On CPUs torchrun does, for there accelerate 1.15 does not: asked for
two, with ``--cpu`` or without, it started one, "rank 0 of 1"; with ``--multi_gpu`` it started two, and each was "rank 0
of 1" until dpsims joined them (`processes.launched`). That was seen on a machine without GPUs; on GPUs this module has
not been run.
"""

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from dpsims.checkpoint import newest_step
from dpsims.data.guard import stop_signals
from dpsims.data.workers import cores
from dpsims.errors import InputError
from dpsims.presets import configured
from dpsims.training import FitResult

LOOK_EVERY = 0.5  # seconds between two looks at the log
ENDING = 600  # seconds that the processes have to save once they were asked to stop; torch 2.15 would kill after 30
KEPT, SHOWN = 400, 12  # last lines of what a training says, and those of them that an error repeats


def launch_training(
    preset: str,
    settings: Iterable[str],
    out: str | Path,
    processes: int,
    *,
    resume: bool = False,
    progress: bool = True,
) -> FitResult:
    """Trains as `training.fit` does, in processes of its own, all on this machine.

    Args:
        preset: of the training, see `presets.preset`.
        settings: its changes, each ``section.field=value``; `train.batch_size` is that of all processes together.
        out: run folder.
        processes: how many; where there are GPUs at most as many as these.
        resume: as of `fit`.
        progress: show a bar with the time left; it moves where the log does, every `train.log_every` steps.

    Returns:
        As `fit`; after Ctrl-C or SIGTERM, which are passed on, the training is saved but not finished.

    Raises:
        InputError: what `fit` raises, or the last lines that a training said which failed otherwise.
    """
    out, settings = Path(out).absolute(), list(settings)
    steps = configured(preset, settings=settings).train.steps  # first: a typing error is told at once
    given = [part for setting in settings for part in ("--set", setting)]
    command = command_line(processes, ["train", "--preset", preset, *given, "--out", str(out)])
    # a session of its own: a kernel's interrupt, or Ctrl-C, would reach the launcher beside this process
    training = subprocess.Popen(
        [*command, "--resume"] if resume else command, env=_environment(processes), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    said: deque[str] = deque(maxlen=KEPT)
    reader = threading.Thread(target=said.extend, args=(training.stdout,), daemon=True)
    reader.start()
    done = newest_step(out) if resume else 0
    bar = tqdm(total=steps, initial=done, desc=f"training {out.name}", unit="step", disable=not progress)
    with stop_signals() as asked_to_stop, bar:
        _follow(training, out / "metrics.csv", bar, asked_to_stop)
    reader.join()
    lines = [line.rstrip() for line in said]
    reasons = _found("(?<=dpsims: ).+", lines)
    if training.returncode and (reasons or not asked_to_stop.is_set()):
        raise InputError("; ".join(reasons) or f"{out}: the training failed:\n" + "\n".join(_last_words(lines)))
    done = newest_step(out)
    for saved in _found("Saved at step .*", lines):
        print(saved)
    return FitResult(out, done, done == steps)


def command_line(processes: int, arguments: Sequence[str]) -> list[str]:
    """What starts ``dpsims ARGUMENTS`` in so many processes.

    Raises:
        InputError: fewer than one, or more than there are GPUs, where there are any.
    """
    gpus = torch.cuda.device_count()
    if processes < 1 or 0 < gpus < processes:
        here = f"there are {gpus} GPUs here and each process takes one; give 1 to {gpus}" if gpus else "give at least 1"
        raise InputError(f"processes: {processes}; {here}")
    number = str(processes)
    if processes == 1:
        start = []
    elif gpus:  # every value is given, or accelerate lists those that it chose; port 0 is a free one
        start = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", number, "--num_machines", "1"]
        start += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    else:
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", number]
    return [sys.executable, *start, "-m", "dpsims", *arguments]


def _environment(processes: int) -> dict[str, str]:
    """That of this process, which goes first, and what several on one machine need."""
    threads = max(1, cores() // processes)  # torchrun would give one to each
    defaults = {"OMP_NUM_THREADS": threads, "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": ENDING, "TQDM_MININTERVAL": 60}
    return {name: str(value) for name, value in defaults.items()} | os.environ


def _follow(training: subprocess.Popen, log: Path, bar: tqdm, asked_to_stop: threading.Event) -> None:
    """Moves the bar until the training ends; asks it once to stop."""
    told = False
    try:
        while training.poll() is None:
            if asked_to_stop.is_set() and not told:
                training.terminate()  # the launcher passes SIGTERM on, and each process saves and ends
                told = True
            if (done := steps_logged(log)) != bar.n:
                bar.update(done - bar.n)
            try:
                training.wait(LOOK_EVERY)
            except subprocess.TimeoutExpired:
                continue
        bar.update(steps_logged(log) - bar.n)
    finally:
        if not told and training.poll() is None:  # an error here: not to be left alone with it
            training.terminate()


def steps_logged(log: Path) -> int:
    """Steps done by the last whole row of a metrics.csv that another process writes; 0 where there is none yet."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))  # some rows
            *_, last, _ = (b"", b"", *file.read().split(b"\n"))
    except FileNotFoundError:
        return 0
    step = last.split(b",")[0]
    return int(step) + 1 if step.isdigit() else 0


def _found(pattern: str, lines: Sequence[str]) -> list[str]:
    """What matches, each once, as all processes may say it; a bar may stand before it, on the same line."""
    return list(dict.fromkeys(found[0] for line in lines if (found := re.search(pattern, line))))


def _last_words(lines: Sequence[str]) -> list[str]:
    """The last lines before torch's launcher tells, at length, that a process failed."""
    ends = [number for number, line in enumerate(lines) if "failed (exitcode: " in line]
    return [line for line in lines[: ends[0] if ends else None] if line.strip()][-SHOWN:]
