"""Defects that were found in other projects, each as a test of this one; the numbers are those of our list of them."""

import ast
import copy
import os
import pickle
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache, partial

import numpy as np
import pytest
import timm
import torch
import trees
from PIL import Image
from torch.nn.utils import parametrize
from trees import QUIET, scenes_of

from dpsims import losses
from dpsims.checkpoint import resolve
from dpsims.cli import Dataset
from dpsims.config import override
from dpsims.data.loader import TrainingBatches
from dpsims.data.prepare_folders import prepare_folders
from dpsims.data.prepared import SplitArrays, load_prepared
from dpsims.errors import InputError
from dpsims.evaluation import report
from dpsims.evaluation.protocol import evaluate_checkpoint
from dpsims.evaluation.segmentation import SegmentationScore
from dpsims.images import to_bytes, to_uint8
from dpsims.models import Backbone
from dpsims.paths import ROOT
from dpsims.presets import preset
from dpsims.synthesis import build_generator, load_generator
from dpsims.training import Trainer, fit

KINDS = ("dp_sims", "oasis")


data = scenes_of(16, 4)


def tiny(data, *settings):
    return trees.tiny(data, "train.bf16=false", "train.steps=1", *settings)


def trainer_of(data, *settings):
    trainer = Trainer(tiny(data, *settings), load_prepared(data))
    trainer.fit_conditioning(progress=False)
    return trainer


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return fit(tiny(data), tmp_path_factory.mktemp("runs") / "run", progress=False).out


@cache
def sources():
    texts = {p.relative_to(ROOT).as_posix(): p.read_text("utf-8") for p in sorted((ROOT / "dpsims").rglob("*.py"))}
    return {path: list(ast.walk(ast.parse(text))) for path, text in texts.items()}


def nodes(*kinds):
    """All of these kinds in the sources, each with its file."""
    return [(path, node) for path, found in sources().items() for node in found if isinstance(node, kinds)]


def test_01_each_reading_crops_elsewhere_whatever_else_is_read():
    """In a peer the held-out set overwrites the size of the training set, and the crop never happens."""
    labels = np.arange(1, 1 + 12 * 12, dtype=np.uint8).reshape(1, 12, 12)  # a pixel tells its place
    split = SplitArrays(np.repeat(labels[..., None], 3, -1), labels, None, np.ones(1, np.uint8))
    crops = TrainingBatches(split, [0] + [1] * 144, 1, 0, True, False, (8, 8))
    whole = TrainingBatches(split, [0] + [1] * 144, 1, 0, True, False, (12, 12))
    corners = set()
    for step in range(40):
        assert whole(step).labels.shape == (1, 12, 12)
        batch = crops(step)
        corner = int(batch.labels[0, 0, 0]) - 1
        top, left = divmod(corner, 12)
        assert np.array_equal(batch.labels[0], labels[0, top : top + 8, left : left + 8]), "image and labels alike"
        assert np.array_equal((batch.images[0, 0] * 127.5 + 127.5).round(), batch.labels[0])
        corners.add(corner)
    assert len(corners) > 15, "of 25 places"


@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("kind", KINDS)
def test_02_the_noise_that_goes_in_is_what_is_used(kind, train):
    """Peers take a z and draw another one: same z, different image."""
    torch.manual_seed(0)
    g = build_generator(override(preset("tiny"), [f"generator.kind={kind}"]), folded=False).train(train)
    labels, z = torch.randint(0, 13, (2, 64, 64)), g.sample_noise(2)

    def drawn(noise, seed):
        torch.manual_seed(seed)  # what a z that is drawn inside would hang on
        return copy.deepcopy(g)(labels, noise)[0]  # of a copy: in training, spectral norm keeps vectors that move

    images = drawn(z.requires_grad_(), seed=1)
    assert torch.equal(images, drawn(z, seed=2))
    assert (images != drawn(-z, seed=1)).flatten(1).any(1).all(), "each of them"
    images.square().sum().backward()
    assert z.grad.ne(0).all(), "every number of it counts"


@pytest.mark.parametrize("kind", KINDS)
def test_03_a_generator_without_spectral_norm_is_built_trained_and_drawn(data, tmp_path, kind):
    """A peer's --no_spectral_norm ends in a NameError."""
    config = tiny(data, f"generator.kind={kind}", "generator.spectral_norm=false")
    g = build_generator(config, folded=False)
    assert not any(parametrize.is_parametrized(module) for module in g.modules())
    assert fit(config, tmp_path / "run", progress=False).finished
    images = load_generator(tmp_path / "run")(load_prepared(data).split("val").labels[:1], seed=0)
    assert images.shape == (1, 3, 64, 64) and images.isfinite().all()


