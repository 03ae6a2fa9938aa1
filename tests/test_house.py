"""The house keeps its rules: commands answer, importing is cheap, files are short, nothing names one machine."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dpsims.cli import app
from dpsims.errors import InputError
from dpsims.paths import ROOT

COMMANDS = (
    "prepare", "pretrain", "train-evaluators", "train", "generate", "evaluate", "export", "bench", "reproduce",
    "app",
)  # fmt: skip
SOURCES = sorted((ROOT / "dpsims").rglob("*.py"))
# put together here, so that this file does not trip over itself
MACHINE_PATHS = re.compile("/(" + "|".join(("work", "farm", "root", r"home/\w+", "tmp/ipykernel_[0-9]+")) + ")/")


def dpsims(*arguments, **kwargs):
    command = [sys.executable, "-m", "dpsims", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, **kwargs)


def tracked():
    """Files under version control, or to be: a fresh clone has nothing else."""
    listed = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], capture_output=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git clone")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0 and ("--out" in result.stdout or command == "app")  # which leaves nothing behind
    options = re.findall(r"^  (--[a-z-]+).*?(?=^  --|\Z)", result.stdout, re.MULTILINE | re.DOTALL)
    blocks = re.split(r"^  (?=--)", result.stdout, flags=re.MULTILINE)[1:]
    assert len(options) == len(blocks) > 1
    for block in blocks:  # every option says something, not just its name and type
        assert len(re.sub(r"^\S+( <[^>]+>| [A-Z=]+)?", "", block).split()) >= 3, block


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("generate --checkpoint a --labels b --out c --n 0", "'--n'.*; see .*generate --help"),
        ("generate --checkpoint a --out c", "'--labels'"),
        ("trane", "No such command 'trane'. Did you mean 'train'"),
        ("train --preset", "'--preset' requires an argument"),
        ("prepare faces --out c", "'faces' is not one of"),
        ("bench --out", "requires an argument"),
        ("train --stepz 3", "--stepz"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(line, message):
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("dpsims: ") and re.search(message, result.stderr), result.stderr


def test_the_commands_are_these():
    result = CliRunner().invoke(app, ["--help"])
    assert tuple(re.findall(r"^  ([a-z][a-z-]+)  ", result.stdout, re.MULTILINE)) == COMMANDS


def test_console_script_and_module_are_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"dpsims": "dpsims.cli:app"}
    script = Path(sys.executable).with_name("dpsims")
    if not script.exists():
        pytest.skip("the package is not installed beside this interpreter")
    said = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert said.stdout == dpsims("--version").stdout and said.stdout.startswith("dpsims ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["prepare", "ade20k", "--out", "x"], "ade20k"),
        (["prepare", "scenes", "--out", "x", "--check-only"], "--check-only"),
        (["train", "--preset", "scene64", "--out", "x"], "scenes64"),
        (["train", "--preset", "tiny", "--set", "train.stepz=3", "--out", "x"], "train.steps"),
        (["train", "--preset", "tiny", "--set", "train.steps=many", "--out", "x"], "train.steps"),
        (["reproduce", "--preset", "nope"], "nope"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, says, tmp_path):
    arguments = [str(tmp_path / "x") if argument == "x" else argument for argument in arguments]
    result = dpsims(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("dpsims: ") and result.stderr.count("\n") == 1 and says in result.stderr
    assert not list(tmp_path.iterdir())


def test_interrupt_unwritable_and_bugs(monkeypatch, tmp_path):
    """Ctrl-C ends in 130, a folder that cannot be written in 2 with its name, a bug in its traceback."""
    import dpsims.reproduce

    raised = {}

    def stand_in(*_):
        raise raised["error"]

    monkeypatch.setattr(dpsims.reproduce, "reproduce", stand_in)
    for error, code in ((KeyboardInterrupt(), 130), (InputError("a: b"), 2)):
        raised["error"] = error
        result = CliRunner().invoke(app, ["reproduce"])
        assert (result.exit_code, result.stderr.count("dpsims: ")) == (code, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as caught:
        (tmp_path / "file" / "folder").mkdir()
    raised["error"] = caught.value
    result = CliRunner().invoke(app, ["reproduce"])
    assert result.exit_code == 2 and str(tmp_path / "file") in result.stderr
    raised["error"] = RuntimeError("a bug")
    assert isinstance(CliRunner().invoke(app, ["reproduce"]).exception, RuntimeError)


@pytest.mark.parametrize("module", ["dpsims", "dpsims.cli", "dpsims.config", "dpsims.labels", "dpsims.data"])
def test_importing_is_cheap(module):
    heavy = ("torch", "timm", "matplotlib", "papermill", "scipy", "accelerate", "transformers")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_load_generator_is_at_the_front_door():
    import dpsims
    from dpsims.synthesis import load_generator

    assert dpsims.load_generator is load_generator
    with pytest.raises(AttributeError, match="no attribute 'generator'"):
        _ = dpsims.generator


def test_ruff_finds_nothing():
    result = subprocess.run([sys.executable, "-m", "ruff", "check", "--output-format=concise", "."],
                            capture_output=True, text=True, cwd=ROOT)  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= 350, "one idea a file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = node.body[0] if ast.get_docstring(node) else None
            lines = node.end_lineno - node.lineno + 1
            lines -= documented.end_lineno - documented.lineno + 1 if documented else 0
            assert lines <= 60, f"{node.name} has {lines} lines"


def test_no_file_names_one_machine():
    for path in tracked():
        if path.stat().st_size < 2_000_000 and b"\0" not in (content := path.read_bytes()):
            found = MACHINE_PATHS.search(content.decode(errors="replace"))
            assert not found, f"{path.relative_to(ROOT)}: {found[0]}"


def test_clone_is_small():
    sizes = {path.relative_to(ROOT).as_posix(): os.path.getsize(path) for path in tracked()}
    assert sum(sizes.values()) < 40e6, sorted(sizes.items(), key=lambda item: -item[1])[:5]
    assert max(sizes.values()) <= 8e6, max(sizes, key=sizes.get)


def test_constraints_pin_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {re.split("==", line)[0] for line in lines if "==" in line}
    assert {re.split(r"[<>=~]", name)[0] for name in wanted} <= pinned
    assert not [line for line in lines if "://" in line or line.startswith("-")], "no addresses, no options"


def test_environment_pins_for_tests():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and os.environ["OMP_NUM_THREADS"] == "2"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
