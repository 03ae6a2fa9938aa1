"""The log of trials."""

import csv
import os

import pytest

from dpsims import trials
from dpsims.config import Config, override
from dpsims.data.prepare import prepare_scenes
from dpsims.errors import InputError
from dpsims.presets import preset
from dpsims.training import fit


def test_settings_are_what_differs():
    assert trials.settings(Config()) == ""
    changed = override(Config(), ["train.betas=0,0.9", "generator.padding=replicate", "train.steps=7"])
    assert trials.settings(changed) == "generator.padding=replicate train.betas=(0.0,0.9)"


def test_lines_are_added_and_replaced(tmp_path):
    data = prepare_scenes(tmp_path / "data", size=64, n=16, n_val=8, progress=False)
    config = override(preset("tiny"), [f"data.path={data}", "train.steps=2"])
    for name in ("one", "two"):
        fit(config, tmp_path / name, progress=False)
    log = tmp_path / "log.csv"
    trials.record([tmp_path / "one"], log, data)
    assert trials.main([str(tmp_path / "two"), str(tmp_path / "one"), "--out", str(log), "--data", str(data)]) == 0
    with log.open(newline="") as file:
        one, two = csv.DictReader(file)
    assert (one["trial"], two["trial"], one["steps"], two["planned"]) == ("one", "two", "2", "2")
    assert {k: v for k, v in one.items() if k != "trial"} == {k: v for k, v in two.items() if k != "trial"}, "one seed"
    assert float(one["frechet"]) > 0 and "generator.label_channels=8" in one["settings"]
    assert sum(float(one[m]) for m in ("day", "sunset", "night", "overcast", "autumn", "winter")) == pytest.approx(1)


def test_a_folder_that_is_no_run(tmp_path, capsys):
    with pytest.raises(InputError, match="holds no dpsims checkpoint"):
        trials.record([tmp_path], tmp_path / "log.csv", tmp_path)
    assert trials.main([str(tmp_path), "--out", str(tmp_path / "log.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "log.csv").exists()


def test_foreign_logs_are_left_alone(tmp_path):
    for name, content in (("a.csv", b"x,y\n1,2\n"), ("b.csv", bytes(range(256))), ("c.csv", b"")):
        log = tmp_path / name
        log.write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: (not readable|has other columns)"):
            trials.record([], log, tmp_path)
        assert log.read_bytes() == content
    (tmp_path / "device.csv").symlink_to(os.devnull)  # a link: were it replaced, the device would stay
    with pytest.raises(InputError, match="is no regular file"):
        trials.record([], tmp_path / "device.csv", tmp_path)
    for log in (tmp_path, tmp_path / "no" / "log.csv"):
        with pytest.raises(InputError, match="name a CSV file"):
            trials.record([], log, tmp_path)