def test_04_values_outside_the_range_are_clipped_and_the_result_is_used():
    """A peer clips a copy and throws it away, so values wrap around when they become bytes."""
    given = torch.tensor([-1.5, -1.0, 0.0, 1.0, 1.5]).reshape(1, 1, 1, 5).expand(1, 3, 1, 5)
    kept = given.clone()
    assert to_bytes(given)[0, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert to_uint8(given)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert torch.equal(given, kept), "what was given is not changed either"


@pytest.mark.parametrize("d", KINDS)
@pytest.mark.parametrize("g", KINDS)
def test_05_every_loss_reaches_every_parameter(data, monkeypatch, g, d):
    """A peer adds losses as plain numbers: none of the parameters behind them gets a gradient."""
    seen = {name: [] for name in ("focal_gan_loss", "labelmix_loss", "patch_contrastive_loss", "diversity_loss")}

    def watched(name, loss, *given, **named):
        value = loss(*given, **named)
        if value.requires_grad:  # others are for the log
            value.retain_grad()
            seen[name].append(value)
        return value

    for name in seen:
        monkeypatch.setattr(losses, name, partial(watched, name, getattr(losses, name)))
    terms = ("loss.lambda_contrastive=6", "loss.lambda_labelmix=5", "loss.diversity_threshold=9")
    trainer = trainer_of(data, f"generator.kind={g}", f"discriminator.kind={d}", *terms)
    trainer.step(0)
    weights = [[0 if loss.grad is None else loss.grad.item() for loss in found] for found in seen.values()]
    assert weights == [[1, 1, 1], [5], [pytest.approx(2)] * 3, [10]], "of each loss in its sum, in the order of above"
    networks = {"G": trainer.generator, "D": trainer.discriminator, "heads": trainer.patch_head.heads}
    learning = {f"{n}.{k}": p.grad for n, m in networks.items() for k, p in m.named_parameters() if p.requires_grad}
    assert not [name for name, gradient in learning.items() if gradient is None or not gradient.any()]
    assert {name.split(".")[0] for name in learning} == {*networks}


def test_06_no_device_is_written_down(data, trained):
    """Peers say .cuda(): without one nothing runs."""
    for path in [*(ROOT / "dpsims").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]:
        assert ".cuda(" not in path.read_text(encoding="utf-8"), path
    named = set()
    for path, call in nodes(ast.Call):
        if ast.unparse(call.func) != "torch.load":  # onto the CPU first, wherever it then goes
            inside = (node for given in (*call.args, *call.keywords) for node in ast.walk(given))
            constants = (str(node.value) for node in inside if isinstance(node, ast.Constant))
            named |= {path for text in constants if re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d+)?", text)}
    made_here = {"models/attention.py", "models/conditioning.py"}  # what a seed fixes is drawn on the CPU, everywhere
    others = {"checks.py", "processes.py", "trials.py", "gpu_bench.py"}  # one chooses; others are of one kind alone
    assert named <= {f"dpsims/{name}" for name in made_here | others}
    assert not torch.cuda.is_available(), "hidden, see conftest.py"
    assert load_generator(trained, None)(load_prepared(data).split("val").labels[:1], seed=0).device.type == "cpu"
    amount = {"samples_per_map": 2, "diversity_maps": 2, "progress": False}
    assert evaluate_checkpoint(trained, data, device=None, **amount)["generator"]["num_images"] == 4


@pytest.mark.parametrize("kind", ["16 bits", "palette"])
def test_07_values_above_255_and_indices_are_read_as_they_are(tmp_path, kind):
    """Peers cut 16 bits to 255, and take the grey levels of a palette for classes."""
    trees.plant(tmp_path / "in", "custom", "folders", train=1, val=1)
    values = [7, 1000, 26001] if kind == "16 bits" else [0, 1, 2]
    (tmp_path / "in/dataset.yml").write_text(f"names: {{{values[0]}: a, {values[1]}: b, {values[2]}: c}}")
    ids = np.array([[0, 1], [2, 0]]).repeat(25, 0).repeat(25, 1)
    for split in ("train", "val"):
        Image.new("RGB", (50, 50)).save(tmp_path / f"in/images/{split}/shore 0.jpg")
        image = Image.fromarray(np.array(values, np.uint16 if kind == "16 bits" else np.uint8)[ids])
        if kind == "palette":
            image.putpalette([200, 30, 30, 71, 71, 71, 0, 0, 1])
        image.save(tmp_path / f"in/labels/{split}/shore 0.png")
    out, _ = prepare_folders("custom", tmp_path / "in", tmp_path / "out", size=50, **QUIET)
    assert np.array_equal(load_prepared(out).split("train").labels[0], ids + 1)


@pytest.mark.parametrize("size", [16, 33, 96])
def test_08_resizing_makes_no_class_that_was_not_there(tmp_path, size):
    """A peer resizes ids as if they were colours: between class 1 and class 3 lies class 2."""
    trees.plant(tmp_path / "in", "ade20k", train=1, val=1)
    stripes = np.where(np.add.outer(np.arange(50), np.arange(50)) % 3, 1, 149).astype(np.uint8)
    for split in ("train", "val"):
        image, label_map = (tmp_path / "in" / name.format(0) for name in trees.LAYOUTS["ade20k", "official"][split])
        Image.fromarray(stripes).convert("RGB").save(image, quality=95)
        Image.fromarray(stripes).save(label_map)
    out, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=size, **QUIET)
    arrays = load_prepared(out).split("train")
    assert set(np.unique(arrays.labels)) == {1, 149} and len(np.setdiff1d(arrays.images, [1, 149])), "images are"


