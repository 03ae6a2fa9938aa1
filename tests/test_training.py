"""The training: every parameter learns, the backbone does not, and a killed run comes back bit for bit."""

import csv
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from trees import scenes_of, tiny

from dpsims import draws
from dpsims.checkpoint import checkpoints, export_run, fold_spectral_norm, read_provenance, resolve
from dpsims.data.loader import TrainingBatches, sampling_weights
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError
from dpsims.images import to_tensor, to_uint8
from dpsims.optimisation import learning_rate_factor, update_ema
from dpsims.run_folder import read_metrics
from dpsims.sheets import read_sheet
from dpsims.synthesis import load_discriminator, load_generator
from dpsims.training import DeadRun, Trainer, fit

data = scenes_of(48, scope="session")


def without_times(log):
    """The rows of a log less `cpu_seconds`, the one column that no seed determines."""
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row.pop("cpu_seconds")) > 0 for row in rows)
    return rows


def state_of(run):
    folder = checkpoints(run)[-1]
    return {(p.name, k): v for p in folder.glob("*.safetensors") for k, v in load_file(p).items()}


def test_the_late_diversity_threshold_takes_over_when_the_rates_fall(data):
    settings = (
        "train.steps=10",
        "train.decay_from=0.4",
        "loss.diversity_threshold=3",
        "loss.diversity_threshold_late=0",
    )
    trainer = Trainer(tiny(data, *settings), load_prepared(data))
    piece = trainer._pieces(0)[0]
    piece.fake = torch.zeros_like(piece.real)
    early, late = (trainer._diversity(replace(piece, step=step)) for step in (3, 4))
    assert early.item() == pytest.approx(3) and late.item() == 0


def test_a_foreign_patch_head_is_refused(data):
    config = tiny(data, "loss.lambda_contrastive=1")
    trainer = Trainer(config, load_prepared(data))
    state = trainer.state()
    trainer.load_state(state)
    with pytest.raises(KeyError, match="heads.0.0.weight"):
        trainer.load_state(state | {"patch_head": {}})


def test_fit_leaves_a_whole_run(data, tmp_path):
    result = fit(tiny(data), tmp_path / "run", progress=False)
    assert result.finished and result.step == 6
    metrics = read_metrics(tmp_path / "run")
    assert metrics["step"] == [0, 1, 2, 3, 4, 5]
    assert all(np.isfinite(metrics[c]).all() for c in ("loss_d_real", "loss_g_pixel", "sigma", "fakes_found"))
    measured = np.isfinite(metrics["grad_pixel"])
    assert measured.tolist() == [True, False, False, True, False, False]
    assert np.isfinite(np.array(metrics["saturated_32"])[measured]).all()
    assert [p.name for p in checkpoints(tmp_path / "run")] == ["step_0000004", "step_0000006"]
    assert (tmp_path / "run/samples/step_0000006.png").is_file()
    assert not list((tmp_path / "run").rglob(".*")), "no temporary file is left"


def test_every_parameter_learns_and_the_backbone_does_not(data):
    config = tiny(data, "loss.lambda_contrastive=1", "loss.contrastive_backbone=texture_resnet10t", "train.bf16=false",
                  "loss.diversity_threshold=9")  # fmt: skip
    trainer = Trainer(config, load_prepared(data))
    trainer.fit_conditioning(progress=False)
    backbone = {k: v.clone() for k, v in trainer.discriminator.backbone.state_dict().items()}
    named = [*trainer.generator.named_parameters(), *trainer.patch_head.heads.named_parameters()]
    named += [(n, p) for n, p in trainer.discriminator.named_parameters() if p.requires_grad]
    before = {n: p.detach().clone() for n, p in named}
    for step in range(3):  # the rate is 0 < lr at step 0 already
        trainer.step(step)
        assert all(p.grad is None for p in trainer.discriminator.backbone.parameters())
    unmoved = [n for n, p in named if torch.equal(p, before[n])]
    assert not unmoved, unmoved
    for key, value in trainer.discriminator.backbone.state_dict().items():
        assert torch.equal(value, backbone[key]), key
    assert not any(m.training for m in trainer.discriminator.backbone.modules())


@pytest.mark.parametrize(("frozen", "passes"), [("true", 2), ("false", 3)])
def test_a_frozen_encoder_sees_the_fakes_once(data, frozen, passes):
    trainer = Trainer(tiny(data, f"discriminator.frozen={frozen}"), load_prepared(data))
    trainer.fit_conditioning(progress=False)
    seen = []
    trainer.discriminator.backbone.model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    trainer.step(0)
    # frozen: fakes, then reals; trained: reals with fakes, then fakes for G, through the new weights
    assert len(seen) == passes - (frozen == "false") and sum(seen) == 4 * passes


