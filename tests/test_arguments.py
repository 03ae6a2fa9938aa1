"""Arguments and places to write, checked before any work: one line each, and nothing left behind."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dpsims import load_generator
from dpsims.bench import bench
from dpsims.checks import as_device, as_seeds
from dpsims.cli import app
from dpsims.errors import InputError
from dpsims.evaluation.segmenter import load_evaluator, train_evaluator
from dpsims.files import check_file, make_folder, replacing, write_folder, write_json
from dpsims.generation import generate_files
from dpsims.models import Backbone
from dpsims.paths import CHECKPOINTS
from dpsims.pretraining import pretrain

SHIPPED = CHECKPOINTS / "scenes-64"
TRAINERS = [pretrain, train_evaluator]


def refused(call, *arguments, match, **options):
    with pytest.raises(InputError, match=match) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_seeds_of_every_kind_of_integer():
    assert as_seeds(3, 2) == as_seeds(np.int64(3), 2) == as_seeds(torch.tensor(3), 2) == as_seeds(np.array(3), 2)
    assert as_seeds([3, 4]) == as_seeds(np.array([3, 4])) == as_seeds(torch.tensor([3, 4])) == as_seeds(range(3, 5))
    for wrong in (None, 1.5, [1.5, 2.5], "12", torch.tensor(1.5), np.ones((9, 9, 9)), [[1]]):
        refused(as_seeds, wrong, match="is no integer")
    for wrong in (-1, 10**30, [0, 2**63]):
        refused(as_seeds, wrong, match="must lie in")
    refused(as_seeds, [], match="none given")


@pytest.mark.parametrize("name", ["foo", "cuda:99", "meta"])
def test_devices_that_cannot_compute(name):
    refused(as_device, name, match=f"device: '{name}' cannot be used here; choose one of cpu")
    refused(load_generator, SHIPPED, name, match="cannot be used here")
    refused(load_evaluator, device=name, match="cannot be used here")


@pytest.fixture
def occupied(tmp_path):
    """Places that no file may replace: a folder, a pipe; and where none can be made."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("mine")
    return [tmp_path / name for name in ("folder", "pipe", "file/new", "x" * 300)]


def test_places_to_write(occupied, tmp_path):
    for path in occupied:
        for call in (check_file, bench, lambda p: write_json(p, {})):
            refused(call, path, match="a folder|no regular file|cannot be written")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "pipe"] and occupied[1].is_fifo()
    check_file(tmp_path / "file")
    check_file(tmp_path / "new/deep/file")
    refused(make_folder, tmp_path, ["a", "folder"], match="folder: is a folder")
    write_json(tmp_path / ("y" * 250), [1])
    assert (tmp_path / ("y" * 250)).read_text() == "[\n  1\n]\n"


def test_what_fails_leaves_the_old_file_and_no_other(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "1\n"


@pytest.mark.parametrize("kill_at", [1, 2])
def test_a_folder_is_whole_after_a_kill_at_any_rename(tmp_path, kill_at):
    folder, renames = tmp_path / "model", []
    write_folder(folder, lambda f: (f / "a").write_text("old"))
    rename = Path.rename

    def killed(self, target):
        renames.append(self.name)
        if len(renames) == kill_at:
            os._exit(9)
        return rename(self, target)

    if (child := os.fork()) == 0:
        Path.rename = killed
        write_folder(folder, lambda f: (f / "a").write_text("new"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert folder.exists() == (kill_at == 1) and (tmp_path / ".model.new").exists()
    with pytest.raises(ZeroDivisionError):
        write_folder(folder, lambda f: 1 / 0)
    assert [p.name for p in tmp_path.iterdir()] == ["model"] and (folder / "a").read_text() == "old"
    write_folder(folder, lambda f: (f / "a").write_text("new"))
    assert [p.name for p in tmp_path.iterdir()] == ["model"] and (folder / "a").read_text() == "new"


def test_a_folder_replaces_the_one_that_a_link_or_a_dot_means(tmp_path, monkeypatch):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    for text in ("old", "new"):
        write_folder(link, lambda f, text=text: (f / "a").write_text(text))
        assert link.is_symlink() and (real / "a").read_text() == text
    monkeypatch.chdir(real)
    write_folder(Path("."), lambda f: (f / "a").write_text("newer"))
    assert (real / "a").read_text() == "newer" and sorted(p.name for p in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"seed": -1}, "seed: -1"),
        ({"seed": 2**64}, "seed: 1844"),
        ({"seed": [1]}, "seed"),
        ({"device": "foo"}, "device: 'foo'"),
        ({"device": "cuda:99"}, "device: 'cuda:99'"),
        ({"size": 2**20}, "size: .* GiB"),
        ({"steps": 0}, "steps"),
    ],
)
def test_trainers_check_before_they_make_a_folder(train, wrong, says, tmp_path):
    refused(train, tmp_path / "out", **{"size": 32, "steps": 1, "progress": False, **wrong}, match=says)
    assert not list(tmp_path.iterdir())


