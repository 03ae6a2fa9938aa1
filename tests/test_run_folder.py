"""A run's folder: what is resumed is whole, of the same data and a run; everything else is refused in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import trees
from safetensors.torch import load_file, save_file
from trees import scenes_of

from dpsims.checkpoint import checkpoints, export_run
from dpsims.data.prepare import prepare_scenes
from dpsims.errors import InputError
from dpsims.run_folder import COLUMNS, RunFolder, read_metrics
from dpsims.training import Trainer, fit

data = scenes_of(8)


def tiny(data, *settings):
    return trees.tiny(data, "train.steps=4", *settings)


def resume(run, data, *settings):
    return fit(tiny(data, *settings), run, resume=True, progress=False)


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """A finished run with checkpoints at steps 2 and 4; not to be changed."""
    return fit(tiny(data), tmp_path_factory.mktemp("made") / "run", progress=False).out


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_model_is_no_run(run, data, tmp_path):
    models = [checkpoints(run)[-1], export_run(run, tmp_path / "exported")]
    for model in models:
        before = files_of(model)
        for again in (True, False):
            with pytest.raises(InputError, match="is a checkpoint or an exported model, no run; give the run's folder"):
                fit(tiny(data), model, resume=again, progress=False)
        assert files_of(model) == before


def test_other_data_are_refused(run, data, tmp_path):
    other = prepare_scenes(tmp_path / "other", size=64, n=9, n_val=8, progress=False)
    before = files_of(run)
    with pytest.raises(InputError, match=r"step_0000004: trained on other data than .*other; give the same --data"):
        resume(run, other)
    assert files_of(run) == before


def test_the_same_data_may_lie_elsewhere(run, data, tmp_path):
    shutil.rmtree(checkpoints(run)[-1])
    moved = shutil.copytree(data, tmp_path / "moved")
    assert resume(run, moved).finished
    assert read_metrics(run)["step"] == [0, 1, 2, 3]


IMPOSSIBLE = [("step", value) for value in ("text", None, 2.5, 999, -5)]
IMPOSSIBLE += [("seconds", value) for value in ("text", None, float("nan"))]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_impossible_counters_are_refused(run, data, name, value):
    file = checkpoints(run)[-1] / "training_state.pt"
    torch.save(torch.load(file, weights_only=True) | {name: value}, file)
    with pytest.raises(InputError, match=r"training_state\.pt: not usable \(.+\); delete .*step_0000004 to go on"):
        resume(run, data)


@pytest.mark.parametrize("name", ["generator", "generator_live", "discriminator"])
def test_a_damaged_network_is_named_with_the_way_on(run, data, name):
    file = checkpoints(run)[-1] / f"{name}.safetensors"
    file.write_bytes(b"junk")
    with pytest.raises(InputError, match=rf"/{name}\.safetensors: not usable \(not a readable .*\); delete .*4 to go"):
        resume(run, data)
    if name == "generator":
        shutil.rmtree(file.parent)  # as it was told
        assert resume(run, data).finished and read_metrics(run)["step"] == [0, 1, 2, 3]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b"name,grade\nAda,1\n", b"\n\nstep\n", None])
def test_a_log_that_is_none_is_refused(run, data, content):
    log = run / "metrics.csv"
    log.unlink()
    log.mkdir() if content is None else log.write_bytes(content)
    with pytest.raises(InputError, match=r"metrics\.csv: .*; remove it to start the log anew") as caught:
        resume(run, data)
    assert "\n" not in str(caught.value)
    assert log.is_dir() if content is None else log.read_bytes() == content


@pytest.mark.parametrize("content", ["", "step,loss_d_re", ",".join(COLUMNS) + "\r\n"])
def test_a_log_torn_in_its_header_starts_anew(run, data, content):
    shutil.rmtree(checkpoints(run)[-1])
    (run / "metrics.csv").write_text(content)
    resume(run, data)
    assert read_metrics(run)["step"] == [2, 3]


def test_reading_a_log_that_is_none(run):
    for content in (b"\xff\xfe", ",".join(COLUMNS).encode() + b"\n" + b"x," * len(COLUMNS)):
        (run / "metrics.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"metrics\.csv: is not the log of a training"):
            read_metrics(run)


def test_what_a_killed_save_left_is_removed(run, data):
    torn = run / "checkpoints/.step_0000004.new"
    torn.mkdir()
    (torn / "config.json").write_text("{}")
    checkpoints(run)[0].rename(run / "checkpoints/.step_0000002.old")
    resume(run, data)
    assert not torn.exists() and len(checkpoints(run)) == 2


def test_a_kill_right_after_a_save_costs_no_sample_sheet(data, tmp_path, monkeypatch):
    def killed(*_):
        save(*_)
        raise MemoryError

    save = RunFolder.save
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(RunFolder, "save", killed)
        fit(tiny(data, "train.sample_every=2"), tmp_path, progress=False)
    resume(tmp_path, data, "train.sample_every=2")
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["step_0000002.png", "step_0000004.png"]


def test_checkpoints_are_sorted_by_number(tmp_path):
    names = ["step_9999999", "step_10000000", "step_0000002", "step_old"]
    for name in names:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "config.json").write_text("{}")
    assert [p.name for p in checkpoints(tmp_path)] == ["step_0000002", "step_9999999", "step_10000000"]


@pytest.mark.parametrize(("bad", "kept"), [(3, ["step_0000002"]), (0, [])])
def test_weights_that_are_no_numbers_are_not_saved(data, tmp_path, monkeypatch, bad, kept):
    original = Trainer.step

    def step(self, number, measure=False):
        log = original(self, number, measure)
        return log | {"grad_generator": torch.tensor(float("nan"))} if number >= bad else log

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(InputError, match=f"at step {bad} grad_generator is nan; train anew with lower") as caught:
        fit(tiny(data, "train.log_every=1" if not bad else "train.log_every=100"), tmp_path / "run", progress=False)
    assert [p.name for p in checkpoints(tmp_path / "run")] == kept
    assert ("is from before" in str(caught.value)) == bool(kept)


def test_data_that_do_not_suit_are_found_before_a_folder_is_made(data, tmp_path):
    lone = shutil.copytree(data, tmp_path / "lone")
    index = json.loads((lone / "index.json").read_text())
    del index["splits"]["val"]
    (lone / "index.json").write_text(json.dumps(index))
    torn = shutil.copytree(data, tmp_path / "torn")
    (torn / "val/images.npy").write_bytes(b"junk")
    foreign = shutil.copytree(data, tmp_path / "foreign")
    index = json.loads((foreign / "index.json").read_text())
    index["num_classes"] = 13
    index["names"].append("moon")
    index["colours"].append([1, 2, 3])
    for split in index["splits"].values():
        split["class_pixels"].append(0)
    (foreign / "index.json").write_text(json.dumps(index))
    marked = shutil.copytree(data, tmp_path / "marked")
    labels = np.load(marked / "train/labels.npy")
    labels[3, 5, 7] = 200
    np.save(marked / "train/labels.npy", labels)
    cases = {
        lone: "no split 'val', only train; remove",
        torn: r"val/images\.npy: cannot be read",
        foreign: "holds data.num_classes=13, but the configuration asks for 12",
        marked: r"train/labels\.npy: holds class 200",
    }
    for folder, message in cases.items():
        with pytest.raises(InputError, match=message):
            fit(tiny(folder), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match=r"holds data\.seed=0, but the configuration asks for 5"):
        fit(tiny(data, "data.seed=5"), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="cannot be written"):
        fit(tiny(data), tmp_path / ("x" * 300), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_run_without_checkpoints_starts_with_the_configuration_of_now(run, data, tmp_path):
    shutil.rmtree(run / "checkpoints")
    moved = shutil.copytree(data, tmp_path / "moved")
    assert resume(run, moved).finished
    assert json.loads((run / "config.json").read_text())["data"]["path"] == str(moved)


def test_foreign_weights_are_refused(run, data):
    file = checkpoints(run)[-1] / "generator_live.safetensors"
    state = load_file(file)
    state.popitem()
    save_file(state, file)
    with pytest.raises(InputError, match=r"generator_live\.safetensors: not usable \(1 tensors do not fit .*; delete"):
        resume(run, data)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_a_lack_of_memory_blames_no_file(run, data, monkeypatch, error):
    def full(*_, **__):
        raise error

    monkeypatch.setattr("dpsims.run_folder.torch.load", full)
    with pytest.raises(error):
        resume(run, data)
