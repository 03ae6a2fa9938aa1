"""What a training does where the disk fills, and which checkpoints it keeps."""

import errno
import math
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
import trees
from safetensors.torch import load_file
from trees import scenes_of

from dpsims import checkpoint
from dpsims.checkpoint import best, checkpoints, read_provenance
from dpsims.config import override
from dpsims.errors import InputError
from dpsims.evaluation.judge import FrechetJudge
from dpsims.evaluation.protocol import evaluate_checkpoint
from dpsims.run_folder import read_metrics
from dpsims.training import Trainer, fit
from dpsims.watch import naming_room

data = scenes_of(24, 12)


def tiny(data, *settings):
    return trees.tiny(data, "train.bf16=false", *settings)


class Given:
    """Distances by the number of the call."""

    def __init__(self, *values):
        self.values = list(values)

    def __call__(self, generator):
        assert not generator.training
        return self.values.pop(0)


def test_the_best_checkpoint_stays_beside_the_newest(data, tmp_path):
    config = tiny(data, "train.steps=10", "train.checkpoint_every=100", "train.judge_every=2")
    fit(config, tmp_path / "run", progress=False, keep=2, judge=Given(9.0, 3.0, 8.0, 7.0, 5.0))
    kept = checkpoints(tmp_path / "run")
    assert [p.name for p in kept] == ["step_0000004", "step_0000008", "step_0000010"]
    assert best(tmp_path / "run") == kept[0] and read_provenance(kept[0])["frechet"] == 3.0
    assert checkpoint.resolve(tmp_path / "run") == kept[-1], "a run still means its newest"
    found = read_metrics(tmp_path / "run")
    judged = {int(s) + 1: f for s, f in zip(found["step"], found["frechet"], strict=True) if not math.isnan(f)}
    assert judged == {2: 9.0, 4: 3.0, 6: 8.0, 8: 7.0, 10: 5.0}


def test_a_resumed_run_remembers_its_best(data, tmp_path, monkeypatch):
    config = tiny(data, "train.steps=8", "train.checkpoint_every=2", "train.judge_every=2")
    original = Trainer.step

    def step(self, number, **kwargs):
        if number == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, number, **kwargs)

    monkeypatch.setattr(Trainer, "step", step)
    first = fit(config, tmp_path / "run", progress=False, keep=1, judge=Given(2.0, 4.0, 5.0))
    monkeypatch.undo()
    assert first.step == 6 and best(tmp_path / "run").name == "step_0000002"
    fit(config, tmp_path / "run", resume=True, progress=False, keep=1, judge=Given(3.0))
    assert [p.name for p in checkpoints(tmp_path / "run")] == ["step_0000002", "step_0000008"]
    assert best(tmp_path / "run").name == "step_0000002", "3 is no better than 2, which was before the stop"


def test_the_judge_says_what_evaluation_says(data, tmp_path):
    config = tiny(data, "train.steps=2", "train.judge_every=1")
    fit(config, tmp_path / "run", progress=False, judge=FrechetJudge(config, progress=False))
    folder = checkpoints(tmp_path / "run")[-1]
    result = evaluate_checkpoint(folder, data, progress=False)["generator"]
    assert read_provenance(folder)["frechet"] == pytest.approx(result["frechet"], rel=1e-6)
    assert result["num_images"] == 12
    few = FrechetJudge(override(config, ["train.judge_maps=5"]), progress=False)
    assert few.protocol.max_maps == 5


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)), resource.RLIM_INFINITY))
runpy.run_module("dpsims", run_name="__main__", alter_sys=True)
"""


def run(data, out, *more, most=None):
    limit = ["-c", LIMITED, str(most)] if most else ["-m", "dpsims"]
    sets = ["--set", "train.checkpoint_every=2", "--set", "train.bf16=false"]
    command = [sys.executable, *limit, "train", "--preset", "tiny", "--data", data, "--out", out, *sets, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    "most",
    [
        pytest.param(20_000, id="the weights do not fit", marks=pytest.mark.slow),
        pytest.param(700_000, id="the optimisers do not"),
    ],
)
def test_a_full_disk_loses_nothing_that_was_saved(data, tmp_path, most):
    """Files that may not grow beyond a limit fail as those on a full disk do: at any byte."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert run(data, whole).returncode == 0
    assert run(data, torn, "--set", "train.steps=6").returncode == 0
    newest = checkpoints(torn)[-1]
    sizes = {p.name: p.stat().st_size for p in newest.iterdir()}
    assert sizes["training_state.pt"] > 700_000 > max(s for n, s in sizes.items() if n != "training_state.pt")
    shutil.rmtree(newest)  # as it was after step 4
    kept = {p: load_file(p / "generator.safetensors") for p in checkpoints(torn)}
    assert [p.name for p in kept] == ["step_0000004"]
    full = run(data, torn, "--set", "train.steps=6", "--resume", most=most)
    last = full.stderr.strip().splitlines()[-1]
    assert full.returncode == 2 and "no room on the disk" in last and "step_0000004 is whole" in last
    assert checkpoints(torn) == [*kept] and not list(torn.rglob(".*")), "no half of a checkpoint is left"
    assert run(data, torn, "--set", "train.steps=6", "--resume").returncode == 0, "with room it goes on"
    a, b = (load_file(checkpoints(p)[-1] / "generator.safetensors") for p in (whole, torn))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_other_errors_of_files_are_not_called_a_full_disk(tmp_path):
    with pytest.raises(OSError, match="denied"), naming_room(tmp_path):
        raise OSError(errno.EACCES, "denied")
    with pytest.raises(RuntimeError, match="a bug"), naming_room(tmp_path):
        raise RuntimeError("a bug")
    with pytest.raises(InputError, match="no checkpoint yet"), naming_room(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
