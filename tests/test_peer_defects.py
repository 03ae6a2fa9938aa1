"""Defects that were found in other projects, each as a test of this one; the numbers are those of our list of them."""

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from trees import QUIET

from dpsims.cli import Dataset
from dpsims.data.loader import TrainingBatches
from dpsims.data.prepare_folders import prepare_folders
from dpsims.data.prepared import SplitArrays, load_prepared
from dpsims.evaluation import report
from dpsims.evaluation.segmentation import SegmentationScore
from dpsims.images import to_bytes, to_uint8


def test_01_each_reading_crops_elsewhere_whatever_else_is_read():
    """In a peer the held-out set overwrites the size of the training set, and the crop never happens."""
    labels = np.arange(1, 1 + 12 * 12, dtype=np.uint8).reshape(1, 12, 12)  # a pixel tells its place
    split = SplitArrays(np.repeat(labels[..., None], 3, -1), labels, None, np.ones(1, np.uint8))
    crops = TrainingBatches(split, [0] + [1] * 144, 1, 0, True, False, (8, 8))
    whole = TrainingBatches(split, [0] + [1] * 144, 1, 0, True, False, (12, 12))
    corners = set()
    for step in range(40):
        assert whole(step).labels.shape == (1, 12, 12)
        batch = crops(step)
        corner = int(batch.labels[0, 0, 0]) - 1
        top, left = divmod(corner, 12)
        assert np.array_equal(batch.labels[0], labels[0, top : top + 8, left : left + 8]), "image and labels alike"
        assert np.array_equal((batch.images[0, 0] * 127.5 + 127.5).round(), batch.labels[0])
        corners.add(corner)
    assert len(corners) > 15, "of 25 places"


def test_04_values_outside_the_range_are_clipped_and_the_result_is_used():
    """A peer clips a copy and throws it away, so values wrap around when they become bytes."""
    given = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    kept = given.clone()
    assert to_bytes(given)[0, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert to_uint8(given)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert torch.equal(given, kept), "what was given is not changed either"


@pytest.mark.parametrize("kind", ["16 bits", "palette"])
def test_07_values_above_255_and_indices_are_read_as_they_are(tmp_path, kind):
    """Peers cut 16 bits to 255, and take the grey levels of a palette for classes."""
    trees.plant(tmp_path / "in", "custom", "folders", train=1, val=1)
    values = [7, 1000, 26001] if kind == "16 bits" else [0, 1, 2]
    (tmp_path / "in/dataset.yml").write_text(f"names: {{{values[0]}: a, {values[1]}: b, {values[2]}: c}}")
    ids = np.array([[0, 1], [2, 0]]).repeat(25, 0).repeat(25, 1)
    for split in ("train", "val"):
        Image.new("RGB", (50, 50)).save(tmp_path / f"in/images/{split}/shore 0.jpg")
        image = Image.fromarray(np.array(values, np.uint16 if kind == "16 bits" else np.uint8)[ids])
        if kind == "palette":
            image.putpalette([200, 30, 30, 71, 71, 71, 0, 0, 1])
        image.save(tmp_path / f"in/labels/{split}/shore 0.png")
    out, _ = prepare_folders("custom", tmp_path / "in", tmp_path / "out", size=50, **QUIET)
    assert np.array_equal(load_prepared(out).split("train").labels[0], ids + 1)


@pytest.mark.parametrize("size", [16, 33, 96])
def test_08_resizing_makes_no_class_that_was_not_there(tmp_path, size):
    """A peer resizes ids as if they were colours: between class 1 and class 3 lies class 2."""
    trees.plant(tmp_path / "in", "ade20k", train=1, val=1)
    stripes = np.where(np.add.outer(np.arange(50), np.arange(50)) % 3, 1, 149).astype(np.uint8)
    for split in ("train", "val"):
        image, label_map = (tmp_path / "in" / name.format(0) for name in trees.LAYOUTS["ade20k", "official"][split])
        Image.fromarray(stripes).convert("RGB").save(image, quality=95)
        Image.fromarray(stripes).save(label_map)
    out, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=size, **QUIET)
    arrays = load_prepared(out).split("train")
    assert set(np.unique(arrays.labels)) == {1, 149} and len(np.setdiff1d(arrays.images, [1, 149])), "images are"


def test_09_every_data_set_that_the_command_names_can_be_prepared(tmp_path):
    """A peer names a data set, publishes weights for it and cannot read it."""
    there = {dataset for dataset, _ in trees.LAYOUTS}
    assert there == {dataset.value for dataset in Dataset} - {"scenes"}  # drawn, not read
    for dataset in there:
        layout = next(layout for name, layout in trees.LAYOUTS if name == dataset)
        trees.plant(tmp_path / dataset, dataset, layout, train=1, val=1)
        out, _ = prepare_folders(dataset, tmp_path / dataset, tmp_path / f"{dataset} out", size=16, **QUIET)
        assert load_prepared(out).pairs("train").images.shape == (1, 16, 16, 3)


@pytest.mark.parametrize("present", [182, 171, 1])
def test_14_a_perfect_answer_scores_one_whatever_classes_are_absent(present):
    """A peer divides by all 182 classes, of which 11 never occur: 0.94 for a perfect answer."""
    labels = torch.from_numpy(1 + np.arange(200) % present).reshape(1, 10, 20)
    labels[0, 0, :3] = 0
    score = SegmentationScore(182)
    score.update(labels.clamp_min(1) - 1, labels)
    assert score.result()["miou"] == 1.0
    assert sum(iou is not None for iou in score.result()["iou"]) == present
    wrong = SegmentationScore(182)
    wrong.update(torch.full_like(labels, 181), torch.where(labels == 182, 1, labels))
    assert wrong.result()["miou"] == 0.0, "a class that is only predicted counts: it is no absent one"


def test_15_every_figure_stands_under_its_name():
    """In a peer's table mIoU stands under FID and FID under mIoU."""
    rows = {
        "a": {"miou": 0.25, "frechet": 75.0, "diversity_l1": 0.125},
        "b": {"diversity_l1": 0.5, "frechet": 60.0, "miou": 0.75, "moods_per_six": 3.0},  # another order, another set
    }
    head, *lines = report.cells(rows)
    columns = dict(zip(head, zip(*lines, strict=True), strict=True))
    assert columns == {
        "images": ("a", "b"),
        "distance": ("75.0", "60.0"),
        "mIoU": ("0.250", "0.750"),
        "diversity L1": ("0.125", "0.500"),
        "moods in six draws": ("–", "3.00"),
    }
    text = [line.split("|") for line in report.markdown([head, *lines]).splitlines()]
    assert len({len(line) for line in text}) == 1 and [c.strip() for c in text[0][1:-1]] == head
