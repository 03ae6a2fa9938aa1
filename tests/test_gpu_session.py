"""A session for a lent GPU, tried on the CPU: what is done is skipped, the time is kept, nothing is lost or changed."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from dpsims import gpu_bench, gpu_session, gpu_stages, parcels, pretraining
from dpsims.checkpoint import checkpoints
from dpsims.config import override
from dpsims.data.prepare import prepare_scenes
from dpsims.data.prepared import load_prepared
from dpsims.data.workers import in_order
from dpsims.errors import InputError
from dpsims.gpu_bench import IMAGE, STEP, Load
from dpsims.gpu_session import Session, main
from dpsims.gpu_stages import Plan, plan, training
from dpsims.paths import ROOT
from dpsims.presets import preset
from dpsims.synthesis import load_generator
from dpsims.training import Trainer

STEPS = 4


def tiny(data, steps=STEPS):
    """A plan of seconds."""
    fixed = ["train.checkpoint_every=2", "train.sample_every=4", "discriminator.statistics_images=8"]
    config = override(preset("tiny"), [f"data.path={data}", f"train.steps={steps}", *fixed])
    return Plan(
        64, config,
        Load((config,), (("bf16", 2), ("float32", 2)), (("bf16", 1), ("float32", 2)), matrix=64, repeats=2, warmup=1),
        backbone={"steps": 1, "batch_size": 4, "pool": 4}, evaluator_steps=1,
        evaluation={"max_maps": 4, "diversity_maps": 1, "samples_per_map": 2},
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare_scenes(tmp_path_factory.mktemp("data") / "scenes", size=64, n=8, n_val=8, progress=False)


@pytest.fixture(scope="module", autouse=True)
def on_one_core(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "VALIDATION", 8)
        patch.setattr(gpu_stages, "cores", lambda: 1)
        patch.setattr(gpu_stages, "missing", lambda name: "no papermill here" if name == "notebook" else "")
        yield


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A session in one call; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    session = Session(tiny(data), folder / "out", folder / "work", minutes=10)
    assert session.run() == 0
    return session


def results(session):
    return json.loads((session.out / "results.json").read_text())


def test_every_stage_leaves_its_result(whole):
    found = results(whole)
    done = [name for name, entry in found["stages"].items() if entry.get("done")]
    assert done == [name for name in gpu_session.STAGES if name != "notebook"], "the order, and papermill is not there"
    assert tuple(gpu_stages.STAGES) == gpu_session.STAGES
    assert all(found["stages"][name]["seconds"] > 0 and "CPU" in found["stages"][name]["hardware"] for name in done)
    assert found["calls"] == 1 and len(found["sources_sha256"]) == 64 and "commit" in found
    assert found["stages"]["train"]["step"] == found["stages"]["evaluate"]["step"] == STEPS
    figures = found["stages"]["evaluate"]["figures"]
    assert math.isfinite(figures["frechet"]) and 0 <= figures["miou"] <= 1
    export = found["stages"]["export"]
    assert export["bytes"] < gpu_stages.EXPORT_LIMIT and export["within_limit"]
    assert load_generator(whole.work / "export").size == (64, 64)
    assert str(whole.work / "backbone") in (whole.work / "run" / "config.json").read_text(), "its own backbone"


def test_the_bench_gives_finite_figures_with_units(whole):
    result = results(whole)["stages"]["bench"]["result"]
    assert result["device"].startswith("CPU") and result["matrix_tflops"] > 0
    assert [(row["work"], row["batch"], row["mode"]) for row in result["rows"]] == [
        (IMAGE, 1, "bf16"), (IMAGE, 2, "float32"), (STEP, 2, "bf16"), (STEP, 2, "float32"),
    ]  # fmt: skip
    for row in result["rows"]:
        assert 0 < row["ms"]["least"] <= row["ms"]["median"] <= row["ms"]["most"] < 1e5
        assert row["images_per_s"] == pytest.approx(1e3 * row["batch"] / row["ms"]["median"], rel=1e-2)
        assert 0 < row["gmacs_per_image"] < 100 and row["peak_memory_mib"] > 50
        assert row["tflops"] == pytest.approx(2e-3 * row["gmacs_per_image"] * row["images_per_s"], rel=0.05, abs=1e-4)
        assert ("share_of_peak" in row) == (row["mode"] == "bf16")
    of = {(row["work"], row["mode"]): row["gmacs_per_image"] for row in result["rows"]}
    assert of[IMAGE, "bf16"] == of[IMAGE, "float32"], "operations an image depend on no batch"
    assert of[STEP, "bf16"] > 5 * of[IMAGE, "bf16"], "a step draws, judges thrice, and goes back"


def test_an_interrupted_bench_is_kept_and_goes_on(whole, data, tmp_path, monkeypatch):
    load, result = whole.plan.bench, results(whole)["stages"]["bench"]["result"]
    part, kept = {**result, "rows": result["rows"][1:]}, []
    again = gpu_bench.bench(load, json.loads(json.dumps(part)), kept.append)
    assert again["rows"][:3] == part["rows"] and len(again["rows"]) == 4 and len(kept) == 1, "one row was missing"
    assert again["matrix_tflops"] == result["matrix_tflops"]

    def stopped(load, done, keep):
        keep({"rows": ["one"]})
        assert results(session)["stages"]["bench"]["result"] == {"rows": ["one"]}, "what a kill now leaves in DIR"
        raise gpu_stages.OutOfTime("interrupted")

    monkeypatch.setattr(gpu_bench, "bench", stopped)
    session = Session(tiny(data), tmp_path / "out", tmp_path / "work", minutes=10)
    assert session.run(["bench"]) == 130 and "done" not in results(session)["stages"]["bench"]


def test_done_stages_are_skipped_on_a_fresh_machine_too(whole, data, tmp_path, capsys):
    out = shutil.copytree(whole.out, tmp_path / "out")
    again = Session(tiny(data), out, tmp_path / "work", minutes=10, resume=True)
    begin = time.monotonic()
    assert again.run() == 0 and time.monotonic() - begin < 10
    said = capsys.readouterr().out
    assert said.count("done before") == 6 and "begins" not in said and "but notebook" in said
    assert results(again)["calls"] == 2
    assert (tmp_path / "work" / "evaluation.json").read_bytes() == (whole.work / "evaluation.json").read_bytes()
    assert not list((tmp_path / "work").rglob("training_state.pt")), "a finished training needs none"
    with pytest.raises(InputError, match="pass --resume"):
        Session(tiny(data), out, tmp_path / "work", minutes=10)
    with pytest.raises(InputError, match="another plan .training.train.steps 4 there, 5 here"):
        Session(tiny(data, 5), out, tmp_path / "work", minutes=10, resume=True)
    saving = replace(again.plan, training=override(again.plan.training, ["train.accumulate=2"]))
    assert Session(saving, out, tmp_path / "work", minutes=10, resume=True).plan is saving, "no result depends on it"


LONG = 10  # steps of the trainings that are stopped


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    """A training in one call."""
    folder = tmp_path_factory.mktemp("reference")
    session = Session(tiny(data, LONG), folder / "out", folder / "work", minutes=10)
    assert session.run(["train"]) == 0
    return session


def same(one, other):
    """Whether the last checkpoints of two sessions are equal, bit for bit."""
    ends = [checkpoints(session.work / "run")[-1] for session in (one, other)]
    names = ("generator.safetensors", "generator_live.safetensors", "discriminator.safetensors")
    return {end.name for end in ends} == {f"step_{LONG:07d}"} and all(
        len({(end / name).read_bytes() for end in ends}) == 1 for name in names
    )


def first_moments(session):
    file = checkpoints(session.work / "run")[-1] / "training_state.pt"
    state = torch.load(file, weights_only=True)
    return [m["exp_avg"] for name in ("g_optimiser", "d_optimiser") for m in state[name]["state"].values()]


def test_the_training_stops_at_the_deadline_and_goes_on_to_the_same_bits(
    data, reference, tmp_path, monkeypatch, capsys
):
    """Each call on a fresh machine: the first is ended from outside, the second by its time, in the middle of steps."""
    step, session, stop_at = Trainer.step, None, {}

    def stopped(trainer, number, measure=False):
        if number in stop_at:
            session.deadline = time.monotonic() if stop_at[number] else session.deadline
            os.kill(os.getpid(), signal.SIGTERM)  # as the timer does
        return step(trainer, number, measure)

    monkeypatch.setattr(Trainer, "step", stopped)
    before = 0
    for call, (at, in_time, code) in enumerate([(2, False, 130), (6, True, 0), (LONG, True, 0)]):
        stop_at = {at: in_time}
        session = Session(tiny(data, LONG), tmp_path / "out", tmp_path / f"work{call}", 10, resume=True)
        assert session.run(["train"]) == code
        said = capsys.readouterr().out
        stands = f"stage train at step {at + 1} of {LONG}, about "
        assert (stands in said and "; run the same command again to go on" in said) == (at < LONG), said
        found, stood, before = results(session)["stages"]["train"], before, min(at + 1, LONG)
        assert found["step"] == before and found["last_call"]["steps"] == before - stood, "not from the start"
        moments = first_moments(session)
        assert any(m.any() for m in moments) == (at >= LONG), "while a training is under way these only weigh"
        if call == 1:  # what there is, of a training under way
            exported = Session(tiny(data, LONG), session.out, session.work, 10, resume=True)
            assert exported.run(["export"]) == 0 and results(exported)["stages"]["export"]["step"] == at + 1
    assert "all stages done" in said and same(session, reference)
    exported = Session(tiny(data, LONG), session.out, session.work, 10, resume=True)
    assert exported.run(["export"]) == 0 and results(exported)["stages"]["export"]["step"] == LONG, "made anew"


CHILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from dpsims.training import Trainer
from tests.test_gpu_session import LONG, Session, tiny
step = Trainer.step
def killed(trainer, number, measure=False):
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(trainer, number, measure)
Trainer.step = killed
Session(tiny(sys.argv[2], LONG), sys.argv[3], sys.argv[4], 10, resume=True).run(["train"])
"""


