"""The driver, on throw-away notebooks: order, parameters, types, skipping, failure, summary."""

import io
import json

import nbformat
import pytest

from dpsims.errors import InputError
from dpsims.notebook_runner import Progress, bar_text
from dpsims.paths import ROOT
from dpsims.reproduce import PATHS, _finished, _known_parameters, plan, reproduce, write_summary

FIRST = 'out: str = ""  # folder\nsteps: int = 1  # steps\nrate: float = 0.5\nquick: bool = True\nsizes: list = [1]'
SECOND = 'out: str = ""\nrun: str = ""  # folder of the first\nsteps: int = 1'
WRITE = "import json, pathlib\npathlib.Path(out, 'metrics.json').write_text(json.dumps({metrics}))"


def notebook(folder, name, parameters, body):
    cell = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [nbformat.v4.new_markdown_cell("# Title\ntext"), cell, *(nbformat.v4.new_code_cell(b) for b in body)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")


@pytest.fixture
def books(tmp_path):
    folder = tmp_path / "notebooks"
    (folder / "presets").mkdir(parents=True)
    first = WRITE.format(metrics="{'steps': steps, 'rate': rate, 'sizes': sizes, 'deep': {'x': [0.12344, 2]}}")
    count = "with open(pathlib.Path(out, 'runs.txt'), 'a') as file: file.write('x')"
    notebook(folder, "01_first", FIRST, [first, count])
    read = "json.loads(pathlib.Path(run, 'metrics.json').read_text())['steps']"
    second = WRITE.format(metrics=f"{{'read': {read} + steps}}")
    notebook(folder, "02_second", SECOND, [second])
    preset = 'shared:\n  steps: 2\n01_first:\n  rate: 1e-3\n  sizes: [3, 4]\n02_second:\n  run: "{out}/01_first"\n'
    (folder / "presets/demo.yml").write_text(preset)
    return folder


def parameters(books, *settings):
    return {task.name: task.parameters for task in plan("demo", settings, books)}


def test_plan_orders_and_merges_parameters(books):
    first, second = plan("demo", ["02.steps=7"], books)
    assert first.parameters == {"steps": 2, "rate": 0.001, "sizes": [3, 4], "out": "{out}/01_first"}
    assert second.parameters == {"steps": 7, "run": "{out}/01_first", "out": "{out}/02_second"}
    assert (first.needs, second.needs) == ((), ("01_first",))


def test_a_notebooks_own_value_beats_the_shared_one_wherever_it_stands(books):
    (books / "presets/demo.yml").write_text("02_second: {steps: 9}\nshared: {steps: 2}\n")
    found = parameters(books)
    assert (found["01_first"]["steps"], found["02_second"]["steps"]) == (2, 9)


def test_override_types(books):
    found = parameters(books, "steps=5", "quick=false", "rate=2", "sizes=[1, 2]")
    assert found["01_first"] | {"out": ""} == {"steps": 5, "rate": 2.0, "quick": False, "sizes": [1, 2], "out": ""}
    assert isinstance(found["01_first"]["rate"], float) and found["02_second"]["steps"] == 5


def test_paths_are_seen_from_where_the_command_is_given(books, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, seen in {"a/b": str(tmp_path / "a/b"), "/c": "/c", "{out}/01_first": "{out}/01_first", "": ""}.items():
        assert parameters(books, f"run={given}")["02_second"]["run"] == seen
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parameters(books, "run=~/d")["02_second"]["run"] == str(tmp_path / "d")


def test_every_parameter_for_text_of_the_notebooks_is_a_path_or_known_to_be_none():
    texts = {
        name
        for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")
        for name, kind in _known_parameters(path).items()
        if kind == "str"
    }
    assert texts - {"out", "dataset", "training_preset"} == PATHS


def test_what_a_notebook_makes_itself_does_not_make_it_run_again_but_what_it_reads_does(tmp_path):
    def fingerprints(*settings):
        return {task.name[:2]: task.fingerprint for task in plan("own_data", settings)}

    made, read = tmp_path / "made", tmp_path / "tree/dataset.yml"
    read.parent.mkdir()
    read.write_text("names: {1: sky}")
    given = (f"prepared={made}", f"study={made}", f"03.run={made}", f"root={read}")
    before = fingerprints(*given)
    made.mkdir()
    for name in ("index.json", "results.json", "config.json"):
        (made / name).write_text("{}")
    assert fingerprints(*given) == before
    (read.parent / "new.png").write_bytes(b"1")
    changed = fingerprints(*given)
    assert changed["01"] != before["01"] and changed["03"] != before["03"], "03 builds on 01"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("stepz=3", "quick, rate, run, sizes, steps"),
        ("02.rate=3", "run, steps"),
        ("09.steps=3", "01_first, 02_second"),
        ("steps", "parameter=value"),
        ("steps=2.5", "int"),
        ("quick=1", "bool"),
        ("sizes=3", "list"),
        ("out=x", "--out"),
        (".steps=1", "'' names 0 notebooks"),
        ("0.steps=1", "'0' names 2 notebooks"),
        ("steps=-1", "-1 is negative"),
    ],
)
def test_bad_override_is_one_line_and_runs_nothing(books, tmp_path, setting, says):
    with pytest.raises(InputError, match=says) as caught:
        reproduce("demo", tmp_path / "out", [setting], notebooks=books)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("shared: {stepz: 3}", "unknown parameter 'stepz'"),
        ("01_first: {run: a}", "unknown parameter 'run'"),
        ("03_third: {steps: 3}", "unknown section '03_third'"),
        ("shared: {steps: many}", "not of type int"),
        ("shared: {steps: true}", "not of type int"),
        ("01_first: {sizes: 3}", "not of type list"),
        ("shared: [", "not readable as YAML"),
        ("shared: 3", "sections"),
    ],
)
def test_bad_preset(books, text, says):
    (books / "presets/demo.yml").write_text(text)
    with pytest.raises(InputError, match=says):
        plan("demo", (), books)


