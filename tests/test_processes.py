"""Two real processes train as one does: gloo on the CPU, as torchrun starts them."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from trees import ENVIRONMENT, launch

from dpsims.config import override
from dpsims.data.prepare import prepare_scenes
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError
from dpsims.presets import preset
from dpsims.processes import Processes
from dpsims.run_folder import read_metrics
from dpsims.training import Trainer

HERE = Path(__file__).parent
# void in some maps and not in others, several noises a map: what a mean over processes gets wrong
BOTH = ("train.batch_size=8", "loss.lambda_contrastive=1", "loss.contrastive_patches=16", "train.warmup_steps=0")
ALL = (*BOTH, "loss.class_weights=batch", "loss.lambda_labelmix=1", "loss.diversity_on=features")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = prepare_scenes(tmp_path_factory.mktemp("data") / "scenes", size=64, n=48, n_val=8, progress=False)
    labels = load_prepared(path).split("train").labels
    writable = torch.from_file(str(path / "train/labels.npy"), shared=True, size=labels.size + 128, dtype=torch.uint8)
    maps = writable[128:].view(labels.shape)
    for number in range(0, len(maps), 3):
        maps[number, : 10 + number % 40] = 0  # void, here and there; the hashes no longer count
    return path


def worked(data, out, number, steps, kind, settings):
    subprocess.run(launch(number, HERE / "processes_worker.py", data, out, steps, kind, *settings),
                   check=True, env=ENVIRONMENT, timeout=600)  # fmt: skip
    states = [load_file(f"{out}.{rank}.safetensors") for rank in range(number)]
    for state in states[1:]:
        assert all(torch.equal(state[key], states[0][key]) for key in state), "all processes have the same weights"
    return states[0]


def apart(one, other):
    """The largest difference of any tensor, relative to its largest value, and where it is."""
    assert one.keys() == other.keys()
    found = {}
    for key, value in one.items():
        largest = other[key].double().abs().max() if value.numel() else 0
        if key.endswith("norm_keys.bias"):  # moves all scores of a softmax alike: its gradient is 0, but for rounding
            assert largest < 1e-9
        elif largest:
            found[key] = float((value.double() - other[key].double()).abs().max() / largest)
    return max(found.values()), max(found, key=found.get)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [pytest.param(BOTH, 20, id="dp_sims"), pytest.param(ALL, 5, id="oasis", marks=pytest.mark.slow)],
)
def test_in_float64_two_processes_and_one_agree(data, tmp_path, settings, steps):
    one, two = (worked(data, tmp_path / str(number), number, steps, "float64", settings) for number in (1, 2))
    difference, where = apart(two, one)
    assert difference < 1e-9, where


def test_in_float32_the_gradients_of_the_first_step_agree(data, tmp_path):
    slow = (*BOTH[:-1], "train.warmup_steps=1000000")  # G's come after D's first step, which Adam makes of signs
    one, two = (worked(data, tmp_path / str(number), number, 1, "float32", slow) for number in (1, 2))
    gradients = [key for key in one if key.startswith("gradient of")]
    assert len(gradients) > 50
    for network in ("G", "D"):
        a, b = (torch.cat([s[k].flatten() for k in gradients if k[12] == network]) for s in (one, two))
        assert float((a - b).norm() / a.norm()) < 1e-5


def test_killed_and_resumed_two_processes_give_the_same_bits(data, tmp_path):
    sets = [part for s in (*BOTH, "train.steps=12", "train.checkpoint_every=2") for part in ("--set", s)]
    command = ["-m", "dpsims", "train", "--preset", "tiny", "--data", data, *sets]
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    subprocess.run(launch(2, *command, "--out", whole), check=True, env=ENVIRONMENT, timeout=600)
    process = subprocess.Popen(launch(2, *command, "--out", torn), env=ENVIRONMENT, start_new_session=True)
    until = time.monotonic() + 300
    while not list(torn.glob("checkpoints/step_*4/config.json")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(torn.glob("checkpoints/step_*12")), "killed too late to show anything"
    subprocess.run(launch(2, *command, "--out", torn, "--resume"), check=True, env=ENVIRONMENT, timeout=600)
    for name in ("generator", "generator_live", "discriminator"):
        a, b = (load_file(run / f"checkpoints/step_0000012/{name}.safetensors") for run in (whole, torn))
        assert all(torch.equal(a[key], b[key]) for key in a)
    a, b = (read_metrics(run) for run in (whole, torn))
    assert a["step"] == list(range(12)) and a["loss_d_real"] == b["loss_d_real"]


def test_batches_that_cannot_be_shared_out_and_batch_norm_on_cpus_are_refused(data, monkeypatch):
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    config = override(preset("tiny"), [f"data.path={data}"])
    with pytest.raises(
        InputError, match=r"batch_size: 4 images cannot be shared by 3 process\(es\) .*; give a multiple of 6"
    ):
        Trainer(config, load_prepared(data))
    processes = Processes(Accelerator())
    network = nn.Sequential(nn.BatchNorm2d(4))
    with pytest.raises(InputError, match="batch norm over several processes needs GPUs; set generator.norm=group"):
        processes.synchronised(network)
    assert processes.synchronised(nn.Sequential(nn.GroupNorm(2, 4)))
