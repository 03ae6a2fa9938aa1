"""The training presets: those of the paper's sizes build from shapes alone, and what a dry run says of them is so."""

import ast
import inspect
import re

import pytest
import torch
from trees import scenes_of
from typer.testing import CliRunner

from dpsims import dry_run, presets, step_memory
from dpsims.cli import app
from dpsims.config import override
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError
from dpsims.models.generator import CHANNELS_256
from dpsims.presets import PAPER, PRESETS, SMALL, configured, preset
from dpsims.step_memory import Memory, Saved, count, memory, networks, saved_bytes
from dpsims.training import Trainer

data = scenes_of(8, 4)


@pytest.fixture(scope="module")
def built():
    """The networks of a preset on the meta device, built once."""
    made = {}
    return lambda name: made.setdefault(name, networks(preset(name)))


def test_every_value_of_the_papers_sizes_says_its_standing():
    lines = inspect.getsource(presets).splitlines()
    checked = 0
    for function in (presets._paper, *PAPER.values()):
        tree = next(n for n in ast.parse("\n".join(lines)).body if getattr(n, "name", "") == function.__name__)
        for node in ast.walk(tree):
            passed_on = isinstance(node, ast.keyword) and ast.unparse(node.value) == node.arg
            if not isinstance(node, ast.keyword) or passed_on or node.arg in preset("tiny").to_dict():
                continue
            said = lines[node.value.end_lineno - 1].partition("#")[2]
            assert re.search(r"\b(published|recalled|default)\b", said), f"{function.__name__}: {node.arg} has none"
            checked += 1
    assert checked > 40


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_its_networks_fit_together(built, name):
    config, made = preset(name), built(name)
    size, classes = (config.data.height, config.data.width), config.data.num_classes
    g, d = made.generator, made.discriminator
    assert {t.device.type for n in made.all() for t in (*n.parameters(), *n.buffers())} == {"meta"}
    labels = torch.ones(2, *size, dtype=torch.long, device="meta")
    with torch.no_grad():
        images, _ = g(labels, torch.zeros(2, g.noise_tokens, g.noise_dim, device="meta"))
        logits = d(images)
    assert images.shape == (2, 3, *size) and logits.shape == (2, classes + 1, *size)
    assert all(not p.requires_grad for p in d.backbone.parameters())
    assert min(g.heights) * 2 ** (len(g.heights) - 1) == size[0]


def test_the_papers_sizes_are_those_of_their_data_sets():
    sizes = {name: (c.data.dataset, c.data.num_classes, c.data.height, c.data.width) for name in PAPER
             for c in [preset(name)]}  # fmt: skip
    assert sizes == {
        "ade20k256": ("ade20k", 150, 256, 256),
        "coco256": ("coco_stuff", 182, 256, 256),
        "cityscapes512": ("cityscapes", 33, 256, 512),
        "ade20k512": ("ade20k", 150, 512, 512),
    }
    assert presets.CHANNELS_256 == CHANNELS_256
    steps = {name: preset(name).train.steps for name in PAPER}
    assert steps == {"ade20k256": 63_156, "coco256": 184_823, "cityscapes512": 9_296, "ade20k512": 63_156}


def test_parameters_are_those_of_the_shapes(built):
    """Counted by hand where that is short: the decoder's last layer, and what a class more costs in both networks."""
    ade, coco = built("ade20k256"), built("coco256")
    assert count(ade.discriminator.to_logits) == 64 * 151 + 151
    assert count(coco.discriminator) - count(ade.discriminator) == 32 * 65
    assert count(coco.generator) - count(ade.generator) == 32 * 9 * (64 + 1024)  # two stems of 3x3 see the classes
    assert count(ade.discriminator.backbone) == pytest.approx(196.23e6, rel=1e-3)  # ConvNeXt-L, as README.md has it
    table = dry_run.network_table(preset("ade20k256"), ade)
    parts = [float(line[1]) for line in table[1:4]]
    assert parts == pytest.approx([count(ade.generator) / 1e6, 196.23, count(ade.discriminator, True) / 1e6], abs=6e-3)
    assert float(table[2][2]) == pytest.approx(44.88, abs=0.01), "the one way of counting: data/results/backbones.json"


