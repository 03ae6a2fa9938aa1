"""Evaluation of every prepared data set: its own evaluation network, no moods, void, absent classes, no photographs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from trees import dpsims, drawn, space_of
from typer.testing import CliRunner

from dpsims import load_generator
from dpsims.cli import app
from dpsims.config import override
from dpsims.data.loader import prepared_data
from dpsims.data.prepare import prepare_scenes
from dpsims.data.prepare_folders import prepare_folders
from dpsims.data.prepared import PreparedData, load_prepared, settings_of
from dpsims.errors import InputError
from dpsims.evaluation import protocol, report
from dpsims.evaluation.drawn_images import find_drawn
from dpsims.evaluation.protocol import evaluate_checkpoint, evaluate_images, open_yardstick, reference_rows
from dpsims.evaluation.seeds import sample_seed
from dpsims.evaluation.segmenter import _pixel_loss, load_evaluator, train_evaluator
from dpsims.files import sha256
from dpsims.images import channels_first, to_uint8
from dpsims.paths import CHECKPOINTS, DATA
from dpsims.presets import preset


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
    index = json.loads((data / "index.json").read_text())
    index["sha256"] = {name: sha256(data / name) for name in index["sha256"]}
    (data / "index.json").write_text(json.dumps(index))


def test_void_weighs_nothing(tmp_path):
    """The mean is over the other pixels, no gradient comes from void, and a batch that is all void is no NaN."""
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


# --- what is measured with it

SMALL = {"diversity_maps": 2, "samples_per_map": 3, "progress": False}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Five classes, of which the last never occurs; a quarter of the pixels is void."""
    folder = tmp_path_factory.mktemp("five")
    data = drawn(folder / "data", 4, (16, 24))
    index = json.loads((data / "index.json").read_text())
    index |= {"num_classes": 5, "names": list(space_of(5).names), "colours": [[i, 0, 0] for i in range(6)]}
    for split in index["splits"].values():
        split["class_pixels"].append(0)
    (data / "index.json").write_text(json.dumps(index))
    train_evaluator(folder / "net", data=data, steps=2, progress=False)
    return data, folder / "net"


def test_rows_without_moods_void_and_absent_classes(prepared):
    data, evaluator = load_prepared(prepared[0]), load_evaluator(prepared[1])
    rows = reference_rows(data, evaluator, cache=False, **SMALL)
    assert set(rows) == {"real", "blur_3x3", "class_mean", "train"}
    for row in rows.values():
        assert (
            row["mood_shares"] is row["moods_per_six"] is row["frechet_rebalanced"] is row["rebalanced_moods"] is None
        )
        assert row["frechet"] >= 0 and row["frechet_texture"] >= 0 and row["diversity_l1"] == 0
        assert row["diversity_ratio"] is None and len(row["iou"]) == 5
    real = rows["real"]
    arrays = data.split("val")
    predicted = evaluator.judge(channels_first(arrays.images)).classes.argmax(1).numpy() + 1
    iou = []  # by hand, over classes that are labelled or predicted where something is labelled
    for k in range(1, 6):
        a, b = arrays.labels == k, (predicted == k) & (arrays.labels > 0)
        if (a | b).any():
            iou.append((a & b).sum() / (a | b).sum())
    assert real["miou"] == pytest.approx(np.mean(iou)) and real["frechet"] == pytest.approx(0, abs=1e-3)
    json.dumps(rows, allow_nan=False)
    assert "mood" not in report.plain(report.cells(rows)) and "re-balanced" not in report.plain(report.cells(rows))


def test_what_cannot_be_said_is_told_in_words(prepared):
    rows = reference_rows(load_prepared(prepared[0]), load_evaluator(prepared[1]), cache=False, **SMALL)
    row = {**rows["blur_3x3"], "diversity_l1": 0.125, "miou": 0.9}
    realism, fidelity, diversity = report.verdict(row, rows | {"real": rows["real"] | {"miou": 1.0}})
    assert (
        "flat colours" in realism and "moods" not in realism and "that of other real images, of other maps (" in realism
    )
    assert "90% of what it finds" in fidelity
    assert diversity.endswith("differ by 0.125 of the range of values; how far they should is not known.")
    assert "not measured, with one image" in report.verdict(row | {"diversity_l1": None}, rows)[2]
    assert "cannot be said" in report.verdict(row, rows | {"real": rows["real"] | {"miou": 0.0}})[1]
    found = report.gates(row, rows | {"real": rows["real"] | {"miou": 1.0}})
    assert [gate.met for gate in found] == [False, True, None, None]
    assert "moods are not known" in found[2].found and "nothing to compare" in found[3].found
    assert "| open |" in report.gate_table(row, rows)
    unmeasured = report.gates(row | {"diversity_l1": None}, rows)[3]
    assert unmeasured.met is None and "one image a map" in unmeasured.found


