"""All notebooks over a data set from the disk, by one command and one parameter: no figure of Scenes is needed."""

import pytest
from trees import dpsims, plant

from dpsims.files import read_json

TINY = ["02.training_preset=tiny", "02.steps=4", "02.points=1", "02.diversity_maps=2", "03.training_preset=tiny",
        "03.steps=20", "04.diversity_maps=2", "03.settings={discriminator.statistics_images: 8}"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["ade20k", "custom"])
def test_all_notebooks_over_a_data_set_from_the_disk(tmp_path, dataset):
    plant(tmp_path / "tree", dataset, "folders" if dataset == "custom" else "official", train=12, val=6)
    data, network, out = tmp_path / "data", tmp_path / "network", tmp_path / "out"
    dpsims("prepare", dataset, "--root", tmp_path / "tree", "--size", 64, "--out", data)
    dpsims("train-evaluators", "--data", data, "--steps", 3, "--out", network)
    given = [f"data_path={data}", f"evaluator={network}", *TINY]
    sets = [part for setting in given for part in ("--set", setting)]
    dpsims("reproduce", "--preset", "own_data", *sets, "--out", out)
    figures = {path.parent.name[:2]: read_json(path, "") for path in out.glob("*/metrics.json")}
    assert sorted(figures) == ["01", "02", "03", "04", "05"]
    assert figures["01"]["training images"] == 12
    assert figures["03"]["steps"] == 20 and figures["03"]["finished"]
    measured = figures["04"]["figures"]["generator"]
    assert measured["frechet"] > 0 and measured["moods_per_six"] is None
    assert read_json(out / "03_training/run/config.json", "")["data"]["dataset"] == dataset
