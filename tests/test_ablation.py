"""The ablation: real tiny trainings, measured, continued and compared; statistics against values made by hand."""

import csv
import json
import math
import shutil
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from trees import scenes_of

from dpsims import ablation, plotting_ablation
from dpsims import ablation_statistics as statistics
from dpsims import feature_statistics as features
from dpsims.ablation import ARMS, COLUMNS, Study, main, run_path, run_study, sample_images
from dpsims.data.prepare import prepare_scenes
from dpsims.errors import InputError
from dpsims.models import Discriminator
from dpsims.paths import EVALUATORS, ROOT
from dpsims.training import DeadRun

ARM_NAMES = {arm: {"name": name, "settings": []} for arm, (name, _) in ARMS.items()}


data = scenes_of(16)


def study(data, **changes):
    base = {"preset": "tiny", "steps": 4, "points": 2, "seeds": (3,), "max_maps": 8, "diversity_maps": 1}
    return Study(data=str(data), **{**base, "settings": ("discriminator.statistics_images=16",), **changes})


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    return out, run_study(study(data), out, progress=False)


def made(values, arms=("pretrained", "scratch"), seeds=(0, 1, 2), died=()):
    """Results as run_study gives them, with frechet values[arm][seed] at step 10 and twice that at step 5."""
    rows = [
        {"arm": a, "seed": s, "step": step, "cpu_seconds": step * (1.0 + (a == "scratch")), "seconds": 2.0 * step,
         "frechet": values[a][s] * factor, "miou": 1 / values[a][s], "diversity_l1": 0.25, "moods_per_six": None}
        for a in arms for s in seeds for step, factor in ((5, 2.0), (10, 1.0))
    ]  # fmt: skip
    return {"format": 1, "study": {"seeds": list(seeds), "steps": 10}, "arms": {a: ARM_NAMES[a] for a in arms},
            "clock": "cpu_seconds", "rows": rows, "died": list(died)}  # fmt: skip


THREE = made({"pretrained": [10, 12, 14], "scratch": [20, 21, 25]})


def test_a_study_measures_every_checkpoint_of_every_arm(done):
    out, results = done
    assert [(r["arm"], r["seed"], r["step"]) for r in results["rows"]] == [
        (arm, 3, step) for arm in ("pretrained", "scratch") for step in (2, 4)
    ]
    for row in results["rows"]:
        assert tuple(row) == COLUMNS and row["frechet"] > 0 and 0 <= row["miou"] <= 1 and row["diversity_l1"] > 0
    for arm in ("pretrained", "scratch"):
        times, _ = statistics.curve(results, arm, 3, "cpu_seconds", "miou")
        assert 0 < times[0] < times[1]
    assert statistics.load_results(out) == results == statistics.load_results(out / "results.json")
    with (out / "results.csv").open(newline="") as file:
        assert [float(r["frechet"]) for r in csv.DictReader(file)] == [r["frechet"] for r in results["rows"]]
    assert str(out) not in (out / "results.json").read_text(), "results name no machine"
    assert results["protocol"]["maps"] == 8 and results["clock"] == "cpu_seconds"
    assert not results["died"] and len(statistics.findings(results)) == 4


def test_the_arms_differ_in_the_encoder_alone(data, done):
    s = study(data, arms=tuple(ARMS))
    configs = {arm: s.config(arm, 3) for arm in ARMS}
    for config in configs.values():
        for part in ("data", "generator", "loss", "train"):
            assert getattr(config, part) == getattr(configs["pretrained"], part)
    encoder = {arm: (c.discriminator.pretrained, c.discriminator.frozen) for arm, c in configs.items()}
    assert encoder == {"pretrained": ("true", True), "scratch": ("false", False), "scratch_raw": ("false", False),
                       "random": ("false", True)}  # fmt: skip
    assert configs["scratch_raw"].discriminator.decorrelation == "none"
    pictures = [sample_images(done[0], arm, 3, (64, 64)) for arm in ("pretrained", "scratch")]
    assert pictures[0].shape == (5, 8, 64, 64, 3)
    assert (pictures[0][:2] == pictures[1][:2]).all() and (pictures[0][2:] != pictures[1][2:]).any(), "one set of maps"


