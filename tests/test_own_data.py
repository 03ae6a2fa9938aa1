"""All notebooks over a data set from the disk by one command, and over a prepared folder by one parameter."""

import pytest
from trees import dpsims, plant

from dpsims import paths
from dpsims.evaluation.segmenter import evaluator_for, train_evaluator
from dpsims.files import read_json

TINY = ["02.training_preset=tiny", "02.steps=4", "02.points=1", "02.diversity_maps=2", "03.training_preset=tiny",
        "03.steps=20", "04.diversity_maps=2", "03.settings={discriminator.statistics_images: 8}"]  # fmt: skip
LAYOUTS = {"ade20k": "official", "coco_stuff": "official", "cityscapes": "official", "custom": "folders"}


def reproduce(out, *given, only=()):
    """Figures of each notebook, or of some of them, and the data set that the training was of."""
    sets = [part for setting in (*given, *TINY) for part in ("--set", setting)]
    for chosen in [["--only", number] for number in only] or [[]]:
        dpsims("reproduce", "--preset", "own_data", *sets, *chosen, "--out", out)
    figures = {path.parent.name[:2]: read_json(path, "") for path in out.glob("*/metrics.json")}
    assert sorted(figures) == list(only or ("01", "02", "03", "04", "05"))
    return figures, read_json(out / "03_training/run/config.json", "")["data"]["dataset"]


@pytest.mark.slow
@pytest.mark.parametrize("dataset", LAYOUTS)
def test_from_the_disk_to_figures_by_one_command_and_by_one_parameter(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("DPSIMS_CACHE", str(tmp_path / "cache"))  # for the notebooks' kernels
    tree, data = tmp_path / "tree", tmp_path / "data"
    plant(tree, dataset, LAYOUTS[dataset], train=12, val=6)
    dpsims("prepare", dataset, "--root", tree, "--size", 64, "--out", data)
    train_evaluator(evaluator_for(data), data=data, steps=3, progress=False)  # found by its place: 1500 take minutes
    by_command, trained = reproduce(tmp_path / "command", f"dataset={dataset}", f"root={tree}")
    assert trained == dataset and by_command["01"]["training images"] == 12
    assert by_command["03"]["steps"] == 20 and by_command["03"]["finished"]
    measured = by_command["04"]["figures"]["generator"]
    assert measured["frechet"] > 0 and measured["moods_per_six"] is None
    by_parameter, trained = reproduce(tmp_path / "parameter", f"data_path={data}", only=("03", "04"))
    assert trained == dataset and by_parameter["04"]["figures"] == by_command["04"]["figures"], "the same data"
