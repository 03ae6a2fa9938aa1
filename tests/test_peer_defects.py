"""Defects that were found in other projects, each as a test of this one; the numbers are those of our list of them."""

import numpy as np
import pytest
import torch

from dpsims.evaluation import report
from dpsims.evaluation.segmentation import SegmentationScore
from dpsims.images import to_bytes, to_uint8


def test_04_values_outside_the_range_are_clipped_and_the_result_is_used():
    """A peer clips a copy and throws it away, so values wrap around when they become bytes."""
    given = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    kept = given.clone()
    assert to_bytes(given)[0, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert to_uint8(given)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert torch.equal(given, kept), "what was given is not changed either"


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