def test_a_finished_study_is_only_read_again(data, done, monkeypatch):
    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(ablation, "fit", never)
    monkeypatch.setattr(ablation, "open_yardstick", never)
    out, results = done
    assert run_study(study(data), out, progress=False)["rows"] == results["rows"]
    with pytest.raises(InputError, match="measured with other settings; choose another --out"):
        run_study(study(data, max_maps=7), out, progress=False)
    file = run_path(out, "pretrained", 3) / "measured.json"
    kept = file.read_text()
    for damaged in ("[]", "{"):
        file.write_text(damaged)
        with pytest.raises(InputError, match="remove it to measure again"):
            run_study(study(data), out, progress=False)
    file.write_text(kept)


def test_figures_of_other_data_or_another_network_are_not_taken_for_these(data, done, tmp_path):
    other = prepare_scenes(tmp_path / "scenes", size=64, n=12, n_val=8, progress=False)
    network = shutil.copytree(EVALUATORS / "scenes-64", tmp_path / "network")
    facts = json.loads((network / "provenance.json").read_text())
    (network / "provenance.json").write_text(json.dumps(facts | {"sha256": "0" * 64}))
    for changed in (study(other), study(data, evaluator=str(network))):
        with pytest.raises(InputError, match="measured with other settings"):
            run_study(changed, done[0], progress=False)