def test_unknown_preset_and_notebook(books, tmp_path):
    with pytest.raises(InputError, match="known: demo"):
        reproduce("dem", tmp_path / "out", notebooks=books)
    with pytest.raises(InputError, match="names 0 notebooks"):
        reproduce("demo", tmp_path / "out", only="05", notebooks=books)
    with pytest.raises(InputError, match="cannot be written"):
        (tmp_path / "file").write_text("")
        reproduce("demo", tmp_path / "file/out", notebooks=books)


def test_a_notebook_without_out_is_refused(books):
    notebook(books, "03_third", "steps: int = 1", [])
    with pytest.raises(InputError, match="03_third.ipynb.*out: str"):
        plan("demo", (), books)


def test_run_skip_and_run_again(books, tmp_path, capsys):
    out = tmp_path / "an {odd} folder"  # papermill would take the braces for a parameter
    with pytest.raises(InputError, match="02_second needs what 01_first makes"):
        reproduce("demo", out, only="02", notebooks=books)
    summary = json.loads(reproduce("demo", out, notebooks=books).read_text())
    assert [entry["name"] for entry in summary["notebooks"]] == ["01_first", "02_second"]
    first, second = (entry["metrics"] for entry in summary["notebooks"])
    assert first == {"steps": 2, "rate": 0.001, "sizes": [3, 4], "deep": {"x": [0.12344, 2]}}
    assert second == {"read": 4} and all(entry["seconds"] > 0 for entry in summary["notebooks"])
    assert "| deep.x | 0.1234, 2 |" in (out / "summary.md").read_text()
    assert "metadata" in json.loads((out / "02_second.ipynb").read_text())
    assert "[2/2] 02_second" in capsys.readouterr().out

    reproduce("demo", out, notebooks=books)
    assert capsys.readouterr().out.count("skipped") == 2
    assert (out / "01_first/runs.txt").read_text() == "x"

    reproduce("demo", out, ["02.steps=9"], notebooks=books)  # only what changed runs again
    assert capsys.readouterr().out.count("skipped") == 1
    assert json.loads((out / "02_second/metrics.json").read_text()) == {"read": 11}
    assert json.loads((out / "02_second.previous/metrics.json").read_text()) == {"read": 4}

    before, after = plan("demo", (), books), plan("demo", ["01.steps=5"], books)  # and what builds on it
    assert all(a.fingerprint != b.fingerprint for a, b in zip(before, after, strict=True))