def test_pretraining_checks_batch_size_and_pool(tmp_path):
    refused(pretrain, tmp_path / "out", batch_size=0, match="batch size 0")
    refused(pretrain, tmp_path / "out", pool=10**15, match="GiB")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize("name", ["weights.safetensors", "provenance.json"])
def test_trainers_find_occupied_places_before_the_work(train, name, tmp_path):
    (tmp_path / "out" / name).mkdir(parents=True)
    refused(train, tmp_path / "out", size=32, steps=1, progress=False, match=f"{name}: is a folder")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [name]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: torch.full_like(t, float("nan")), "hold NaN or infinity, such as"),
        (lambda t: torch.full_like(t, float("inf")), "hold NaN or infinity"),
        (lambda t: t.int(), "do not fit its config.json"),
    ],
)
def test_weights_that_are_no_numbers_to_draw_with(change, says, tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "model")
    file = tmp_path / "model/generator.safetensors"
    state = load_file(file)
    name = next(key for key, value in state.items() if value.is_floating_point())
    save_file(state | {name: change(state[name])}, file)
    refused(load_generator, tmp_path / "model", match=f"generator.safetensors: 1 tensors {says}")


def test_an_image_that_cannot_be_placed_leaves_nothing(tmp_path):
    from PIL import Image

    Image.fromarray(np.ones((64, 64), np.uint8)).save(tmp_path / "map.png")
    (tmp_path / "out/map_seed0.png").mkdir(parents=True)
    refused(generate_files, SHIPPED, tmp_path / "map.png", tmp_path / "out", n=1, progress=False, match="is a folder")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["map_seed0.png"]
    for seed in ("12", 1.5):
        refused(generate_files, SHIPPED, tmp_path / "map.png", tmp_path / "out", seed=seed, match="is no integer")


def test_a_name_that_is_too_long_is_one_line(tmp_path, monkeypatch):
    for command in ("pretrain", "train-evaluators", "bench"):
        result = CliRunner().invoke(app, [command, "--out", str(tmp_path / ("x" * 300))])
        assert result.exit_code == 2 and result.stderr.startswith("dpsims: ") and result.stderr.count("\n") == 1

    import dpsims.bench

    for place in (tmp_path / ("x" * 300), tmp_path / "missing/file"):  # and where nobody looked first
        monkeypatch.setattr(dpsims.bench, "bench", lambda out, place=place: place.write_text(""))
        result = CliRunner().invoke(app, ["bench", "--out", "x"])
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and str(place) in result.stderr


def test_evaluate_takes_a_network(monkeypatch, tmp_path):
    import dpsims.evaluation.protocol as protocol

    given = {}

    def stand_in(*arguments, **options):
        given.update(options)
        raise InputError("enough")

    monkeypatch.setattr(protocol, "evaluate_checkpoint", stand_in)
    line = ["evaluate", "--checkpoint", "a", "--data", "b", "--out", str(tmp_path / "c")]
    assert CliRunner().invoke(app, line).stderr == "dpsims: enough\n" and "evaluator_path" not in given
    CliRunner().invoke(app, [*line, "--evaluator", "net"])
    assert str(given["evaluator_path"]) == "net"


def test_backbone_weights_of_another_kind(tmp_path):
    for name, content in (("a.png", b"\x89PNG\n"), ("a.safetensors", b"{}")):
        (tmp_path / name).write_bytes(content)
        refused(Backbone, "texture_resnet10t", tmp_path / name, match="not a readable state dict .*; give safetensors")
    state = Backbone("texture_resnet10t").model.state_dict()
    save_file(state | {"conv1.0.weight": torch.ones(2, 3)}, tmp_path / "shape.safetensors")
    shapes = r"conv1\.0\.weight has shape \(2, 3\), texture_resnet10t needs \(24, 3, 3, 3\); another model"
    refused(Backbone, "texture_resnet10t", tmp_path / "shape.safetensors", match=shapes)
    torch.save(torch.ones(2), tmp_path / "tensor.pth")
    refused(Backbone, "texture_resnet10t", tmp_path / "tensor.pth", match="holds a Tensor")
