"""What a training does about memory: pieces of a batch, activations computed again, words where there is none."""

import os
import subprocess
import sys

import pytest
import torch
import trees
from trees import scenes_of

from dpsims.checkpoint import checkpoints
from dpsims.config import override
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError
from dpsims.models.backbone import Backbone
from dpsims.training import Trainer, fit

DP_SIMS = ("loss.lambda_contrastive=0.5", "loss.contrastive_backbone=texture_resnet10t", "loss.class_weights=batch")
TRAINED = ("discriminator.frozen=false", "discriminator.backbone=test_convnext", "discriminator.pretrained=false")
OASIS = ("generator.kind=oasis", "discriminator.kind=oasis")


data = scenes_of(24)


def tiny(data, *settings):
    return trees.tiny(data, "train.batch_size=8", "train.bf16=false", *settings)


def weights_after(config, data, steps):
    trainer = Trainer(config, load_prepared(data), torch.float64)
    trainer.fit_conditioning(progress=False)
    for step in range(steps):
        log = trainer.step(step, measure=step == 0)
    state = {
        f"{n} {k}": v
        for n in ("generator", "discriminator", "ema")
        for k, v in getattr(trainer, n).state_dict().items()
    }
    return state | {k: torch.as_tensor(v) for k, v in log.items() if not k.startswith(("grad_pixel", "saturated"))}


@pytest.mark.parametrize(("settings", "pieces"), [(DP_SIMS, 2), (TRAINED, 4)])
def test_pieces_of_a_batch_train_as_the_batch_does(data, settings, pieces):
    whole = weights_after(tiny(data, *settings), data, 3)
    parts = weights_after(tiny(data, *settings, f"train.accumulate={pieces}"), data, 3)
    for name, value in whole.items():
        if value.is_floating_point() and not name.endswith("norm_keys.bias"):  # whose gradient is 0 but for rounding
            assert torch.allclose(value, parts[name], rtol=1e-7, atol=1e-9), name


@pytest.mark.parametrize("settings", [(), OASIS, ("loss.lambda_labelmix=5",), ("loss.diversity_on=features",)])
def test_every_kind_of_training_takes_pieces(data, settings):
    log = weights_after(tiny(data, *settings, "train.accumulate=2"), data, 2)
    assert all(bool(v.isfinite().all()) for v in log.values() if v.is_floating_point())


def test_one_graph_at_a_time(data):
    """The most images that G draws at once, and that any graph holds, are those of a piece."""
    trainer = Trainer(tiny(data, "train.accumulate=4"), load_prepared(data))
    trainer.fit_conditioning(progress=False)
    drawn, graphs = [], []
    trainer.generator.register_forward_hook(
        lambda m, a, out: drawn.append(len(out[0])) or graphs.append(torch.is_grad_enabled())
    )
    trainer.step(0)
    assert drawn == [2] * 8 and graphs == [False] * 4 + [True] * 4


def test_batches_that_do_not_break_into_pieces_are_refused(data):
    with pytest.raises(InputError, match="train.accumulate=3 pieces; give a multiple of 6"):
        Trainer(tiny(data, "train.accumulate=3"), load_prepared(data))


@pytest.mark.parametrize("name", ["texture_resnet10t", "test_vit", "test_convnext", "test_efficientnet"])
def test_checkpointing_changes_no_gradient_and_keeps_less(name):
    pretrained = name.startswith("texture")
    found = {}
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = Backbone(name, pretrained, size=(64, 64), checkpointing=checkpointing)
        images = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64).requires_grad_()
        kept = 0

        def pack(tensor):
            nonlocal kept
            kept += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            features = backbone(images)
        sum(f.square().mean() for f in features).backward()
        found[checkpointing] = images.grad, kept
    assert torch.allclose(found[True][0], found[False][0], rtol=1e-5, atol=1e-8) and found[True][0].any()
    assert found[True][1] < 0.8 * found[False][1]


def test_a_frozen_encoder_keeps_nothing_for_the_discriminators_step(data):
    trainer = Trainer(tiny(data), load_prepared(data))
    trainer.fit_conditioning(progress=False)
    piece = trainer._pieces(0)[0]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        features = trainer.discriminator.features(piece.real)
    assert not kept and not any(f.requires_grad for f in features)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_out_of_memory_names_the_batch_and_what_needs_less(data, tmp_path, monkeypatch, error):
    original, config = Trainer.step, tiny(data, "train.steps=4")

    def step(self, number, **kwargs):
        if number == 3 and self.t.accumulate == 1:
            raise error
        return original(self, number, **kwargs)

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(InputError) as told:
        fit(config, tmp_path / "run", progress=False)
    for words in ("step 3", "train.batch_size=8", "train.accumulate=2", "train.bf16=true", "step_0000002",
                  "discriminator.checkpointing=true", "--resume"):  # fmt: skip
        assert words in str(told.value)
    saved = override(config, ["train.accumulate=2", "discriminator.checkpointing=true"])
    assert fit(saved, tmp_path / "run", resume=True, progress=False).finished, "and what it names goes on"


def test_a_real_lack_of_memory_is_told_in_one_line(data, tmp_path):
    """What the machine's own allocator says, in a process that may have a little more than its libraries take."""
    limited = "import resource as r, runpy; r.setrlimit(r.RLIMIT_AS, (7 * 2**30, r.RLIM_INFINITY)); "
    limited += "runpy.run_module('dpsims', run_name='__main__')"
    command = [sys.executable, "-c", limited, "train", "--preset", "tiny", "--data", data, "--out", tmp_path / "run"]
    settings = ["--set", "train.batch_size=8192", "--set", "data.rare_class_sampling=false"]
    done = subprocess.run(
        [*map(str, command), *settings], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "out of memory at step 0, with train.batch_size=8192" in last and "train.accumulate=2" in last


def test_other_errors_keep_their_traceback(data, tmp_path, monkeypatch):
    def step(self, number, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Trainer, "step", step)
    with pytest.raises(RuntimeError, match="a bug"):
        fit(tiny(data), tmp_path / "run", progress=False)
    assert not checkpoints(tmp_path / "run")