def test_the_generator_step_leaves_no_gradient_in_d(data):
    trainer = Trainer(tiny(data, "train.bf16=false"), load_prepared(data))
    trainer.fit_conditioning(progress=False)
    seen = {}
    original = trainer.accelerator.backward

    def backward(loss):
        grads = [None if p.grad is None else p.grad.clone() for p in trainer.d_parameters]
        original(loss)
        seen.setdefault("calls", []).append((grads, [p.grad for p in trainer.d_parameters]))

    trainer.accelerator.backward = backward
    trainer.step(0)
    (_, after_d), (before_g, after_g) = seen["calls"]
    assert all(g is not None for g in after_d)
    assert all(torch.equal(b, a) for b, a in zip(before_g, after_g, strict=True)), "the G step added to D's gradients"


def test_statistics_come_before_step_0_and_stay(data, tmp_path):
    fit(tiny(data), tmp_path / "run", progress=False)
    old, new = (load_file(c / "discriminator.safetensors") for c in checkpoints(tmp_path / "run"))
    constants = [k for k in old if k.startswith("conditioning.levels")]
    assert len(constants) == 16 and all(torch.equal(old[k], new[k]) for k in constants)
    assert old["conditioning.levels.0.mean"].abs().max() > 0
    assert not any(k.startswith("backbone") for k in new), "the frozen backbone is not stored"


@pytest.mark.parametrize("bf16", ["true", pytest.param("false", marks=pytest.mark.slow)])
def test_sigkill_and_resume_equal_an_uninterrupted_run(data, tmp_path, bf16):
    settings = ["--set", "train.steps=14", "--set", f"train.bf16={bf16}", "--set", "train.checkpoint_every=3"]
    settings += ["--set", "loss.lambda_contrastive=0.2", "--set", "loss.contrastive_backbone=texture_resnet10t"]
    command = [sys.executable, "-m", "dpsims", "train", "--preset", "tiny", "--data", str(data), *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(out, *more):
        return subprocess.Popen([*command, "--out", str(out), *more], env=environment, stderr=subprocess.DEVNULL)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    reference = start(whole)
    victim, kill_at = start(broken), random.randint(2, 12)
    log = broken / "metrics.csv"
    end = time.monotonic() + 240
    while victim.poll() is None and not (log.exists() and log.read_text().count("\n") > kill_at):
        assert time.monotonic() < end, "the training did not start"
        time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL, f"was to die near step {kill_at}"
    assert start(broken, "--resume").wait(240) == 0
    assert reference.wait(240) == 0
    assert without_times(whole / "metrics.csv") == without_times(log), f"killed at {kill_at}"
    assert np.diff(read_metrics(broken)["cpu_seconds"]).min() > 0, "CPU time goes on where it stood"
    said = read_provenance(checkpoints(broken)[-1])["command"]
    assert shlex.split(said) == ["dpsims", *command[3:], "--out", str(broken), "--resume"]
    expected, found = state_of(whole), state_of(broken)
    assert expected.keys() == found.keys()
    assert not [k for k in expected if not torch.equal(expected[k], found[k])], f"killed at {kill_at}"


def test_ctrl_c_saves_and_says_how_to_go_on(data, tmp_path, capsys):
    trigger, before = {"steps": 0}, signal.getsignal(signal.SIGINT)  # ignored in a shell's background
    original = Trainer.step

    def step(self, *args, **kwargs):
        trigger["steps"] += 1
        if trigger["steps"] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args, **kwargs)

    Trainer.step = step
    try:
        result = fit(tiny(data), tmp_path / "run", progress=False)
    finally:
        Trainer.step = original
    assert not result.finished and result.step == 3, "the step under way was completed"
    assert "--resume" in capsys.readouterr().out
    again = fit(tiny(data), tmp_path / "run", resume=True, progress=False)
    assert again.finished and read_metrics(tmp_path / "run")["step"] == [0, 1, 2, 3, 4, 5]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_log_of_an_older_version_gets_the_new_column(data, tmp_path):
    config, log = tiny(data, "train.steps=4"), tmp_path / "run/metrics.csv"
    fit(config, tmp_path / "run", progress=False)
    shutil.rmtree(resolve(tmp_path / "run"))  # back to step 2
    lines = log.read_text().splitlines()
    log.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    assert np.isnan(read_metrics(tmp_path / "run")["cpu_seconds"]).all()
    fit(config, tmp_path / "run", resume=True, progress=False)
    found = read_metrics(tmp_path / "run")
    assert found["step"] == [0, 1, 2, 3] and np.isfinite(found["cpu_seconds"]).tolist() == [False, False, True, True]


