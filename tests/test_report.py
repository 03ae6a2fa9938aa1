"""Tables of results: new figures where they are present, results of format 1 as they were."""

import json

import pytest
from trees import dpsims

from dpsims import readme
from dpsims.evaluation import protocol, report
from dpsims.paths import CHECKPOINTS

OLD = {"frechet": 138.24, "miou": 0.4794, "diversity_l1": 0.196, "moods_per_six": 3.24, "mood_shares": {"day": 1.0}}
NEW = {**OLD, "frechet_interval": [130.0, 145.04], "frechet_texture": 99.0, "frechet_rebalanced": None,
       "diversity_ratio": 0.975}  # fmt: skip
PROTOCOL = {"maps": 500, "height": 64, "width": 64, "intervals": {"level": 0.9}}
RESULT = {
    "protocol": PROTOCOL,
    "generator": NEW,
    "references": {"one_mood": {**NEW, "frechet_rebalanced": 12.3, "moods_per_six": None}},
    "evaluator": {"miou": 0.886, "mood_accuracy": 1.0, "images": 500},
    "texture_shares": "the kind of pre-training",
}
FACTS = {"step": 5000, "seed": 0, "seconds": 60, "hardware": "a CPU"}


def test_a_column_for_every_figure_that_any_row_has():
    assert report.cells({"generated": OLD}) == [
        ["images", "distance", "mIoU", "diversity L1", "moods in six draws"],
        ["generated", "138.2", "0.479", "0.196", "3.24"],
    ]
    head, ours, other = report.cells({"generated": NEW, **RESULT["references"]})
    assert head[2:4] == ["texture distance", "re-balanced distance"]
    assert ours[:4] == ["generated", "138.2 [130.0, 145.0]", "99.0", "–"]
    assert other[0] == "one_mood" and other[3] == "12.3" and other[-1] == "–"


def test_rows_are_named_in_words_nearest_first_without_the_diversity_of_one_image_a_map():
    references = {
        "class_mean": {**OLD, "frechet": 200.0, "diversity_l1": 0.0, "moods_per_six": 1.0},
        "redrawn": {**OLD, "frechet": 5.0},
        "of_another_time": {**OLD, "frechet": 3.0},
    }
    first, second, third = report.beside("mine", OLD, references).splitlines()[2:]
    assert first.startswith("| perfect sampler") and "`redrawn`" in first and first.endswith("| 0.196 | 3.24 |")
    assert second.startswith("| **mine** | 138.2")
    assert "(`class_mean`) | 200.0 | 0.479 | – | – |" in third
    same = {**OLD, "diversity_l1": 0.0, "moods_per_six": 1.0}
    assert "| 0.000 | 1.00 |" in report.beside("mine", same, references), "a generator's is no construction"


def test_an_order_that_the_intervals_leave_open_is_told():
    bounds = {"b": (20.0, [14.0, 29.0]), "a": (10.0, [5.0, 15.0]), "c": (40.0, [30.0, 50.0]), "d": (9.0, None)}
    rows = {name: {"frechet": value, "frechet_interval": interval} for name, (value, interval) in bounds.items()}
    assert report.unsettled(rows).endswith(": a and b.")
    del rows["b"]
    assert "no two neighbours" in report.unsettled(rows)


ROWS = {
    "real": {"miou": 0.9},
    "redrawn": {"frechet": 6.0, "frechet_texture": 4.0, "diversity_l1": 0.2},
    "class_mood_mean": {"frechet": 100.0, "frechet_texture": 500.0},
    "class_mean": {"miou": 0.7},
}
GOOD = {"frechet": 50.0, "frechet_texture": 90.0, "frechet_interval": [40.0, 60.0], "miou": 0.81, "diversity_l1": 0.22,
        "moods_per_six": 3.96, "mood_shares": {"day": 0.5, "night": 0.5}}  # fmt: skip


def test_the_verdict_follows_the_figures():
    realism, fidelity, diversity = report.verdict(GOOD, ROWS)
    assert "50.0, 8.3 times that of a perfect sampler (6.0)" in realism and "90.0, 22.5 times (4.0)" in realism
    assert "by both distances (100.0, beyond the interval of its distance, and 500.0)" in realism
    assert "90% of what" in fidelity and "(mIoU 0.810 of 0.900), more than in flat colours (0.700)" in fidelity
    assert "1.10 times" in diversity and "3.96 moods in six draws (fair: 3.99); no mood is lost" in diversity


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frechet": 120.0}, "by the texture distance alone"),
        ({"frechet_texture": 600.0}, "but not by the texture distance"),
        ({"frechet": 120.0, "frechet_texture": 600.0}, "no closer to real images"),
        ({"frechet_interval": [20.0, 130.0]}, "not certain with these maps"),
        ({"frechet_interval": None}, "by both distances"),
        ({"miou": 0.5}, "no more than in flat colours"),
        ({"miou": 0.7}, "as much as in flat colours"),
        ({"mood_shares": {"day": 0.96, "night": 0.04}}, "hardly ever drawn: night"),
        ({"diversity_l1": 0.0}, "every draw of a map is the same image"),
    ],
)
def test_the_verdict_of_worse_generators(change, said):
    assert said in " ".join(report.verdict(GOOD | change, ROWS))


def test_both_layouts_of_a_table():
    lines = [["images", "mIoU"], ["a", "0.5"]]
    assert report.plain(lines) == "images  mIoU\na        0.5"
    assert report.markdown(lines) == "| images | mIoU |\n|---|---|\n| a | 0.5 |"


def test_readme_shows_new_figures_and_how_to_read_them():
    text = readme.evaluation_table("mine", RESULT, FACTS)
    assert "| **mine** | 138.2 [130.0, 145.0] | 99.0 |" in text
    for said in ("interval of 90% over label maps", "share", "these 500 maps", "has 0.886", "100.0% of the moods"):
        assert said in text


def test_readme_still_reads_results_of_format_1():
    old = {"format": 1, "protocol": PROTOCOL, "generator": OLD, "references": {"real": OLD}}
    text = readme.evaluation_table("mine", old, FACTS)
    assert "| real images (`real`) | 138.2 | 0.479 |" in text and "texture" not in text and "In brackets" not in text


@pytest.mark.parametrize("file", sorted(CHECKPOINTS.glob("*/evaluation.json")), ids=lambda file: file.parent.name)
def test_what_is_shipped_can_be_shown(file):
    provenance = json.loads((file.parent / "provenance.json").read_text())
    text = readme.evaluation_table(file.parent.name, json.loads(file.read_text()), provenance)
    assert f"| **{file.parent.name}** |" in text


def test_the_command_prints_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(protocol, "evaluate_checkpoint", lambda *given, **options: RESULT)
    said = dpsims("evaluate", "--checkpoint", "a", "--data", "b", "--out", tmp_path / "c.json")
    head, ours, *_ = said.splitlines()
    assert head.split("  ")[0] == "images" and "re-balanced distance" in head and "138.2 [130.0, 145.0]" in ours
    assert "90% over label maps" in said