@pytest.mark.parametrize(
    ("k", "size", "name", "says"),
    [
        (5, (24, 16), "custom", "trained at 16 x 24 pixels, and these have 24 x 16"),
        (3, (16, 24), "custom", "trained for 5 classes, and these have 3"),
        (5, (16, 24), "ade20k", "trained on custom, and these are ade20k"),
        (5, (16, 24), "renamed", "where class 5 is 'class, no. 5 of \"ä\"', which is 'dog' here"),
    ],
)
def test_a_network_of_other_data_is_refused(prepared, tmp_path, k, size, name, says):
    data = drawn(tmp_path / "data", k, size)
    index = json.loads((data / "index.json").read_text())
    if name == "renamed":
        index["names"][5] = "dog"
    else:
        index["dataset"] = name
    (data / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError) as caught:
        open_yardstick(data, prepared[1], progress=False)
    assert says in str(caught.value) and f"train-evaluators --data {data}" in str(caught.value)


def test_the_shipped_network_is_for_its_scenes_alone(tmp_path):
    with pytest.raises(InputError, match="trained on scenes, and these are custom; for 12 classes.*; at 64 x 64"):
        open_yardstick(drawn(tmp_path / "data", 5), progress=False)
    small = prepare_scenes(tmp_path / "scenes", size=16, n=1, n_val=4, progress=False)
    with pytest.raises(InputError, match="train-evaluators --size 16 --out DIR"):
        open_yardstick(small, progress=False)


def test_data_without_photographs_are_refused(prepared, tmp_path):
    data = without_photographs(shutil.copytree(prepared[0], tmp_path / "data"), "val")
    with pytest.raises(
        InputError, match=r"data: its split 'val' has label maps alone.*prepare the data set with its im"
    ):
        open_yardstick(data, prepared[1], progress=False)
    data = without_photographs(drawn(tmp_path / "larger", 3), "train")
    with pytest.raises(InputError, match="'train' has label maps alone, and photographs are needed to train"):
        prepared_data(override(preset("tiny"), settings_of(data)))


def test_too_few_held_out_pairs_are_told(tmp_path):
    data, _ = prepare_folders("custom", DATA / "custom_example", tmp_path / "data", size=16, progress=False)
    train_evaluator(tmp_path / "net", data=data, steps=1, progress=False)
    with pytest.raises(InputError, match=r"data: has 1 held-out image\(s\); .* at least 4 \(more held-out pairs"):
        open_yardstick(data, tmp_path / "net", progress=False)


def test_a_generator_of_other_classes_or_size_is_refused(prepared, tmp_path):
    with pytest.raises(
        InputError, match="draws 12 classes of scenes at 64 x 64 .* holds 5 classes of custom at 16 x 24"
    ):
        evaluate_checkpoint(CHECKPOINTS / "scenes-64", prepared[0], evaluator_path=prepared[1], progress=False)


# --- images drawn elsewhere


@pytest.fixture
def named(prepared, tmp_path):
    """The data with names for its four held-out maps, as `dpsims prepare` gives them."""
    data = shutil.copytree(prepared[0], tmp_path / "named")
    index = json.loads((data / "index.json").read_text())
    (data / "index.json").write_text(json.dumps(index | {"held_out": ["ulm/a b", "ulm/1", "bonn/1", "bonn/0"]}))
    return data