def test_as_many_checkpoints_as_asked_for_are_kept(data, tmp_path):
    fit(tiny(data), tmp_path / "run", progress=False, keep=3)
    kept = checkpoints(tmp_path / "run")
    assert [p.name for p in kept] == ["step_0000002", "step_0000004", "step_0000006"]
    spent = [read_provenance(p)["cpu_seconds"] for p in kept]
    assert 0 < spent[0] < spent[1] < spent[2]


def test_a_dead_generator_stops_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr("dpsims.watch.DEAD_FAKES", 0.0)
    monkeypatch.setattr("dpsims.watch.DEAD_GRADIENT", 1e9)
    with pytest.raises(DeadRun, match="generator is dead. Change train.seed"):
        fit(tiny(data, "train.dead_after=3"), tmp_path / "run", progress=False)
    assert len(read_metrics(tmp_path / "run")["step"]) == 3


def test_a_live_generator_is_not_called_dead(data):
    trainer = Trainer(tiny(data), load_prepared(data))
    trainer.fit_conditioning(progress=False)
    for step in range(3):
        trainer.step(step)
    assert int(trainer.dead) == 0


def test_folders_that_are_not_ours_to_write(data, tmp_path):
    fit(tiny(data), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="pass --resume"):
        fit(tiny(data), tmp_path / "run", progress=False)
    with pytest.raises(InputError, match="train.seed 0 there, 5 here"):
        fit(tiny(data, "train.seed=5"), tmp_path / "run", resume=True, progress=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="no dpsims run"):
        fit(tiny(data), tmp_path / "other", progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        fit(tiny(data), tmp_path / "file/run", progress=False)
    assert os.listdir(tmp_path / "other") == ["thesis.txt"]


def test_data_of_another_size(data, tmp_path):
    with pytest.raises(InputError, match="the configuration asks for"):
        fit(tiny(data, "data.height=32", "data.width=32"), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_export_is_small_and_makes_the_same_images(data, tmp_path):
    fit(tiny(data), tmp_path / "run", progress=False)
    export_run(tmp_path / "run", tmp_path / "exported")
    labels = load_prepared(data).split("val").labels[:2]
    a, b = (load_generator(tmp_path / name)(labels, seed=4) for name in ("run", "exported"))
    assert (a - b).abs().max() < 0.02, "float16 against float32"
    assert load_file(tmp_path / "exported/generator.safetensors")["to_rgb.weight"].dtype == torch.float16
    d = load_discriminator(tmp_path / "exported")
    assert d(a).shape == (2, 13, 64, 64) and d.conditioning.levels[0].mean.abs().max() > 0
    assert resolve(tmp_path / "run").name == "step_0000006"
    steps = read_provenance(tmp_path / "exported")["growth_steps"]
    assert steps == [3, 6] and read_sheet(tmp_path / "exported/growth.png", 64, 64).shape == (4, 3, 64, 64, 3)
    with pytest.raises(InputError, match="exported already"):
        export_run(tmp_path / "exported", tmp_path / "again")


def test_what_float16_cannot_hold_is_not_exported(data, tmp_path):
    fit(tiny(data), tmp_path / "run", progress=False)
    file = resolve(tmp_path / "run") / "discriminator.safetensors"
    state = load_file(file)
    name = next(key for key, value in state.items() if value.is_floating_point())
    save_file(state | {name: torch.full_like(state[name], 1e5)}, file)
    with pytest.raises(InputError, match=f"1 tensors hold values that float16 cannot .* such as {name}; the training"):
        export_run(tmp_path / "run", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_export_deletes_nothing_that_is_not_an_export(data, tmp_path):
    fit(tiny(data), tmp_path / "run", progress=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("precious")
    for out in ("other", "run", "."):
        with pytest.raises(InputError, match="something else than an exported model"):
            export_run(tmp_path / "run", tmp_path / out)
    assert (tmp_path / "other/thesis.txt").read_text() == "precious" and checkpoints(tmp_path / "run")
    for _ in range(2):  # an older export is replaced
        export_run(tmp_path / "run", tmp_path / "exported")


def test_bad_input_leaves_nothing_behind(data, tmp_path):
    for setting in ("discriminator.backbone=nope", "train.seed=99999999999999999999999", "train.seed=-1"):
        with pytest.raises(InputError):
            fit(tiny(data, setting), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_damaged_state_is_named(data, tmp_path):
    fit(tiny(data), tmp_path / "run", progress=False)
    (resolve(tmp_path / "run") / "training_state.pt").write_bytes(b"junk")
    with pytest.raises(InputError, match="training_state.pt: not usable"):
        fit(tiny(data), tmp_path / "run", resume=True, progress=False)


def test_learning_rate():
    factors = [learning_rate_factor(s, 100, 10, 0.6) for s in (0, 4, 9, 59, 60, 80, 99)]
    assert factors == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 0.55, 0.1225])


def test_ema_averages_parameters_and_copies_buffers():
    average, model = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(7.0)
    update_ema(average, model, 0.75)
    assert average.weight.tolist() == [1.5, 1.5] and average.running_mean.tolist() == [7.0, 7.0]


def test_ema_of_a_spectral_norm_layer_stays_normalised(data, tmp_path):
    fit(tiny(data, "train.ema_decay=0.5"), tmp_path / "run", progress=False)
    trainer = Trainer(tiny(data), load_prepared(data))
    trainer.ema.load_state_dict(load_file(resolve(tmp_path / "run") / "generator.safetensors"))
    folded = fold_spectral_norm(trainer.ema, iterations=50)
    weight = folded.blocks[0].conv1.weight.flatten(1)
    assert torch.linalg.matrix_norm(weight, 2).item() == pytest.approx(1, rel=1e-2)


def test_draws_are_pure_functions():
    args = (3, 5, range(2, 6), draws.NOISE, (4,))
    assert torch.equal(draws.normal(*args), draws.normal(*args))
    assert torch.equal(draws.normal(*args)[1], draws.normal(3, 5, range(3, 4), draws.NOISE, (4,))[0])
    streams = {draws.stream(a, b, c, d).initial_seed() for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)}
    assert len(streams) == 16


def test_more_processes_see_the_same_batch(data):
    prepared = load_prepared(data)
    pixels = prepared.index["splits"]["train"]["class_pixels"]
    batches = TrainingBatches(prepared.split("train"), pixels, 8, 0, True, True, (64, 64))
    whole, parts = batches(7), [batches(7, rank, 2) for rank in (0, 1)]
    assert torch.equal(whole.images, torch.cat([p.images for p in parts]))
    assert torch.equal(whole.labels, torch.cat([p.labels for p in parts]))
    assert not torch.equal(whole.images, batches(8).images)


def test_images_and_labels_flip_together(data):
    prepared = load_prepared(data)
    split = prepared.split("train")
    pixels = prepared.index["splits"]["train"]["class_pixels"]
    batch = TrainingBatches(split, pixels, 32, 0, False, True, split.labels.shape[1:])(0)
    flipped = 0
    for image, labels in zip(to_uint8(batch.images), batch.labels.numpy(), strict=True):
        plain = [np.array_equal(labels, x) for x in split.labels].index(True) if any(
            np.array_equal(labels, x) for x in split.labels) else None  # fmt: skip
        if plain is None:
            flipped += 1
            plain = next(i for i, x in enumerate(split.labels) if np.array_equal(labels[:, ::-1], x))
            image = image[:, ::-1]
        assert np.array_equal(image, split.images[plain])
    assert 6 <= flipped <= 26


def test_rare_classes_are_drawn_more_often():
    weights = sampling_weights(np.array([1, 2, 0]), [50, 900, 100])
    assert weights[1] / weights[0] == pytest.approx(3) and weights[2] == weights[0]
    assert weights.sum() == pytest.approx(1)


def test_images_survive_the_way_to_tensors():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = to_tensor(image)
    assert tensor.min() == -1 and tensor.max() == 1 and tensor.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(to_uint8(tensor), image)


def test_plain_python_m_runs_the_training(data, tmp_path):
    command = [sys.executable, "-m", "dpsims", "train", "--preset", "tiny", "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, "--data", str(data), "--set", "train.steps=x"], capture_output=True, text=True)
    assert done.returncode == 2 and "train.steps: 'x'" in done.stderr and "Traceback" not in done.stderr
    assert not Path(tmp_path / "run").exists()
