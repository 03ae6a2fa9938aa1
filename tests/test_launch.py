"""A training started in several processes by one that is none of them; and the scripts of README.md, "On a cluster"."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from accelerate.commands.launch import launch_command_parser

from dpsims import launch
from dpsims.checkpoint import checkpoints
from dpsims.config import override
from dpsims.data.prepare import prepare_scenes
from dpsims.errors import InputError
from dpsims.launch import command_line, launch_training, steps_logged
from dpsims.paths import ROOT
from dpsims.presets import preset
from dpsims.run_folder import read_metrics

CLUSTER = (ROOT / "README.md").read_text(encoding="utf-8").partition("## On a cluster")[2].partition("\n## ")[0]
SCRIPTS = [block for block in re.findall(r"```sh\n(.*?)```", CLUSTER, re.DOTALL) if block.startswith("#!")]


@pytest.fixture
def here(monkeypatch):
    """Processes import this checkout and have one thread each."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_two_processes_train_stop_when_asked_and_go_on(tmp_path, here, capsys):
    data = prepare_scenes(tmp_path / "some data", size=64, n=16, n_val=4, progress=False)
    settings, run = (
        [f"data.path={data}", "train.steps=12", "train.log_every=1", "train.sample_every=100"],
        tmp_path / "run",
    )

    def ctrl_c():
        while steps_logged(run / "metrics.csv") < 1:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=ctrl_c, daemon=True).start()
    result = launch_training("tiny", settings, run, 2)
    assert not result.finished and 0 < result.step < 12
    assert checkpoints(run)[-1].name == f"step_{result.step:07d}"
    said = capsys.readouterr()
    assert said.out.startswith(f"Saved at step {result.step} of 12.") and "/12 [" in said.err, (
        "a bar, with the time left"
    )
    assert launch_training("tiny", settings, run, 2, resume=True, progress=False) == launch.FitResult(run, 12, True)
    assert read_metrics(run)["step"] == list(range(12))


BAD = "print('3/9 [dpsims: x: is bad; give y\\ndpsims: x: is bad; give y')"
BUG = "print('a\\nboom\\n\\nE1 failed (exitcode: 1) of binary\\nTraceback by torch')"


@pytest.mark.parametrize(
    ("code", "reason"),
    [(BAD, "^x: is bad; give y$"), (BUG, "the training failed:\na\nboom$")],
    ids=["bad input", "a bug"],
)
def test_why_a_training_failed(tmp_path, monkeypatch, code, reason):
    failing = [sys.executable, "-c", f"import sys; {code}; sys.exit(1)"]
    monkeypatch.setattr(launch, "command_line", lambda *_: failing)
    with pytest.raises(InputError, match=reason):
        launch_training("tiny", [], tmp_path / "run", 2, progress=False)


def test_typing_errors_are_told_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "command_line", lambda *_: pytest.fail("started"))
    with pytest.raises(InputError, match="train.stepz"):
        launch_training("tiny", ["train.stepz=3"], tmp_path / "run", 2)


