"""Evaluation of every prepared data set: its own evaluation network, no moods, void, absent classes, no photographs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_any_classes import drawn, space_of

from dpsims.data.prepare import load_prepared, prepare_scenes
from dpsims.errors import InputError
from dpsims.evaluation.segmenter import load_evaluator, train_evaluator


def without_photographs(folder: Path, split: str) -> Path:
    """Makes a split of a prepared folder one of label maps alone."""
    (folder / split / "images.npy").unlink()
    index = json.loads((folder / "index.json").read_text())
    del index["sha256"][f"{split}/images.npy"]
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(("k", "size"), [(1, (16, 24)), (182, (24, 16))])
def test_a_network_for_any_classes_and_size(tmp_path, k, size):
    data = drawn(tmp_path / "data", k, size)
    said = train_evaluator(tmp_path / "net", data=data, steps=2, progress=False)
    names = space_of(k).names[1:]
    assert said["data"]["dataset"] == "custom" and tuple(said["data"]["classes"]) == names
    assert said["data"]["sha256"] == load_prepared(data).index["sha256"]
    assert said["images"] == {"split": "train", "count": 6, "held_out": "val", "held_out_count": 4}
    assert tuple(said["metrics"]["iou"]) == names and said["metrics"]["mood_accuracy"] is None
    assert f"--data {data} --steps 2 --seed 100" in said["command"]
    network = load_evaluator(tmp_path / "net")
    assert (network.dataset, network.names, network.moods) == ("custom", names, ())
    judged = network.judge(torch.zeros(2, 3, *size, dtype=torch.uint8))
    assert judged.classes.shape == (2, k, *size) and judged.moods is None
    assert network.quality["mood_accuracy"] is None and network.quality["images"] == 4


def test_it_learns_what_the_data_show(tmp_path):
    """`drawn` shows the id of each pixel as its grey: two classes are told apart at once, and void teaches nothing."""
    data = drawn(tmp_path / "data", 2, (16, 16), n=40)
    for file in (data / "train" / "images.npy", data / "val" / "images.npy"):
        np.save(file, np.load(file) * 100)
    _hashed(data)
    said = train_evaluator(tmp_path / "net", data=data, steps=15, progress=False)
    assert said["metrics"]["miou"] > 0.8, said["metrics"]
    again = train_evaluator(tmp_path / "again", data=data, steps=15, progress=False)
    assert again["sha256"] == said["sha256"]
    judged = load_evaluator(tmp_path / "net").judge(torch.from_numpy(_images(data)))
    assert judged.features.mean(0).abs().max() < 0.1 and (judged.features.std(0) < 1.5).all()


def _images(data: Path) -> np.ndarray:
    return np.load(data / "train" / "images.npy").transpose(0, 3, 1, 2)


def _hashed(data: Path) -> None:
    """Writes the hashes of changed arrays into the index."""
    from dpsims.files import sha256

    index = json.loads((data / "index.json").read_text())
    index["sha256"] = {name: sha256(data / name) for name in index["sha256"]}
    (data / "index.json").write_text(json.dumps(index))


def test_void_weighs_nothing(tmp_path):
    """The mean is over the other pixels, no gradient comes from void, and a batch that is all void is no NaN."""
    from dpsims.evaluation.segmenter import _pixel_loss

    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([[[0, 1], [2, 3]]]).repeat(2, 2, 2)
    loss = _pixel_loss(logits, labels)
    chosen = logits.log_softmax(1).gather(1, (labels - 1).clamp_min(0)[:, None])[:, 0]
    assert loss.item() == pytest.approx(-chosen[labels > 0].mean().item(), rel=1e-5)
    loss.backward()
    assert (logits.grad.permute(0, 2, 3, 1)[labels == 0] == 0).all()
    assert (logits.grad.permute(0, 2, 3, 1)[labels > 0] != 0).all()
    assert _pixel_loss(logits, torch.zeros_like(labels)).item() == 0


def test_prepared_scenes_keep_their_moods(tmp_path):
    data = prepare_scenes(tmp_path / "scenes", size=16, n=4, n_val=4, progress=False)
    train_evaluator(tmp_path / "net", data=data, steps=1, progress=False)
    network = load_evaluator(tmp_path / "net")
    assert network.dataset == "scenes" and len(network.moods) == 6
    assert 0 <= network.quality["mood_accuracy"] <= 1


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (None, {"size": 32}, r"--size 32: the images of .*data are 32 x 48; leave --size out"),
        (None, {"steps": 0}, "--steps 0"),
        ("train", {}, "split 'train' has label maps alone"),
        ("val", {}, "split 'val' has label maps alone.*prepare the data set with its images"),
        ("hash", {}, "images.npy: missing or changed"),
        ("odd", {}, "images of 36 x 48 pixels.*multiples of 8"),
        ("gone", {}, "no prepared data"),
    ],
)
def test_data_that_cannot_teach_are_named_before_anything_is_made(tmp_path, change, options, says):
    data = drawn(tmp_path / "data", 3, (36, 48) if change == "odd" else (32, 48))
    if change in ("train", "val"):
        without_photographs(data, change)
    if change == "hash":
        np.save(data / "train" / "images.npy", np.load(data / "train" / "images.npy") + 1)
    if change == "gone":
        shutil.rmtree(data)
    with pytest.raises(InputError, match=says):
        train_evaluator(tmp_path / "net", data=data, progress=False, **options)
    assert not (tmp_path / "net").exists()
