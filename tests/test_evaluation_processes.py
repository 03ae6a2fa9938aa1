"""Several real processes measure what one does, to the bit: gloo on the CPU, as torchrun starts them."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from trees import ENVIRONMENT, launch, scenes_of

from dpsims.errors import InputError
from dpsims.evaluation import protocol
from dpsims.evaluation.protocol import evaluate_checkpoint
from dpsims.paths import CHECKPOINTS
from dpsims.processes import Processes, launched

HERE = Path(__file__).parent


def run(number, cache, *command):
    environment = ENVIRONMENT | {"DPSIMS_CACHE": str(cache)}
    return subprocess.run(
        launch(number, *command), env=environment, timeout=300, check=True, capture_output=True, text=True
    )


def figures(result):
    return {key: value for key, value in result.items() if key != "seconds"}


data = scenes_of(8)


@pytest.fixture
def alone(data, tmp_path, monkeypatch):
    """What this process measures, with one thread, as the others have."""
    monkeypatch.setattr(protocol, "CACHE", tmp_path / "alone")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lambda **settings: figures(evaluate_checkpoint(CHECKPOINTS / "scenes-64", data, progress=False, **settings))
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_three_processes_measure_what_one_does(data, alone, tmp_path):
    """7 maps in batches of 2, of which one process has two; 4 maps for diversity, of which one has two."""
    run(3, tmp_path / "cache", HERE / "evaluation_worker.py", data, tmp_path)
    expected = alone(max_maps=7, batch_size=2, diversity_maps=4, samples_per_map=3)
    assert expected["generator"]["num_images"] == 7 and expected["generator"]["num_maps_diversity"] == 4
    for name in ("result", 0, 1, 2):  # all end with the same, one writes it
        assert figures(json.loads((tmp_path / f"{name}.json").read_text())) == expected
    assert len(list((tmp_path / "cache/references").glob("*.json"))) == 1


def test_the_command_writes_and_prints_once_and_a_process_without_maps_is_no_harm(data, alone, tmp_path):
    """8 maps are one batch, so the second process has none of them."""
    out, command = tmp_path / "two.json", ("evaluate", "--checkpoint", CHECKPOINTS / "scenes-64", "--data", data)
    two = run(2, tmp_path / "cache", "-m", "dpsims", *command, "--out", out)
    assert figures(json.loads(out.read_text())) == alone()
    assert two.stdout.count("generated ") == 1 == two.stderr.count("generated:   0%"), "of the process that writes"


def test_work_is_shared_out_whole(monkeypatch):
    shares = []
    for rank in range(3):
        processes = Processes()
        monkeypatch.setattr(processes, "number", 3)
        monkeypatch.setattr(processes, "rank", rank)
        shares.append([list(processes.share(range(count))) for count in (0, 2, 7)])
    for count, of_ranks in zip((0, 2, 7), zip(*shares, strict=True), strict=True):
        assert sorted(sum(of_ranks, [])) == list(range(count)), "each once"
        assert max(map(len, of_ranks)) - min(map(len, of_ranks)) <= 1


def test_a_device_by_number_is_not_for_several_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with launched("cpu") as (processes, device):  # a cluster's own variable: nothing launched this process
        assert (processes.number, processes.main, device) == (1, True, "cpu")
        assert processes.table(torch.ones(2)).tolist() == [1, 1] and not processes.any(False)
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(InputError, match="device: 'cuda:1' cannot be used|device: cpu:0, but each of several"):
        with launched("cpu:0"):
            pass
