"""The benchmark measures, and README.md holds what the files say."""

import json
import shutil

import pytest

from dpsims import readme
from dpsims.bench import bench
from dpsims.errors import InputError
from dpsims.paths import CHECKPOINTS


def test_bench_measures_what_it_says(tmp_path):
    result = bench(tmp_path / "bench.json", repeats=1, progress=False)
    assert json.loads((tmp_path / "bench.json").read_text()) == result
    figures = result["figures"]
    assert figures["training_step_ms"]["median"] > figures["image_64_ms"]["median"] > 0
    assert figures["draw_16_scenes_128_ms"]["median"] > figures["draw_16_scenes_64_ms"]["median"]
    assert 100 < figures["peak_memory_mib"] < 4096, "the issue's limit"
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        bench(tmp_path / "file" / "bench.json", repeats=1, progress=False)


def test_readme_is_up_to_date():
    assert readme.main(["--check"]) == 0, "run: python -m dpsims.readme"


def test_readme_results_come_from_the_files(tmp_path, monkeypatch):
    file = tmp_path / "README.md"
    file.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    assert readme.main(["--check"], file) == 1
    assert readme.main([], file) == 0 and readme.main(["--check"], file) == 0
    text = file.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    monkeypatch.setattr(readme, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(readme, "DATA", tmp_path)
    assert readme.results() == ""


def test_readme_without_marks_is_left_alone(tmp_path, capsys):
    for text in ("no marks\n", f"a\n{readme.BEGIN}\nb\n", f"{readme.END}\n{readme.BEGIN}\nb\n"):
        file = tmp_path / "README.md"
        file.write_text(text)
        assert readme.main([], file) == 2 and file.read_text() == text
        assert capsys.readouterr().err.count("\n") == 1
    for arguments in (["--chek"], ["now"]):
        with pytest.raises(SystemExit):
            readme.main(arguments, file)


@pytest.mark.parametrize("content", ["", "{}", "[]"])
def test_a_damaged_evaluation_is_named(tmp_path, monkeypatch, content):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "evaluation.json").write_text(content)
    (tmp_path / "one" / "provenance.json").write_text("{}")
    monkeypatch.setattr(readme, "CHECKPOINTS", tmp_path)
    with pytest.raises(InputError, match="evaluation.json: not usable"):
        readme.results()


def test_an_evaluation_without_references_is_enough(tmp_path, monkeypatch):
    shutil.copytree(CHECKPOINTS / "scenes-64", tmp_path / "one")
    file = tmp_path / "one" / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"references": None}))
    monkeypatch.setattr(readme, "CHECKPOINTS", tmp_path)
    assert "**one**" in readme.results() and "redrawn |" not in readme.results()
