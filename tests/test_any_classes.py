"""Data sets of any number of classes: `--data` sets what the training needs to know, and the classes travel with the
run and the checkpoint."""

import numpy as np
import pytest
import torch
from trees import dpsims, drawn, space_of

from dpsims import load_generator
from dpsims.checkpoint import export_run, resolve
from dpsims.config import override
from dpsims.data.loader import ReadAhead, TrainingBatches, in_order, middle, prepared_data
from dpsims.data.prepared import load_prepared, settings_of
from dpsims.errors import InputError
from dpsims.images import to_uint8
from dpsims.labels import read_classes
from dpsims.presets import preset
from dpsims.training import FitResult, fit

TINY = ["train.steps=2", "train.checkpoint_every=1", "train.sample_every=2", "discriminator.statistics_images=4"]


@pytest.mark.parametrize("k", [1, 3, 33, 150, 182])
def test_classes_travel_from_the_data_to_the_checkpoint(tmp_path, k):
    data = drawn(tmp_path / "data", k, (32, 64))
    config = override(preset("tiny"), [*settings_of(data), *TINY])
    assert (config.data.num_classes, config.data.height, config.data.width) == (k, 32, 64)
    assert fit(config, tmp_path / "run", progress=False).finished
    for folder in (tmp_path / "run", export_run(tmp_path / "run", tmp_path / "model")):
        generator = load_generator(folder)
        assert generator.space == space_of(k) and generator.size == (32, 64)
        highest = torch.full((1, 32, 64), k)
        assert generator(highest).shape == (1, 3, 32, 64)
        with pytest.raises(InputError, match=f"value {k + 1} .* not a class of custom \\(0..{k}\\)"):
            generator(highest + 1)


def test_command_line_takes_classes_and_size_from_the_data(tmp_path):
    data = drawn(tmp_path / "data", 5, (32, 32))
    sets = [part for setting in TINY for part in ("--set", setting)]
    dpsims("train", "--preset", "tiny", "--data", data, "--out", tmp_path / "run", *sets)
    assert load_generator(tmp_path / "run").space.num_classes == 5


def test_settings_are_judged_by_the_size_of_the_data(tmp_path, monkeypatch):
    data = drawn(tmp_path / "data", 5, (128, 128))
    seen = []

    def fit(config, *_, **__):
        seen.append(config)
        return FitResult(tmp_path, 1, True)

    monkeypatch.setattr("dpsims.training.fit", fit)
    deep = f"generator.channels={','.join(['16'] * 9)}"  # too many for the 64 pixels of the preset
    dpsims("train", "--preset", "tiny", "--data", str(data), "--set", deep, "--out", str(tmp_path / "run"))
    assert seen[0].data.height == 128 and len(seen[0].generator.channels) == 9


def test_what_contradicts_the_data_is_told(tmp_path):
    data = drawn(tmp_path / "data", 5, (32, 32))
    for wish, says in (
        ("data.num_classes=4", "num_classes=5.*asks for 4"),
        ("data.height=64", "height=32.*asks for 64"),
    ):
        with pytest.raises(InputError, match=says):
            prepared_data(override(preset("tiny"), [*settings_of(data), wish]))
    with pytest.raises(InputError, match="height=32.*asks for 48"):  # a crop cannot be larger than the image
        prepared_data(override(preset("tiny"), [*settings_of(data), "data.height=48", "data.crop=true"]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,name,red,green,blue\n0,void,0,0,0\n", "one class at least"),
        ("id,name,red,green,blue\n0,void,0,0,0\n2,a,0,0,0\n", "without a gap"),
        ("id,name,red,green,blue\n0,void,0,0,0\n1,a,0,0,256\n", "colour outside"),
        ("id,name,red,green,blue\n0,void,0,0,0\n1,,0,0,2\n", "without a name"),
        ("id,name,red\n0,void,0\n1,a,0\n", "no table of classes"),
        ("\0", "no table of classes|without a gap"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, text, says):
    file = tmp_path / "classes.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        read_classes(file, "custom")


def test_a_table_of_other_classes_is_refused(tmp_path):
    data = drawn(tmp_path / "data", 3, (32, 32))
    fit(override(preset("tiny"), [*settings_of(data), *TINY]), tmp_path / "run", progress=False)
    space_of(4).save(resolve(tmp_path / "run") / "classes.csv")
    with pytest.raises(InputError, match="classes.csv: 4 classes, config.json says 3"):
        load_generator(tmp_path / "run")


def batches_of(data, size, seed=0, flip=True):
    split = load_prepared(data).split("train")
    return TrainingBatches(
        split, load_prepared(data).index["splits"]["train"]["class_pixels"], 64, seed, False, flip, size
    )


def test_crops_differ_are_whole_and_keep_image_and_labels_together(tmp_path):
    data = drawn(tmp_path / "data", 200, (36, 40), n=1)
    whole = load_prepared(data).split("train").labels[0]
    batch = batches_of(data, (32, 32), flip=False)(3)
    assert batch.images.shape == (64, 3, 32, 32) and batch.labels.shape == (64, 32, 32)
    shown = to_uint8(batch.images)
    assert (shown[..., 0] == batch.labels.numpy()).all() and (shown[..., 2] == batch.labels.numpy()).all()
    parts = {(y, x): whole[y : y + 32, x : x + 32] for y in range(5) for x in range(9)}
    found = {next(at for at, part in parts.items() if (part == one).all()) for one in batch.labels.numpy()}
    assert len(found) > 20, "of 45 places, 64 draws"
    assert {y for y, _ in found} == set(range(5)), "the outermost too"
    assert torch.equal(batches_of(data, (32, 32), flip=False)(3).labels, batch.labels), "by seed and step alone"
    assert not torch.equal(batches_of(data, (32, 32), flip=False)(4).labels, batch.labels)


def test_crops_train_resume_and_sample(tmp_path):
    data = drawn(tmp_path / "data", 3, (48, 40))
    config = override(preset("tiny"), [*settings_of(data), *TINY, "data.crop=true", "data.height=32", "data.width=32"])
    assert fit(config, tmp_path / "run", progress=False).finished
    assert load_generator(tmp_path / "run").size == (32, 32)


def test_the_middle():
    array = np.arange(2 * 6 * 7).reshape(2, 6, 7)
    assert (middle(array, (2, 3)) == array[:, 2:4, 2:5]).all() and (middle(array, (6, 7)) == array).all()


def test_statistics_are_of_the_middle(tmp_path):
    split = load_prepared(drawn(tmp_path / "data", 9, (40, 36))).split("train")
    (images,) = in_order(split, 4, (32, 32))
    assert (to_uint8(images)[..., 0] == split.labels[:4, 4:36, 2:34]).all()


def test_reading_ahead_changes_nothing(tmp_path):
    batches = batches_of(drawn(tmp_path / "data", 9), (32, 48))
    read = ReadAhead(batches)
    for step in (0, 1, 2, 7, 8, 3):  # a resumed training begins anywhere
        assert torch.equal(read(step).images, batches(step).images)