VARIANTS = {
    "as it is": [],
    "all terms": ["loss.lambda_contrastive=1", "loss.diversity_on=features", "generator.noise_places=true",
                  "discriminator.finest_stride=1", "generator.attention=both"],
    "pieces": ["train.accumulate=2", "discriminator.checkpointing=true"],
    "trained encoder": ["discriminator.frozen=false", "discriminator.pretrained=false"],
    "OASIS": ["generator.kind=oasis", "discriminator.kind=oasis", "loss.lambda_labelmix=10", "generator.norm=batch"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "bf16"), [*((name, False) for name in VARIANTS), ("all terms", True)], ids=lambda value: str(value)
)
def test_what_is_counted_without_tensors_is_what_a_training_step_saves(data, variant, bf16, monkeypatch):
    """Against the training itself, on the CPU: the same bytes before D's backward pass and before G's."""
    config = configured("tiny", data, [*VARIANTS[variant], f"train.bf16={bf16}"])
    trainer = Trainer(config, load_prepared(data))
    real = step_memory.Networks(trainer.generator, trainer.discriminator, trainer.patch_head)
    own = {t.untyped_storage()._cdata for n in real.all() for t in (*n.parameters(), *n.buffers())}
    seen, judged, backward = [], trainer._judged, trainer.accelerator.backward
    monkeypatch.setattr(trainer, "_judged", lambda piece: (seen.append(saved.bytes), judged(piece))[1])
    monkeypatch.setattr(trainer.accelerator, "backward", lambda loss: (seen.append(saved.bytes), backward(loss)))
    with Saved(own) as saved:
        trainer.step(0)
    pieces = config.train.accumulate
    both, before_d = seen[:2]  # then come the other pieces of D's step, and those of G's
    first_of_g = seen[2 * pieces] - seen[2 * pieces - 1]
    estimate = memory(config, networks(config), bf16, device="cpu")
    counted = [base + each * config.train.batch_size / pieces for base, each in estimate.moments]
    # statistics of norms differ: a CPU keeps those of a group norm in float32, and none of the frozen batch norms, 12
    # kB a backbone here; what has a number for every pixel of two images or more takes 32,768 bytes
    assert counted == pytest.approx([before_d, both + first_of_g], rel=0, abs=32_000)
    assert estimate.fixed == step_memory.fixed_bytes(real)
    state = [v for o in (trainer.g_optimiser, trainer.d_optimiser) for s in o.state.values() for v in s.values()]
    there = [*trainer.ema.parameters(), *trainer.ema.buffers(), *(p.grad for p in trainer.g_parameters)]
    there += [t for n in real.all() for t in (*n.parameters(), *n.buffers())]
    heads = trainer.g_optimiser.param_groups[0]["params"][len(trainer.g_parameters):]  # fmt: skip
    there += [p.grad for p in (*trainer.d_parameters, *heads)] + [v for v in state if v.numel() > 1]
    assert sum(t.nbytes for t in there) == pytest.approx(estimate.fixed, rel=1e-3)  # moments of one number are left out


def test_the_memory_grows_with_the_batch_in_proportion():
    config = override(preset("tiny"), ["loss.lambda_contrastive=1"])
    made = networks(config)
    estimate = memory(config, made, bf16=True)
    with step_memory.FakeTensorMode(allow_non_fake_inputs=True):
        for network in made.all():
            network.to_empty(device="cuda")
        found = saved_bytes(config, made, 12, True, "cuda")
    assert [base + each * 12 for base, each in estimate.moments] == list(found)


def test_a_larger_batch_and_float32_take_more(built):
    half, full = (memory(preset("tiny"), built("tiny"), bf16) for bf16 in (True, False))
    assert half.fixed == full.fixed and half.at(8) < full.at(8) < full.at(16)
    assert half.largest(2e9, 2) > full.largest(2e9, 2)


def test_the_largest_batch_fits_and_the_next_does_not():
    estimate = Memory(fixed=100, moments=((10, 4.0), (0, 5.0)))
    for room in (113, 130, 150, 161, 1000):
        batch = estimate.largest(room, 2)
        assert batch % 2 == 0 and (batch == 0 or estimate.at(batch) <= room) and estimate.at(batch + 2) > room
    assert estimate.largest(99, 2) == 0


def told(*arguments):
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


def test_a_dry_run_prints_tables_and_touches_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "BACKBONES", ("resnet18", "levit_128s"))
    monkeypatch.chdir(tmp_path)
    said = told("--preset", "tiny", "--data", data, "--dry-run", "--set", "discriminator.finest_stride=2")
    assert said.exit_code == 0, said.output
    assert "6 steps of 4 images of 64 x 64 pixels: 24 images, 3.0 epochs of 8." in said.stdout
    assert "not measured" in said.stdout and "25% of a card left free" in said.stdout
    assert "Left out: backbone 'levit_128s'" in said.stdout, "it has no level of stride 2, and the others are told"
    rows = re.findall(r"^(texture_resnet10t|resnet18)((?: +[\d.-]+)+)$", said.stdout, re.MULTILINE)
    assert [name for name, _ in rows] == ["texture_resnet10t", "resnet18"] * 2
    assert not list(tmp_path.iterdir())


def test_errors_of_the_command_are_told_in_one_line(data, monkeypatch):
    monkeypatch.setattr(dry_run, "memory", None)  # not reached
    for line, message in (
        (["--preset", "tiny"], "give --out, the run folder, or --dry-run"),
        (["--preset", "ade20k265", "--dry-run"], "known: scenes64.*ade20k256"),
        (["--preset", "tiny", "--dry-run", "--set", "discriminator.backbone=resnet9000"], "unknown backbone"),
        (["--preset", "tiny", "--dry-run", "--set", "data.path=nowhere"], "no prepared data"),
    ):
        said = told(*line)
        assert said.exit_code == 2 and said.stderr.count("\n") == 1 and re.search(message, said.stderr), said.output


@pytest.mark.parametrize("name", PAPER)
def test_data_of_another_size_are_refused_with_the_remedy(data, name):
    wanted = preset(name).data.height
    with pytest.raises(InputError, match=rf"64 x 64 pixels, but the preset {name} is for {wanted} .*--size {wanted}"):
        configured(name, data)
    config = configured(name, data, ["data.height=64", "data.width=64"])
    assert (config.data.num_classes, config.data.dataset, config.data.path) == (12, "scenes", str(data))


def test_small_presets_take_the_size_of_the_data_and_larger_data_are_cropped(data):
    assert all(configured(name, data).data.height == 64 for name in SMALL)
    cropped = ["data.crop=true", "data.height=32", "data.width=64"]
    assert configured("ade20k256", data, cropped).data.height == 32
    with pytest.raises(InputError, match="64 x 64"):
        configured("ade20k256", data, ["data.crop=true"])


def test_a_preset_without_data_is_itself():
    assert all(configured(name) == preset(name) for name in PRESETS)
