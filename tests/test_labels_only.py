"""Label maps without photographs: prepared, refused where photographs are needed, and drawn at once."""

import json
import re
import shutil

import numpy as np
import pytest
import trees
from PIL import Image
from trees import QUIET, dpsims
from typer.testing import CliRunner

from dpsims import load_generator
from dpsims.cli import app
from dpsims.config import override
from dpsims.data.loader import prepared_data
from dpsims.data.prepare_folders import check_folders, prepare_folders
from dpsims.data.prepared import load_prepared, settings_of
from dpsims.encodings import encoding
from dpsims.errors import InputError
from dpsims.evaluation.drawn_images import find_drawn
from dpsims.evaluation.segmenter import train_evaluator
from dpsims.generation import generate_files
from dpsims.images import to_uint8
from dpsims.labels import label_space, resize_nearest
from dpsims.paths import CHECKPOINTS
from dpsims.presets import preset

SHIPPED = CHECKPOINTS / "scenes-64"


def without_photos(root, dataset="ade20k"):
    truth = trees.plant(root, dataset)
    for image, _ in trees.LAYOUTS[dataset, "official"].values():
        shutil.rmtree(root / image.split("/")[0], ignore_errors=True)
    return truth


@pytest.mark.parametrize("dataset", ["ade20k", "coco_stuff", "cityscapes"])
def test_label_maps_alone_are_prepared_as_with_photographs(tmp_path, dataset):
    trees.plant(tmp_path / "both", dataset)
    without_photos(tmp_path / "alone", dataset)
    both, _ = prepare_folders(dataset, tmp_path / "both", tmp_path / "a", size=32, **QUIET)
    alone, report = prepare_folders(dataset, tmp_path / "alone", tmp_path / "b", size=32, photos=False, **QUIET)
    assert next(report.lines()) == f"{dataset}: 4 train, 2 val label maps; 0 other files were not looked at"
    data, expected = load_prepared(alone), load_prepared(both)
    for split in ("train", "val"):
        assert data.split(split).images is None and not (alone / split / "images.npy").exists()
        for key in ("labels", "rarest"):
            assert np.array_equal(getattr(data.split(split), key), getattr(expected.split(split), key))
    assert data.index["splits"] == expected.index["splits"] and data.index["held_out"] == expected.index["held_out"]
    data.verify(progress=False)
    assert prepare_folders(dataset, tmp_path / "alone", alone, size=32, photos=False, **QUIET) == (alone, None)
    with pytest.raises(InputError, match="b: made with photos False, not True; .*remove"):
        prepare_folders(dataset, tmp_path / "both", alone, size=32, **QUIET)


def test_without_being_asked_missing_photographs_are_an_error(tmp_path):
    without_photos(tmp_path / "in")
    with pytest.raises(InputError, match=r"images.training: no such folder; .* For label maps alone, .*--labels-only"):
        prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    label_map = tmp_path / "in/annotations/training/ADE_train_1.png"
    label_map.write_bytes(b"")
    bad = check_folders("ade20k", tmp_path / "in", photos=False, **QUIET).bad
    assert len(bad) == 1 and bad[0].startswith(f"{label_map}: ")


@pytest.fixture(scope="module")
def scenes_alone(tmp_path_factory):
    """Label maps of Scenes without photographs, prepared at 64 pixels; two are held out."""
    folder = tmp_path_factory.mktemp("scenes")
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(label_space("scenes").names) if number)
    for split, count in (("train", 2), ("val", 2)):
        (folder / "in/labels" / split).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(trees.draw(index, split)[1]).save(folder / f"in/labels/{split}/-a ü {index}.png")
    (folder / "in/dataset.yml").write_text(f"void: 0\nnames:\n{names}")
    dpsims("prepare", "custom", "--labels-only", "--root", folder / "in", "--out", folder / "out", "--size", 64)
    return folder / "out"