@pytest.mark.slow
def test_killed_in_the_training_it_goes_on_to_the_same_bits(data, reference, tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    ended = subprocess.run([sys.executable, "-c", CHILD, *map(str, (ROOT, data, out, work))], cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL and gpu_stages.newest_step(work / "run") == 4
    session = Session(tiny(data, LONG), out, work, 10, resume=True)
    assert session.run(["train"]) == 0 and results(session)["calls"] == 2
    assert results(session)["stages"]["train"]["last_call"]["steps"] == LONG - 4
    assert same(session, reference)


def test_a_stage_that_cannot_go_on_waits_for_a_call_that_is_long_enough(data, tmp_path, monkeypatch, capsys):
    def endless(*_, **__):
        time.sleep(60)

    monkeypatch.setattr(gpu_stages, "train_evaluator", endless)
    short = Session(tiny(data), tmp_path / "out", tmp_path / "work", minutes=0.03)
    short.begin -= 60  # as if the stages before had taken the most of a call
    assert short.run(["evaluator"]) == 0
    assert "stage evaluator interrupted; run the same command again to go on" in capsys.readouterr().out
    shorter = Session(tiny(data), tmp_path / "out", tmp_path / "work", minutes=0.02, resume=True)
    assert shorter.run(["evaluator"]) == 0 and "stage evaluator not begun" in capsys.readouterr().out
    longer = Session(tiny(data), tmp_path / "out", tmp_path / "work", minutes=0.05, resume=True)
    with pytest.raises(InputError, match="stage evaluator was not done in 0.0 minutes, and cannot go on"):
        longer.run(["evaluator"])


def test_a_stage_that_fails_keeps_what_is_done(data, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(gpu_stages.gpu_bench, "bench", lambda load, done, keep: {"rows": []})
    monkeypatch.setattr(gpu_stages, "pretrain", fail)
    session = Session(tiny(data), tmp_path / "out", tmp_path / "work", minutes=10)
    with pytest.raises(RuntimeError, match="a bug"):
        session.run(["bench", "backbone"])
    assert results(session)["stages"]["bench"]["done"] and "done" not in results(session)["stages"]["backbone"]


def test_parts_are_small_and_another_session_s_are_refused(tmp_path):
    folder, out = tmp_path / "folder", tmp_path / "out"
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "noise").write_bytes(bytes(i * i * 31 % 251 for i in range(50_000)))
    (folder / "more").write_text("left out")
    out.mkdir()
    (out / f"{parcels.NAME}.77").write_bytes(b"old")
    parts = parcels.pack(folder, ["run/noise"], out, part=100)
    assert len(parts) > 1 and all((out / name).stat().st_size <= 100 for name in parts)
    assert sorted(p.name for p in out.iterdir()) == sorted(parts)
    parcels.unpack(parts, out, tmp_path / "back")
    assert [p.name for p in (tmp_path / "back").rglob("*") if p.is_file()] == ["noise"]
    assert (tmp_path / "back" / "run" / "noise").read_bytes() == (folder / "run" / "noise").read_bytes()
    (out / f"{parcels.NAME}.01").write_bytes(b"other")
    with pytest.raises(InputError, match="session.tar.gz.01: missing, or not of the session"):
        parcels.unpack(parts, out, tmp_path / "back")


def test_the_real_plans_can_be_trained_and_travel():
    assert parcels.PART < 16 * 2**20
    for size in (128, 256):
        config = plan(size).training
        assert (config.data.height, config.data.width, config.train.batch_size) == (size, size, 64 * 128 // size)
        assert config.train.bf16 and config.train.start_from == "scenes-64"
        assert len(config.generator.channels) == len(preset("scenes64").generator.channels) + (size // 128)
    assert training(128, ["train.steps=7"]).train.steps == 7
    with pytest.raises(InputError, match="--size 64"):
        plan(64)
    calls = [block for block in gpu_session.__doc__.split("\n\n") if "    " in block and "python3 -m" in block]
    assert len(calls) == 4 and all(len(call) < 2000 for call in calls), "what the tool takes"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--size 64", "--size 64"),
        ("--minutes 0", "--minutes 0"),
        ("--stages bench,paint", "paint: no such stage"),
        ("--set train.stepz=3", "train.stepz"),
    ],
)
def test_bad_input_is_one_line(line, says, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), *line.split()]) == 2
    assert says in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_foreign_folder_is_left_alone(data, tmp_path):
    (tmp_path / "results.json").write_text('{"runs": []}')
    with pytest.raises(InputError, match="is not of a session"):
        Session(tiny(data), tmp_path, tmp_path / "work", 1, resume=True)


def test_several_processes_draw_the_same(tmp_path):
    made = [prepare_scenes(tmp_path / f"{n}", size=16, n=70, n_val=4, progress=False, jobs=n) for n in (1, 2)]
    one, two = (load_prepared(path).index["sha256"] for path in made)
    assert one == two
    assert list(in_order(abs, range(-9, 0), 1)) == list(range(9, 0, -1))


def test_a_bare_machine_needs_no_widgets():
    """The session's first call carries no wheels."""
    code = "import sys, dpsims.gpu_session; sys.exit('ipywidgets' in sys.modules or 'anywidget' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