def test_one_process_a_gpu_and_torchrun_on_cpus(monkeypatch):
    on_cpus = command_line(2, ["train", "--out", "a b"])
    assert on_cpus[1:] == shlex.split(
        "-m torch.distributed.run --standalone --nproc_per_node 2 -m dpsims train --out 'a b'"
    )
    assert command_line(1, ["train"])[1:] == ["-m", "dpsims", "train"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    _, module, name, *rest = command_line(4, ["train", "--out", "a b"])
    given = launch_command_parser().parse_args(rest)
    assert (module, name) == ("-m", "accelerate.commands.launch") and given.multi_gpu and given.num_processes == 4
    assert (given.module, given.training_script) == (True, "dpsims")
    assert given.training_script_args == ["train", "--out", "a b"]
    for number, message in ((5, "processes: 5; there are 4 GPUs .* give 1 to 4"), (0, "processes: 0")):
        with pytest.raises(InputError, match=message):
            command_line(number, [])


ROWS = ["0,1\n", "0,1\n10,2\n20,", "7,1\n" * 5000]


@pytest.mark.parametrize(("rows", "steps"), [(None, 0), ("", 0), *zip(ROWS, (1, 11, 8), strict=True)])
def test_steps_are_read_from_a_log_that_is_being_written(tmp_path, rows, steps):
    if rows is not None:
        (tmp_path / "metrics.csv").write_text(f"step,gap\n{rows}")
    assert steps_logged(tmp_path / "metrics.csv") == steps


STAND_INS = {
    "srun": """while [[ $1 == --* ]]; do shift; done
        for ((n = 0; n < SLURM_NNODES; n++)); do SLURM_NODEID=$n "$@" & done; wait -n; code=$?; wait; exit $code""",
    "scontrol": """[ $1 == requeue ] && echo $2 saved.* > requeued || printf "%s\n" host0 host1""",
    "scancel": """[ "$1 $2" == "--signal=TERM 77" ] && kill -TERM $(cat pid.*)""",
    # as torchrun ends: with an error, and a moment after it was asked
    "accelerate": """trap "sleep 0.3; touch saved.$SLURM_NODEID; exit 1" TERM
        [ "$FAIL" ] && exit 3
        printf "%s\\0" "$@" > given.$SLURM_NODEID; echo $$ > pid.$SLURM_NODEID; while true; do sleep 0.05; done""",
}


@pytest.fixture(params=[(1, 0), (2, 1)], ids=["one host", "two hosts"])
def job(request, tmp_path):
    """A script of README.md, started as Slurm starts it, with stand-ins for the commands of a cluster."""
    nodes, number = request.param
    for name, code in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{code}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text("")
    (tmp_path / "job.sh").write_text(SCRIPTS[number])
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NNODES": str(nodes), "USER": "me",
                   "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "host[0-1]"}  # fmt: skip

    started = []

    def start(**more):
        started.append(subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment | more,
                                        stderr=subprocess.PIPE, start_new_session=True))  # fmt: skip
        return started[-1]

    yield tmp_path, nodes, start
    for script in started:
        with contextlib.suppress(ProcessLookupError):  # nothing is left of it but after a failure
            os.killpg(script.pid, signal.SIGKILL)


def test_the_scripts_of_the_readme_launch_stop_and_queue_again(job):
    folder, nodes, start = job
    script = start()
    until = time.monotonic() + 20
    while len(list(folder.glob("pid.*"))) < nodes and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.2)  # the last pid is in its file
    script.send_signal(signal.SIGUSR1)
    assert script.communicate(timeout=20)[1] == b""
    saved = [f"saved.{node}" for node in range(nodes)]
    assert (folder / "requeued").read_text().split() == ["77", *saved], "by the time that the job is queued again"
    for node in range(nodes):
        command, *words = (folder / f"given.{node}").read_text().split("\0")[:-1]
        given = launch_command_parser().parse_args(words)  # exits where it does not know a flag
        assert command == "launch" and given.multi_gpu and given.module and given.training_script == "dpsims"
        assert (given.num_machines, given.num_processes) == (nodes, 4 * nodes)
        if nodes > 1:
            assert (given.machine_rank, given.main_process_ip, given.main_process_port) == (node, "host0", 20077)
        train = given.training_script_args
        assert train[0] == "train" and train[-1] == "--resume"
        sets = [word for flag, word in zip(train, train[1:], strict=False) if flag == "--set"]
        config = override(preset(train[train.index("--preset") + 1]), sets)
        assert config.train.batch_size % (4 * nodes * config.train.noises_per_map) == 0


def test_a_training_that_fails_is_not_queued_again(job):
    folder, _, start = job
    script = start(FAIL="1")
    script.communicate(timeout=20)
    assert script.returncode == 3 and not (folder / "requeued").exists()


def test_both_scripts_are_bash():
    assert len(SCRIPTS) == 2
    for script in SCRIPTS:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