def test_killed_while_measuring_it_goes_on(data, done, tmp_path, monkeypatch):
    original, calls = ablation.measure_checkpoint, []

    def killed(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    one = study(data, arms=("pretrained",))
    monkeypatch.setattr(ablation, "measure_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        run_study(one, tmp_path, progress=False)
    again = run_study(one, tmp_path, progress=False)["rows"]
    expected = [r for r in done[1]["rows"] if r["arm"] == "pretrained"]
    for row, reference in zip(again, expected, strict=True):  # same seed, same figures; only times differ
        assert {k: v for k, v in row.items() if "seconds" not in k} == {
            k: v for k, v in reference.items() if "seconds" not in k
        }


def test_a_dead_run_is_reported_and_a_stopped_one_raises(data, tmp_path, monkeypatch):
    def dies(*_, **__):
        raise DeadRun("step 3: the generator is dead")

    monkeypatch.setattr(ablation, "fit", dies)
    for arm in ("pretrained", "scratch"):  # fit makes them
        run_path(tmp_path / "a", arm, 3).mkdir(parents=True)
    results = run_study(study(data), tmp_path / "a", progress=False)
    assert [d["arm"] for d in results["died"]] == ["pretrained", "scratch"] and not results["rows"]
    said = statistics.findings(results)
    assert "died: step 3" in said[0] and said[-1] == "No run lived to its end: nothing can be compared."
    with pytest.raises(InputError, match="no run that lived"):
        statistics.common_end(results, "step")

    class Stopped:
        finished, step = False, 2

    monkeypatch.setattr(ablation, "fit", lambda *_, **__: Stopped)
    with pytest.raises(InputError, match="stopped at step 2 of 4; run it again"):
        run_study(study(data), tmp_path / "b", progress=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arms": ("pretrained", "best")}, "of pretrained, scratch"),
        ({"arms": ("scratch", "scratch")}, "name each once"),
        ({"arms": ()}, "none; name each once"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (1, 1)}, "different whole numbers"),
        ({"seeds": (-1,)}, "from 0"),
        ({"seeds": ("1",)}, "whole numbers"),
        ({"points": 5}, "give 1 to the number of steps"),
        ({"settings": ("train.stepz=3",)}, "train.steps"),
        ({"max_maps": 3}, "max_maps is 3; give at least 4"),
    ],
)
def test_bad_studies(data, tmp_path, changes, says):
    with pytest.raises(InputError, match=says):
        run_study(study(data, **changes), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_command_line(tmp_path, monkeypatch, capsys, data):
    seen = {}

    def stand_in(asked, out):
        seen.update(study=asked, out=out)
        return THREE

    monkeypatch.setattr(ablation, "run_study", stand_in)
    line = ["--preset", "tiny", "--steps", "4", "--seeds", "0,2", "--arms", "random", "--data", str(data), "--out", "x"]
    assert main([*line, "--set", "train.batch_size=2"]) == 0
    asked = seen["study"]
    assert (asked.seeds, asked.arms, asked.settings) == ((0, 2), ("random",), ("train.batch_size=2",))
    assert "95 % t interval" in capsys.readouterr().out
    assert main(["--seeds", "a", "--out", "x"]) == 2
    assert capsys.readouterr().err == "dpsims: --seeds a: write whole numbers, such as 0,1,2\n"
    command = [sys.executable, "-m", "dpsims.ablation", "--arms", "best", "--out", str(tmp_path / "x")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.returncode == 2 and result.stderr.startswith("dpsims: arms: best") and not (tmp_path / "x").exists()


def test_sample_sheets(done, tmp_path):
    assert sample_images(tmp_path, "pretrained", 3, (64, 64)) is None
    with pytest.raises(InputError, match="no sheet of images of 60 x 60"):
        sample_images(done[0], "pretrained", 3, (60, 60))


def test_foreign_results_are_refused(tmp_path):
    file = tmp_path / "results.json"
    with pytest.raises(InputError, match="python -m dpsims.ablation"):
        statistics.load_results(file)
    foreign = [THREE | {"format": 0}, THREE | {"rows": [{}]}, THREE | {"clock": "x"}, [], {}]
    foreign.append(THREE | {"rows": [THREE["rows"][0] | {"frechet": "low"}]})
    for content in foreign:
        file.write_text(json.dumps(content))
        with pytest.raises(InputError, match="no results of"):
            statistics.load_results(tmp_path)
    file.write_text(json.dumps(THREE))
    assert statistics.load_results(tmp_path) == THREE


def test_student_t():
    assert statistics.student_t(1) == pytest.approx(math.tan(math.pi * 0.475), rel=1e-4)  # the two closed forms
    assert statistics.student_t(2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-4)
    assert statistics.student_t(1_000_000) == pytest.approx(1.95996, rel=1e-3)  # the normal distribution's
    for wrong in ((0, 0.95), (2, 1.0)):
        with pytest.raises(InputError):
            statistics.student_t(*wrong)


def test_spread():
    s = statistics.spread([1, 2, 3, float("nan")])
    half = statistics.student_t(2) / math.sqrt(3)
    assert (s.count, s.mean, s.deviation) == (3, 2, 1) and (s.low, s.high) == pytest.approx((2 - half, 2 + half))
    pair, none = statistics.spread([1, 3]), statistics.spread([])
    assert pair.deviation == pytest.approx(math.sqrt(2)) and math.isnan(pair.low)
    assert none.count == 0 and math.isnan(none.mean)


def test_values_at_equal_steps_and_equal_time():
    assert statistics.common_end(THREE, "step") == 10
    assert statistics.common_end(THREE, "cpu_seconds") == 10  # the pre-trained arm ends there, the other needs 20
    assert statistics.values_at(THREE, "scratch", "step", 10, "frechet") == {0: 20, 1: 21, 2: 25}
    assert statistics.values_at(THREE, "pretrained", "cpu_seconds", 7.5, "frechet")[0] == 15, "between 20 and 10"
    assert all(math.isnan(v) for v in statistics.values_at(THREE, "scratch", "cpu_seconds", 3, "frechet").values())
    run = {"arm": "scratch", "seed": 0, "reason": "dead"}
    lost = THREE | {"died": [run], "rows": [r for r in THREE["rows"] if (r["arm"], r["seed"], r["step"])
                                            != ("scratch", 0, 10)]}  # fmt: skip
    assert statistics.common_end(lost, "step") == 10 and statistics.common_end(THREE | {"died": []}, "step") == 10
    assert math.isnan(statistics.values_at(lost, "scratch", "step", 10, "frechet")[0])
    assert statistics.comparison(lost, "scratch", "frechet", "step")["seeds"] == 2


def test_comparison_goes_by_pairs_and_by_the_better_direction():
    c = statistics.comparison(THREE, "scratch", "frechet", "step")
    assert (c["better"], c["seeds"], c["where"]) == (3, 3, 10)
    assert c["difference"].mean == pytest.approx(-10) and c["difference"].deviation == pytest.approx(1)
    assert statistics.comparison(THREE, "pretrained", "frechet", "step", first="scratch")["better"] == 0
    assert statistics.comparison(THREE, "scratch", "miou", "step")["better"] == 3, "higher is better"
    for other, measure in (("random", "frechet"), ("scratch", "diversity_l1"), ("scratch", "x")):
        with pytest.raises(InputError):
            statistics.comparison(THREE, other, measure, "step")


def test_findings_say_no_more_than_the_figures():
    first = statistics.findings(THREE)[0]
    assert "After 10 steps" in first and "lower Fréchet distance" in first and "on 3 of 3 seeds" in first
    assert "-12 to -7.5: the interval excludes zero" in first
    opened = made({"pretrained": [10, 30, 14], "scratch": [20, 21, 25]})
    assert "on 2 of 3 seeds" in (said := statistics.findings(opened)[0]) and "leave the sign open" in said
    one = made({"pretrained": [10], "scratch": [20]}, seeds=(0,))
    assert statistics.findings(one)[0].endswith("With 1 seed no interval is given.")
    alone = made({"scratch": [20]}, arms=("scratch",), seeds=(0,))
    assert statistics.findings(alone) == ["The study has no arm 'pretrained': the claim was not tried."]


def test_the_verdict_counts_what_is_beyond_doubt():
    assert "in 4 in its favour and in 0 against it: these trainings speak for the claim." in statistics.verdict(THREE)
    turned = made({"pretrained": [20, 21, 25], "scratch": [10, 12, 14]})
    assert "in 0 in its favour and in 3 against it: these trainings speak against" in statistics.verdict(turned)
    opened = made({"pretrained": [10, 30, 14], "scratch": [20, 21, 25]})
    assert "in 0 in its favour and in 0 against it: these trainings do not show" in statistics.verdict(opened)


def test_table_rows():
    assert statistics.table_rows(THREE, "step") == {
        "pre-trained, frozen": ["12 ± 2.0", "0.085 ± 0.014", "0.25 ± 0.0", "3"],
        "from scratch, trained": ["22 ± 2.6", "0.046 ± 0.0052", "0.25 ± 0.0", "3"],
    }
    assert statistics.table_rows(made({"pretrained": [9]}, ("pretrained",), (0,)), "step") == {
        "pre-trained, frozen": ["9.0", "0.11", "0.25", "1"]
    }


def test_stages_are_those_of_the_conditioning():
    torch.manual_seed(0)
    discriminator = Discriminator(channels=(8,) * 6, conditioning={"noise": "off"})
    images = torch.rand(16, 3, 64, 64) * 2 - 1
    found = features.stages(discriminator, images)
    assert tuple(found) == features.STAGES and [x.shape[1] for x in found["raw"]] == [32, 64, 128, 256]
    for x, y in zip(found["decorrelated"], discriminator.conditioning(found["raw"]), strict=True):
        assert torch.equal(x, y)
    assert features.effective_channels(found["decorrelated"][0]) > 2 * features.effective_channels(found["raw"][0])


def test_channel_statistics_by_hand():
    torch.manual_seed(0)
    noise = torch.randn(64, 3, 8, 8, dtype=torch.float64)
    x = torch.stack([3 * noise[:, 0], noise[:, 1], -2 * noise[:, 1], torch.ones_like(noise[:, 2])], dim=1)
    values = features.channel_eigenvalues(x)
    assert values.sum() == pytest.approx(1) and (values.diff() <= 0).all()
    assert values.tolist() == pytest.approx([9 / 14, 5 / 14, 0, 0], abs=0.03)
    assert features.effective_channels(x) == pytest.approx(14**2 / (9**2 + 5**2), rel=0.05)
    correlation = features.channel_correlation(x)
    assert float(correlation[1, 2]) == pytest.approx(-1) and abs(float(correlation[0, 1])) < 0.1
    assert correlation[3].tolist() == [0, 0, 0, 1] and correlation.diagonal().tolist() == [1] * 4
    assert math.isnan(features.effective_channels(torch.ones(2, 4, 2, 2)))
    assert not features.channel_eigenvalues(torch.ones(2, 4, 2, 2)).any()
    with pytest.raises(InputError, match="two pixels"):
        features.channel_covariance(torch.ones(1, 4, 1, 1))


def test_principal_colours_show_the_strongest_direction_in_red():
    torch.manual_seed(0)
    x = torch.randn(4, 5, 8, 8) * torch.tensor([0.1, 5, 1, 2, 0.1]).view(1, -1, 1, 1)
    colours = features.principal_colours(x)
    assert colours.shape == (4, 8, 8, 3) and colours.dtype == np.uint8
    for colour, channel in enumerate((1, 3, 2)):
        assert np.corrcoef(colours[..., colour].ravel(), x[:, channel].numpy().ravel())[0, 1] > 0.95
    with pytest.raises(InputError, match="three channels"):
        features.principal_colours(torch.ones(1, 2, 4, 4))


def test_figures_show_every_run():
    try:
        figure = plotting_ablation.study_curves(THREE)
        lines = figure.axes[0].get_lines()
        assert len(lines) == 2 * (3 + 1), "three seeds and a mean, for two arms"
        assert lines[3].get_xydata().tolist() == [[5, 24], [10, 12]], "the mean over the seeds"
        assert len(figure.axes) == 4 and len(figure.axes[1].get_lines()) == 2 * 3
        values = {"frechet": {arm: statistics.values_at(THREE, arm, "step", 10, "frechet") for arm in THREE["arms"]}}
        figure = plotting_ablation.seed_pairs(THREE, values)
        assert figure.axes[0].get_lines()[1].get_ydata().tolist() == [12, 21]
        assert figure.axes[0].get_ylim()[1] > 25, "no dot is cut off"
        figure = plotting_ablation.seed_pairs(THREE, values, {"frechet": 50.0})
        assert figure.axes[0].get_lines()[0].get_ydata() == [50.0, 50.0] and figure.axes[0].get_ylim()[1] > 50
        figure = plotting_ablation.study_curves(THREE, targets={"miou": 0.9})
        assert [len(panel.get_lines()) for panel in figure.axes] == [8, 6, 9, 7], "in both panels of the measure"
        spectrum = {name: {"raw": [np.array([0.75, 0.25])] * 2} for name in ("a", "b")}
        figure = plotting_ablation.eigenvalue_spectra(spectrum, [4, 8])
        assert figure.axes[0].get_lines()[1].get_ydata().tolist() == [1.5, 0.5] and len(figure.axes) == 4
        assert figure.axes[1].get_title(loc="left") == "Stride 8, 2 channels" and figure.axes[0].get_ylim()[1] > 1.5
        figure = plotting_ablation.correlation_grid({"a": {"raw": np.array([[1, -0.5], [-0.5, 1]])}})
        assert figure.axes[0].images[0].get_array().min() == 0.5
    finally:
        plt.close("all")