def test_failure_names_notebook_cell_and_reason(books, tmp_path):
    notebook(books, "01_first", FIRST, ["1 + 1", "raise ValueError('no\\nluck')"])
    with pytest.raises(InputError, match=r"01_first, code cell 4: ValueError: no luck \(traceback in .*01_first.ipynb"):
        reproduce("demo", tmp_path / "out", notebooks=books)
    assert not json.loads((tmp_path / "out/01_first/reproduce.json").read_text())["finished"]
    notebook(books, "01_first", FIRST, ["1 + 1"])
    with pytest.raises(InputError, match="wrote no metrics.json"):
        reproduce("demo", tmp_path / "out", notebooks=books)


def test_a_preset_that_is_no_text(books):
    (books / "presets/demo.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="demo.yml: not readable as YAML") as caught:
        plan("demo", (), books)
    assert "\n" not in str(caught.value)


def test_places_are_looked_at_before_any_notebook_runs(books, tmp_path):
    with pytest.raises(InputError, match="02_second needs what 01_first makes"):
        reproduce("demo", tmp_path / "out", only="02", notebooks=books)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out/summary.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"summary.json: is a folder"):
        reproduce("demo", tmp_path / "out", notebooks=books)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["summary.json"]


def test_damaged_results_are_made_again(books, tmp_path):
    task, *_ = plan("demo", (), books)
    folder = tmp_path / task.name
    folder.mkdir()
    marker = {"finished": True, "fingerprint": task.fingerprint, "seconds": 1.0}
    (folder / "metrics.json").write_text("{}")
    for text, finished in ((json.dumps(marker), True), ("[1]", False), ("3", False),
                           (json.dumps(marker | {"seconds": "x"}), False)):  # fmt: skip
        (folder / "reproduce.json").write_text(text)
        assert _finished(task, tmp_path) is finished, text
    (folder / "reproduce.json").write_text(json.dumps(marker))
    for metrics in ("{", None):
        (folder / "metrics.json").write_text(metrics) if metrics else (folder / "metrics.json").unlink()
        assert not _finished(task, tmp_path)
        assert json.loads(write_summary("demo", [task], tmp_path).read_text())["notebooks"] == []


def test_a_foreign_folder_is_left_alone(books, tmp_path):
    (tmp_path / "out/01_first").mkdir(parents=True)
    (tmp_path / "out/01_first/thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="did not make"):
        reproduce("demo", tmp_path / "out", notebooks=books)
    assert (tmp_path / "out/01_first/thesis.txt").read_text() == "mine"


def test_progress_line_shows_bars_on_a_terminal_and_is_sparse_in_a_log():
    message = {"content": {"data": {"state": {"value": " 120/600 [00:25&lt;01:40, 4.8it/s]"}}}}
    assert bar_text(message) == "120/600 [00:25<01:40, 4.8it/s]"
    assert bar_text({"content": {"data": {"state": {"value": 3}}}}) == ""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    written = {}
    for stream in (Terminal(), io.StringIO()):
        progress = Progress("[1/2] 01_first", stream)
        progress.cell(2, 5, "Train")
        for _ in range(10):
            progress.bar(bar_text(message))
        progress.done("done")
        written[type(stream)] = stream.getvalue()
    assert "cell 2/5 (Train)  120/600 [00:25<01:40" in written[Terminal]
    assert written[io.StringIO].count("\n") == 2


@pytest.mark.slow  # the demo's models are larger than those of the notebooks' own defaults, and other levels are seen
def test_the_demo_preset_runs_shortened(tmp_path):
    short = ["num_images=64", "held_out=16", "02.steps=2", "02.points=1", "02.seeds=[0]", "03.steps=2"]
    short += ["02.max_maps=8", "02.diversity_maps=2", "04.max_maps=16", "04.diversity_maps=2"]
    reproduce("demo", tmp_path / "demo", short)
    summary = json.loads((tmp_path / "demo/summary.json").read_text())
    assert len(summary["notebooks"]) == 5