def written(folder: Path, data: Path, names: list[str], shift: int = 0) -> Path:
    """The real images of the held-out maps as files, `shift` levels brighter; a name of each, "" for none."""
    for name, image in zip(names, load_prepared(data).split("val").images, strict=True):
        if name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image + np.uint8(shift)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("names", "way"),
    [
        (["0.png", "1.png", "2.png", "3.PNG"], "position"),
        (["0000.png", "0001_seed7.png", "0002.png", "0003.png"], "position"),
        (["ulm/a b.png", "ulm/1.png", "bonn/1.png", "bonn/0.png"], "name"),
        (["a b.png", "ulm/1.png", "bonn/1_seed3.png", "0.png"], "name"),
    ],
)
def test_images_are_found_by_name_or_position(prepared, named, tmp_path, names, way, monkeypatch):
    monkeypatch.setattr(protocol, "CACHE", tmp_path / "cache")
    images = written(tmp_path / "images", named, names)
    (images / "notes.txt").write_text("")
    result = evaluate_images(images, named, tmp_path / "r.json", evaluator_path=prepared[1], **SMALL)
    assert json.loads((tmp_path / "r.json").read_text()) == result
    assert result["images"] == {"folder": str(images), "named_by": way, "draws": 1} and "checkpoint" not in result
    row, real = result["generator"], result["references"]["real"]
    assert {k: row[k] for k in ("frechet", "frechet_texture", "miou", "iou")} == {
        k: real[k] for k in ("frechet", "frechet_texture", "miou", "iou")
    }, "the very images, each for its own map"
    assert row["diversity_l1"] is row["diversity_l1_interval"] is row["diversity_ratio"] is None
    assert row["num_maps_diversity"] == 0 and row["num_images"] == 4
    assert "differ" not in " ".join(report.verdict(row, result["references"]))


def test_diversity_of_several_images_a_map(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "CACHE", tmp_path / "cache")
    images, draws = tmp_path / "images", {"0": 10, "2": 0, "10": 30}  # numbers in order, not texts: 0, 2, 10
    for draw, shift in draws.items():
        written(images, prepared[0], [f"{j}_seed{draw}.png" for j in range(4)], shift)
    settings = SMALL | {"samples_per_map": 2}
    result = evaluate_images(images, prepared[0], evaluator_path=prepared[1], **settings)
    assert result["images"]["draws"] == 2
    assert result["generator"]["diversity_l1"] == pytest.approx(10 / 255, rel=1e-5), "the first two"
    assert result["generator"]["frechet"] > result["references"]["real"]["frechet"], "draw 0 is brighter"
    result = evaluate_images(images, prepared[0], evaluator_path=prepared[1], **SMALL)
    assert result["generator"]["diversity_l1"] == pytest.approx((10 + 30 + 20) / 3 / 255, rel=1e-5)


def test_cityscapes_names_with_their_endings(prepared, named):
    index = json.loads((named / "index.json").read_text())
    data = load_prepared(named)
    city = PreparedData(data.path, index | {"dataset": "cityscapes"})
    ends = ["_leftImg8bit", "_gtFine_labelIds", "", "_leftImg8bit_seed0"]
    names = [f"{n}{end}.png" for n, end in zip(index["held_out"], ends, strict=True)]
    found = find_drawn(written(named.parent / "images", named, names), city, 4, progress=False)
    assert [files[0].name for files in found.files] == [Path(name).name for name in names]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["0.png", "1.png", "2.png", ""], r"has no image of held-out label map 3 \(bonn/0\); 1 of 4 are missing"),
        (["0.png", "1.png", "2.png", "4.png"], r"4.png: belongs to no held-out label map .*: 'ulm/a b', or 0 to 3"),
        (["0.png", "1.png", "2.png", "02.png"], r"2.png: is of the same label map as .*02.png; name several"),
        (["x.png", "y.png", "z.png", "1.png"], r"x.png: belongs to no .* \(2 further files\)"),
        (["a b.png", "1.png", "bonn/1.png", "bonn/0.png"], "images/1.png: belongs to no"),  # two have this last part
        (["", "", "", ""], "holds no PNG"),
    ],
)
def test_names_that_do_not_fit_are_told(named, tmp_path, names, says):
    images = written(tmp_path / "images", named, names)
    with pytest.raises(InputError, match=says):
        find_drawn(images, load_prepared(named), 4, progress=False)


