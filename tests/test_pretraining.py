"""Pre-training writes weights that timm reads; the shipped ones are what their provenance says."""

import hashlib
import json

import pytest
import timm
import torch
from safetensors.torch import load_file

from dpsims import pretraining
from dpsims.data.texture_world import LIGHTS, render
from dpsims.errors import InputError
from dpsims.models import Backbone
from dpsims.paths import BACKBONES
from dpsims.pretraining import CHANNELS, STRIDES, _Student, _targets, _to_device, pretrain

SHIPPED = BACKBONES / "texture_resnet10t"
TINY = {"size": 32, "steps": 3, "batch_size": 8, "pool": 16, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def few_held_out_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "VALIDATION", 24)
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrain") / "tiny"
    return out, pretrain(out, **TINY)


def test_writes_float16_weights_and_provenance(tiny):
    out, provenance = tiny
    assert sorted(p.name for p in out.iterdir()) == ["provenance.json", "weights.safetensors"]
    assert json.loads((out / "provenance.json").read_text())["sha256"] == provenance["sha256"]
    data = (out / "weights.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == provenance["sha256"]
    state = load_file(out / "weights.safetensors")
    assert {v.dtype for v in state.values()} == {torch.float16, torch.int64}
    assert "--steps 3 --batch-size 8 --pool 16 --seed 0" in provenance["command"]
    expected = {f"{name}_stride_{s}" for name in ("texture_accuracy", "colour_rmse") for s in STRIDES}
    assert expected | {"light_accuracy"} == set(provenance["metrics"])


@pytest.mark.parametrize("kind", [{"num_classes": 0}, {"features_only": True}], ids=str)
def test_keys_fit_timm_strictly(tiny, kind):
    model = timm.create_model("resnet10t", channels=CHANNELS, **kind)
    assert not any(model.load_state_dict(load_file(tiny[0] / "weights.safetensors"), strict=True))


def test_training_moves_the_weights_and_calibrates_the_norms(tiny):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = _Student().trunk.state_dict()
    after = load_file(tiny[0] / "weights.safetensors")
    for name, value in before.items():
        if name.endswith(("conv1.weight", "running_mean", "running_var")):
            assert not torch.allclose(value.float(), after[name].float(), atol=1e-4), name


def test_same_seed_same_weights(tiny, tmp_path):
    assert pretrain(tmp_path, **TINY)["sha256"] == tiny[1]["sha256"]
    assert pretrain(tmp_path, **TINY | {"seed": 1})["sha256"] != tiny[1]["sha256"]


def test_targets_are_shares_of_the_cells():
    textures = torch.zeros(1, 64, 64, dtype=torch.uint8)
    textures[:, :, 40:] = 5
    levels = _targets(textures)
    assert [tuple(t.shape) for t in levels] == [(1, 24, 64 // s, 64 // s) for s in STRIDES]
    assert all(torch.allclose(t.sum(1), torch.ones(())) for t in levels)
    assert levels[3][0, 5, 0].tolist() == [0.0, 0.75] and levels[3][0, 0, 0].tolist() == [1.0, 0.25]


@pytest.mark.parametrize(
    "wrong", [{"size": 40}, {"steps": 0}, {"batch_size": 2}, {"batch_size": 64, "pool": 32}], ids=str
)
def test_bad_arguments_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="pretrain"):
        pretrain(tmp_path, **TINY | wrong)


def test_shipped_weights_are_what_their_provenance_says():
    provenance = json.loads((SHIPPED / "provenance.json").read_text())
    weights = SHIPPED / "weights.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == provenance["sha256"]
    assert provenance["architecture"]["timm"] == "resnet10t" and provenance["architecture"]["channels"] == list(
        CHANNELS
    )
    assert provenance["parameters"] == sum(p.numel() for p in _Student().trunk.parameters())
    assert weights.stat().st_size < 3_000_000


def test_shipped_features_tell_lights_and_textures_apart():
    """Nearest class mean, without any head: lights from pooled stride 32, textures from single cells of stride 8."""
    backbone = Backbone("texture_resnet10t")

    def features(indices, split):
        images, textures, lights = _to_device(render(indices, 64, split=split), torch.device("cpu"))
        with torch.no_grad():
            levels = backbone(images)
        cells = levels[1].permute(0, 2, 3, 1).reshape(-1, CHANNELS[1])
        return levels[-1].mean((2, 3)), lights.long(), cells, _targets(textures)[1].argmax(1).flatten()

    seen, held_out = features(range(384), "train"), features(range(192), "val")
    for at, classes, least in ((0, len(LIGHTS), 0.6), (2, 24, 0.15)):
        scale = seen[at].std(0) + 1e-3
        centres = torch.stack([seen[at][seen[at + 1] == k].mean(0) for k in range(classes)]) / scale
        nearest = torch.cdist(held_out[at] / scale, centres).argmin(1)
        accuracy = (nearest == held_out[at + 1]).float().mean().item()
        assert accuracy > least, (at, accuracy)