def test_09_every_data_set_that_the_command_names_can_be_prepared(tmp_path):
    """A peer names a data set, publishes weights for it and cannot read it."""
    there = {dataset for dataset, _ in trees.LAYOUTS}
    assert there == {dataset.value for dataset in Dataset} - {"scenes"}  # drawn, not read
    for dataset in there:
        layout = next(layout for name, layout in trees.LAYOUTS if name == dataset)
        trees.plant(tmp_path / dataset, dataset, layout, train=1, val=1)
        out, _ = prepare_folders(dataset, tmp_path / dataset, tmp_path / f"{dataset} out", size=16, **QUIET)
        assert load_prepared(out).pairs("train").images.shape == (1, 16, 16, 3)


def test_10_every_module_is_in_the_repository(tmp_path):
    """In a peer .gitignore took models/ away: only its owner can run it."""
    listed = subprocess.run(["git", "ls-files", "-z", "dpsims"], capture_output=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git clone")
    files = [name for name in listed.stdout.decode().split("\0") if name]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    modules = [name[:-3].replace("/", ".").removesuffix(".__init__") for name in files if name.endswith(".py")]
    wanted = [(alias.name, []) for _, node in nodes(ast.Import) for alias in node.names]
    wanted += [(str(node.module), [alias.name for alias in node.names]) for _, node in nodes(ast.ImportFrom)]
    wanted = [(module, names) for module, names in wanted if module.split(".")[0] == "dpsims"]
    code = f"""import sys; from importlib import import_module
for module in {modules}: import_module(module)
for module, names in {wanted}: assert all(hasattr(import_module(module), name) for name in names), (module, names)
files = [m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "dpsims"]
print([file for file in files if not file.startswith({str(tmp_path)!r})])"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert said.stdout.strip() == "[]", f"not tracked (git add): {said.stdout}{said.stderr}"


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite4"])
def test_11_levels_are_those_that_timm_says(name):
    """A peer cuts EfficientNet-lite into pieces by the names that its layers had: act1 is gone, so are two blocks."""
    kinds = ("resnet10t", "convnext_atto", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", name)
    with torch.device("meta"):
        layers = {layer for kind in kinds for layer, _ in timm.create_model(kind).named_children()} | {"act1"}
    for path, node in nodes(ast.Attribute):
        if path.startswith("dpsims/models/") and node.attr in layers:
            assert ast.unparse(node.value) == "self", f"{path}: {ast.unparse(node)}"
    backbone, whole = Backbone(name, pretrained=False), timm.create_model(name, features_only=True).eval()
    info = whole.feature_info
    assert (backbone.native_strides, backbone.channels) == (info.reduction()[1:], info.channels()[1:])
    assert not any(whole.load_state_dict(backbone.model.state_dict()))
    images = torch.rand(1, 3, 64, 96) * 2 - 1
    truth = whole((images * 0.5 + 0.5 - backbone.mean) / backbone.std)[1:]
    assert all(torch.equal(a, b) for a, b in zip(backbone(images), truth, strict=True))


def test_12_a_frozen_network_is_frozen(data):
    """A peer writes model.requires_grad = False, which a module takes without a word and which freezes nothing."""
    stores = [(path, node) for path, node in nodes(ast.Attribute) if isinstance(node.ctx, ast.Store)]
    assert not [(path, ast.unparse(node)) for path, node in stores if node.attr == "requires_grad"]
    trainer = trainer_of(data, "loss.lambda_contrastive=1")
    frozen = torch.nn.ModuleList([trainer.discriminator.backbone, trainer.patch_head.backbone])
    before = copy.deepcopy(frozen.state_dict())
    for step in range(2):
        assert not any(p.requires_grad for p in frozen.parameters())
        trainer.step(step)
    assert not [key for key, value in frozen.state_dict().items() if not torch.equal(value, before[key])]


def test_13_nothing_is_defined_twice_and_the_rate_is_that_of_the_schedule(data):
    """A peer defines update_learning_rate twice; what counts is the second one, and the first is read by people."""
    for path, node in nodes(ast.AST):
        body = node.body if isinstance(getattr(node, "body", None), list) else ()
        defined = [n for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
        more = {"overload", "getter", "setter", "deleter", "register"}  # decorators of what may come again
        names = [n.name for n in defined if not more & {ast.unparse(d).split(".")[-1] for d in n.decorator_list}]
        assert len(names) == len(set(names)), f"{path}: {names}"
    settings = ("train.steps=20", "train.warmup_steps=4", "train.decay_from=0.5", "train.lr_generator=1e-3")
    trainer = trainer_of(data, *settings, "train.lr_discriminator=2e-3")
    used = []
    for optimiser in (trainer.g_optimiser, trainer.d_optimiser):
        optimiser.register_step_pre_hook(lambda o, *_: used.append([group["lr"] for group in o.param_groups]))
    for step, factor in {0: 0.25, 3: 1, 10: 1, 15: 0.55}.items():
        used.clear()
        trainer.step(step)
        assert used == [[pytest.approx(factor * 2e-3)], [pytest.approx(factor * 1e-3)]], step  # D, then G


@pytest.mark.parametrize("present", [182, 171, 1])
def test_14_a_perfect_answer_scores_one_whatever_classes_are_absent(present):
    """A peer divides by all 182 classes, of which 11 never occur: 0.94 for a perfect answer."""
    labels = torch.from_numpy(1 + np.arange(200) % present).reshape(1, 10, 20)
    labels[0, 0, :3] = 0
    score = SegmentationScore(182)
    score.update(labels.clamp_min(1) - 1, labels)
    assert score.result()["miou"] == 1.0
    assert sum(iou is not None for iou in score.result()["iou"]) == present
    wrong = SegmentationScore(182)
    wrong.update(torch.full_like(labels, 181), torch.where(labels == 182, 1, labels))
    assert wrong.result()["miou"] == 0.0, "a class that is only predicted counts: it is no absent one"


def test_15_every_figure_stands_under_its_name():
    """In a peer's table mIoU stands under FID and FID under mIoU."""
    rows = {
        "a": {"miou": 0.25, "frechet": 75.0, "diversity_l1": 0.125},
        "b": {"diversity_l1": 0.5, "frechet": 60.0, "miou": 0.75, "moods_per_six": 3.0},  # another order, another set
    }
    head, *lines = report.cells(rows)
    columns = dict(zip(head, zip(*lines, strict=True), strict=True))
    assert columns == {
        "images": ("a", "b"),
        "distance": ("75.0", "60.0"),
        "mIoU": ("0.250", "0.750"),
        "diversity L1": ("0.125", "0.500"),
        "moods in six draws": ("–", "3.00"),
    }
    text = [line.split("|") for line in report.markdown([head, *lines]).splitlines()]
    assert len({len(line) for line in text}) == 1 and [c.strip() for c in text[0][1:-1]] == head


def test_16_nothing_is_a_pickle_and_a_pickle_does_nothing(data, trained, tmp_path):
    """Peers keep their options as pickles and load weights as such: who can write one runs code on your machine."""
    for path, node in nodes(ast.Import, ast.ImportFrom):
        imported = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", None)}
        assert not imported & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}, path
    for path, call in nodes(ast.Call):  # weights are safetensors, arrays npy, the rest JSON
        called, given = ast.unparse(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert called != "torch.load" or given.get("weights_only") == "True", f"{path}: {called}"
        assert called != "np.load" or given.get("allow_pickle", "False") == "False", f"{path}: {called}"
    made, run = tmp_path / "made", shutil.copytree(trained, tmp_path / "run")

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(made),)

    file = resolve(run) / "training_state.pt"
    for write in (lambda: torch.save({"step": Bomb()}, file), lambda: file.write_bytes(pickle.dumps(Bomb(), 2))):
        write()
        with suppress(RuntimeError):
            torch.load(file, weights_only=False)
        made.rmdir()  # it does go off
        with pytest.raises(InputError, match=f"{re.escape(str(file))}: not usable"):
            fit(tiny(data), run, resume=True, progress=False)
        with pytest.raises(InputError, match=f"{re.escape(str(file))}: not a readable state dict"):
            Backbone("texture_resnet10t", file)
        assert not made.exists()