def test_what_needs_photographs_says_so(scenes_alone, tmp_path):
    message = (
        rf"{re.escape(str(scenes_alone))}: its split '\w+' has label maps alone, and photographs are needed to train"
    )
    config = override(preset("tiny"), settings_of(scenes_alone))
    with pytest.raises(InputError, match=message):
        prepared_data(config)
    with pytest.raises(InputError, match=message):
        train_evaluator(tmp_path / "evaluator", data=scenes_alone, steps=1)
    for line in (
        f"train --preset tiny --data {scenes_alone} --out {tmp_path / 'run'}",
        f"evaluate --checkpoint {SHIPPED} --data {scenes_alone} --out {tmp_path / 'a.json'}",
    ):
        result = CliRunner().invoke(app, line.split())
        *_, last = re.split("[\r\n]", result.stderr.strip())  # a bar may stand before it
        assert result.exit_code == 2 and re.match(f"dpsims: {message}", last) and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_prepared_data_set_is_drawn_at_once(scenes_alone, tmp_path):
    line = ("--checkpoint", SHIPPED, "--labels", scenes_alone, "--n", 2, "--seed", 3, "--out", tmp_path / "out")
    said = dpsims("generate", *line)
    names = [f"-a ü {index}_seed{seed}.png" for index in (0, 1) for seed in (3, 4)]
    assert said.splitlines() == [str(tmp_path / "out" / name) for name in names]
    data = load_prepared(scenes_alone)
    image = to_uint8(load_generator(SHIPPED)(data.split("val").labels[1].astype(int), seed=4))[0]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / names[3])), image)
    found = find_drawn(tmp_path / "out", data, 2, progress=False)
    assert [[file.name for file in files] for files in found.files] == [names[:2], names[2:]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoding_name": "raw"}, "encoding: 'raw', but .*out is prepared, and so holds ids; leave --encoding out"),
        ({"data": "others"}, "class 1 of ade20k is .wall., in the model .sky.; give label maps of the data"),
        ({"data": "small"}, r"label maps of 32 x 32 pixels .* the model takes 64 x 64; pass --resize"),
    ],
)
def test_prepared_data_of_other_classes_or_size(scenes_alone, tmp_path, settings, message):
    place = scenes_alone
    match settings.pop("data", None):
        case "others":
            trees.plant(tmp_path / "in", "ade20k")
            place, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "others", size=64, **QUIET)
        case "small":
            root = scenes_alone.parent / "in"
            place, _ = prepare_folders("custom", root, tmp_path / "small", size=32, photos=False, **QUIET)
    with pytest.raises(InputError, match=message):
        generate_files(SHIPPED, place, tmp_path / "out", n=1, progress=False, **settings)
    assert not (tmp_path / "out").exists()
    if place.name == "small":
        written = generate_files(SHIPPED, place, tmp_path / "out", n=1, resize=True, progress=False)
        assert len(written) == 2 and Image.open(written[0]).size == (64, 64)


@pytest.mark.parametrize("name", ["ids", "raw", "rgb"])
def test_a_folder_of_any_encoding_and_size(tmp_path, name):
    (tmp_path / "maps").mkdir()
    truth = [trees.draw(index, "val")[1] for index in (0, 1)]
    for index, ids in enumerate(truth):
        image = Image.fromarray(ids if name == "ids" else encoding("scenes", name).encode(ids))
        if name == "raw":
            image.putpalette(bytes(768))  # read as indices, as in prepare
        image.save(tmp_path / f"maps/{index}.png")
    rest = {"n": 1, "encoding_name": name, "progress": False}
    with pytest.raises(InputError, match=r"0.png: 37 x 53 pixels .*but the model takes 64 x 64; .*--resize"):
        generate_files(SHIPPED, tmp_path / "maps", tmp_path / "out", **rest)
    assert not (tmp_path / "out").exists()
    written = generate_files(SHIPPED, tmp_path / "maps", tmp_path / "out", resize=True, **rest)
    expected = to_uint8(load_generator(SHIPPED)(resize_nearest(truth[1], (64, 64)).astype(int), seed=0))[0]
    assert np.array_equal(np.asarray(Image.open(written[1])), expected)


def test_an_encoding_that_is_none(tmp_path):
    Image.new("L", (64, 64), 1).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="'bgr' is not one of raw, rgb"):
        generate_files(SHIPPED, tmp_path / "a.png", tmp_path / "out", n=1, encoding_name="bgr", progress=False)


@pytest.mark.parametrize("name", ["../a", "/a", "b/../../a"])
def test_names_that_lead_out_of_the_folder_are_refused(scenes_alone, tmp_path, name):
    folder = shutil.copytree(scenes_alone, tmp_path / "data")
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, "held_out": ["a", name]}))
    with pytest.raises(InputError, match=f"index.json: held_out: '{name}' leads out of a folder"):
        generate_files(SHIPPED, folder, tmp_path / "out", n=1, progress=False)
