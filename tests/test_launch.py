"""A training started in several processes by one that is none of them; and the scripts of README.md, "On a cluster"."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from accelerate.commands.launch import launch_command_parser

from dpsims import launch
from dpsims.checkpoint import checkpoints
from dpsims.config import Config
from dpsims.data.prepare import prepare_scenes
from dpsims.errors import InputError
from dpsims.launch import command_line, launch_training, steps_logged
from dpsims.paths import ROOT
from dpsims.run_folder import read_metrics

CLUSTER = (ROOT / "README.md").read_text(encoding="utf-8").partition("## On a cluster")[2].partition("\n## ")[0]
SCRIPTS = [block for block in re.findall(r"```sh\n(.*?)```", CLUSTER, re.DOTALL) if block.startswith("#!")]


@pytest.fixture
def here(monkeypatch):
    """Processes import this checkout and have one thread each."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_two_processes_train_stop_when_asked_and_go_on(tmp_path, here, capsys):
    data = prepare_scenes(tmp_path / "some data", size=64, n=16, n_val=4, progress=False)
    settings, run = (
        [f"data.path={data}", "train.steps=12", "train.log_every=1", "train.sample_every=100"],
        tmp_path / "run",
    )

    def ctrl_c():
        while steps_logged(run / "metrics.csv") < 1:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=ctrl_c, daemon=True).start()
    result = launch_training("tiny", settings, run, 2)
    assert not result.finished and 0 < result.step < 12
    assert checkpoints(run)[-1].name == f"step_{result.step:07d}"
    said = capsys.readouterr()
    assert said.out.startswith(f"Saved at step {result.step} of 12.") and "/12 [" in said.err, (
        "a bar, with the time left"
    )
    assert launch_training("tiny", settings, run, 2, resume=True, progress=False) == launch.FitResult(run, 12, True)
    assert read_metrics(run)["step"] == list(range(12))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('a bar 3/9 [dpsims: x: is bad; give y\\n' + 'dpsims: x: is bad; give y', file=sys.stderr)", "^x: is bad; give y$"),
        ("print('a\\nboom\\n\\nE1 failed (exitcode: 1) of binary\\nTraceback by torch')", ": the training failed:\na\nboom$"),
    ],
    ids=["bad input", "a bug"],
)  # fmt: skip
def test_why_a_training_failed(tmp_path, monkeypatch, code, reason):
    failing = [sys.executable, "-c", f"import sys; {code}; sys.exit(1)"]
    monkeypatch.setattr(launch, "command_line", lambda *_: failing)
    with pytest.raises(InputError, match=reason):
        launch_training("tiny", [], tmp_path / "run", 2, progress=False)


def test_typing_errors_are_told_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "command_line", lambda *_: pytest.fail("started"))
    with pytest.raises(InputError, match="train.stepz"):
        launch_training("tiny", ["train.stepz=3"], tmp_path / "run", 2)


def test_one_process_a_gpu_and_torchrun_on_cpus(monkeypatch):
    on_cpus = command_line(2, ["train", "--out", "a b"])
    assert on_cpus[1:] == shlex.split(
        "-m torch.distributed.run --standalone --nproc_per_node 2 -m dpsims train --out 'a b'"
    )
    assert command_line(1, ["train"])[1:] == ["-m", "dpsims", "train"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    _, module, name, *rest = command_line(4, ["train", "--out", "a b"])
    given = launch_command_parser().parse_args(rest)
    assert (module, name) == ("-m", "accelerate.commands.launch") and given.multi_gpu and given.num_processes == 4
    assert (given.module, given.training_script) == (True, "dpsims")
    assert given.training_script_args == ["train", "--out", "a b"]
    for number, message in ((5, "processes: 5; there are 4 GPUs .* give 1 to 4"), (0, "processes: 0")):
        with pytest.raises(InputError, match=message):
            command_line(number, [])


@pytest.mark.parametrize(
    ("log", "steps"),
    [(None, 0), ("", 0), ("step,gap\n", 0), ("step,gap\n0,1\n", 1), ("step,gap\n0,1\n10,2\n20,", 11), ("step,gap\n" + "7,1\n" * 5000, 8)],
)  # fmt: skip
def test_steps_are_read_from_a_log_that_is_being_written(tmp_path, log, steps):
    if log is not None:
        (tmp_path / "metrics.csv").write_text(log)
    assert steps_logged(tmp_path / "metrics.csv") == steps
