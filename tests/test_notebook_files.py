"""The committed notebooks: executed in order (else nbval checks nothing), parameterised, clean of one machine's traces.

nbval itself compares their outputs; this is about what it cannot see.
"""

import ast
import re

import nbformat
import pytest
import yaml
from papermill import inspect_notebook

from dpsims.paths import ROOT
from dpsims.reproduce import COLLECTIONS, SCALARS, plan

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PRESETS = sorted((ROOT / "notebooks/presets").glob("*.yml"))
PAPER_ORDER = (
    "01_data_preparation", "02_backbone_ablations", "03_training", "04_evaluation", "05_label_map_explorer",
)  # fmt: skip
FORBIDDEN = {  # what nbval cannot compare, or readers cannot use (notebook, reason)
    r";\s*$": "a trailing semicolon hides nothing under nbval; end with plt.show()",
    r"\bclear_output\b": "nbval does not see it",
    r"\bwidgets\.Output\b|\bOutput\(": "its text goes elsewhere under nbval; set the value of a Label, HTML or Image",
    r"\binteract(ive)?\(": "uses Output",
    r"display_id|\bos\.getcwd\b|Path\.cwd": "differs between runners",
    r"set_matplotlib_formats\(.svg": "random ids in the text",
}

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind="code"):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_the_notebooks_are_there_and_numbered():
    names = [path.stem for path in NOTEBOOKS]
    assert set(PAPER_ORDER) <= set(names)
    assert all(re.fullmatch(r"\d\d(_[a-z]+)+", name) for name in names)
    assert len({name[:2] for name in names}) == len(names), "two notebooks share a number"


@each
def test_valid_executed_and_python3(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in cells(path)]
    assert counts == list(range(1, len(counts) + 1)), "make refresh: nbval ignores cells without a count"
    assert notebook.metadata.kernelspec.name == "python3"
    assert not [o for cell in cells(path) for o in cell.outputs if o.output_type == "error"]


@each
def test_nothing_volatile(path):
    notebook = nbformat.read(path, as_version=4)
    assert "widgets" not in notebook.metadata and "papermill" not in notebook.metadata
    assert not [cell for cell in notebook.cells if {"papermill", "execution"} & set(cell.metadata)]
    assert path.stat().st_size < 500_000
    outputs = [output for cell in cells(path) for output in cell.outputs]
    for output in outputs:
        output.get("data", {}).pop("image/png", None)  # base64 may spell anything
    text = "".join(map(str, outputs))
    assert not (found := re.search(r"/(home|tmp|root|work|Users)/", text)), found


@each
def test_parameters_have_plain_types_and_say_what_they_are(path):
    tagged = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, "one cell tagged `parameters`"
    found = inspect_notebook(path)
    assigned = [n.target.id for n in ast.parse(tagged[0].source).body if isinstance(n, ast.AnnAssign)]
    assert assigned == list(found), "a quoted annotation hides a parameter from papermill"
    for name, parameter in found.items():
        assert parameter["inferred_type_name"] in {*SCALARS, *COLLECTIONS}, name
        assert parameter["help"], f"{name}: say in a trailing comment what it is, with its unit"
    assert found["out"]["default"] == '""'


@each
def test_reads_well(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    for cell in cells(path):
        lines = [line for line in cell.source.splitlines() if not re.match(r"\s*(#|$)|(import|from) ", line)]
        assert len(lines) <= 16, f"cell {cell.execution_count}: {len(lines)} lines; one idea a cell"
        for pattern, reason in FORBIDDEN.items():
            assert not re.search(pattern, cell.source, re.MULTILINE), f"cell {cell.execution_count}: {reason}"
    assert len(cells(path, "markdown")) * 2 >= len(cells(path)), "prose before code"
    assert "metrics.json" in cells(path)[-1].source, "the last cell writes the figures of merit"


@pytest.mark.parametrize("name", PAPER_ORDER)
def test_ends_with_what_ran_where(name):
    last = cells(ROOT / f"notebooks/{name}.ipynb")[-1]
    assert "save_metrics(" in last.source and re.search(r"^environment\(.*seed=seed", last.source, re.MULTILINE)
    assert "nbval-ignore-output" in last.metadata.tags, "another machine prints another table"
    (shown,) = (output.data["text/markdown"] for output in last.outputs)
    for fact in ("seed", "commit", "torch", "timm", "python", "threads", "CPU"):
        assert f"| {fact} |" in shown


@each
def test_cells_have_no_unused_leftovers(path):
    assert all(cell.source.strip() for cell in nbformat.read(path, as_version=4).cells), "an empty cell"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_presets_name_parameters_that_exist(preset):
    tasks = plan(preset.stem)
    sections = yaml.safe_load(preset.read_text()) or {}
    made = {task.name for task in tasks}
    for task in tasks:
        given = set(sections.get("shared") or {}) | set(sections.get(task.name) or {})
        assert set(task.parameters) - {"out"} <= given
        for used in re.findall(r"\{out\}/(\w+)", str({k: v for k, v in task.parameters.items() if k != "out"})):
            assert used in made and used <= task.name, f"{task.name} uses {used}, which does not come before it"


def test_there_is_a_demo_preset():
    assert "demo" in {path.stem for path in PRESETS}