def test_images_that_cannot_be_used_are_told(prepared, tmp_path):
    data = load_prepared(prepared[0])
    images = written(tmp_path / "images", prepared[0], ["0.png", "1.png", "2.png", "3.png"])
    Image.new("RGB", (24, 17)).save(images / "1.png")
    with pytest.raises(InputError, match=r"1.png: 17 x 24 pixels \(height x width\), and .* has 16 x 24"):
        find_drawn(images, data, 4, progress=False)
    (images / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match="1.png: not a readable image"):
        find_drawn(images, data, 4, progress=False)


def test_prepared_folders_know_their_names(tmp_path):
    trees.plant(tmp_path / "in", "cityscapes", val=3)
    (tmp_path / "in" / trees.LAYOUTS["cityscapes", "official"]["val"][0].format(1)).write_bytes(b"")
    path, _ = prepare_folders("cityscapes", tmp_path / "in", tmp_path / "out", size=16, skip_bad=True, progress=False)
    assert load_prepared(path).index["held_out"] == ["ulm/ulm_0_000019", "ulm/ulm_2_000019"], "without the bad one"
    index = json.loads((path / "index.json").read_text())
    for wrong in (["a"], "ab", [1, 2]):
        (path / "index.json").write_text(json.dumps(index | {"held_out": wrong}))
        with pytest.raises(InputError, match="held_out .* is not a name for each of the 2 pairs"):
            load_prepared(path)


def test_one_of_checkpoint_and_images(tmp_path):
    line = ["evaluate", "--data", "d", "--out", str(tmp_path / "r.json")]
    for more in ([], ["--checkpoint", "a", "--images", "b"]):
        said = CliRunner().invoke(app, [*line, *more])
        assert said.exit_code == 2 and "one of them" in said.stderr


# --- every layout, by command line: from the disk to figures


@pytest.mark.parametrize("dataset", ["ade20k", "coco_stuff", "cityscapes", "custom"])
def test_from_files_to_figures(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(protocol, "CACHE", tmp_path / "cache")
    trees.plant(tmp_path / "in", dataset, "folders" if dataset == "custom" else "official", val=4)
    data, run, net, images = (tmp_path / name for name in ("data", "run", "net", "images"))
    settings = ("train.steps=2", "discriminator.statistics_images=4", "train.checkpoint_every=2")

    dpsims("prepare", dataset, "--root", tmp_path / "in", "--size", 32, "--out", data)
    sets = [part for setting in settings for part in ("--set", setting)]
    dpsims("train", "--preset", "tiny", "--data", data, *sets, "--out", run)
    dpsims("train-evaluators", "--data", data, "--steps", 2, "--out", net, "--device", "cpu")
    measure = ("evaluate", "--data", data, "--evaluator", net, "--device", "cpu", "--out", tmp_path / "r.json")
    table = dpsims(*measure, "--checkpoint", run)
    result = json.loads((tmp_path / "r.json").read_text())
    width = 64 if dataset == "cityscapes" else 32
    assert (result["protocol"]["height"], result["protocol"]["width"]) == (32, width)
    assert result["protocol"]["maps"] == 4 and result["protocol"]["data"]["dataset"] == dataset
    assert result["generator"]["diversity_l1"] > 0 and "redrawn" not in result["references"]
    assert table.split()[0] == "images" and "diversity L1" in table and "mood" not in table
    assert load_generator(run).space.names == load_prepared(data).space.names

    dpsims("generate", "--checkpoint", run, "--labels", data, "--n", 2, "--out", tmp_path / "drawn")
    assert "diversity L1" in dpsims(*measure, "--images", tmp_path / "drawn"), "named as evaluate looks for them"

    generator, arrays = load_generator(run), load_prepared(data).split("val")
    pictures = to_uint8(generator(arrays.labels, seed=[sample_seed(0, j, 0) for j in range(4)]))
    images.mkdir()
    for name, picture in zip(load_prepared(data).index["held_out"], pictures, strict=True):
        Image.fromarray(picture).save(images / f"{Path(name).name}.png")
    assert "diversity L1" not in dpsims(*measure, "--images", images).splitlines()[1]
    again = json.loads((tmp_path / "r.json").read_text())
    assert again["generator"]["frechet"] == pytest.approx(result["generator"]["frechet"], rel=1e-3)
    assert again["references"] == result["references"], "from the cache: the same protocol"
