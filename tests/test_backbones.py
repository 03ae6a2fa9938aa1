"""Any timm backbone: the families, their sizes, their weights from local files."""

import random

import pytest
import timm
import torch
from safetensors.torch import save_file

from dpsims import backbone_costs
from dpsims.errors import InputError
from dpsims.files import read_json
from dpsims.models import Discriminator
from dpsims.models.backbone import Backbone, to_grid
from dpsims.models.timm_pyramid import choose_levels

PLAIN = [16, 16, 16, 16]
# name, strides of its own levels, whether it takes one size alone
FAMILIES = {
    "resnet18": ([4, 8, 16, 32], False),
    "resnet50": ([4, 8, 16, 32], False),
    "resnet50_clip": ([4, 8, 16, 32], False),
    "regnety_004": ([4, 8, 16, 32], False),
    "regnetx_002": ([4, 8, 16, 32], False),
    "efficientnet_b0": ([4, 8, 16, 32], False),
    "tf_efficientnet_lite0": ([4, 8, 16, 32], False),
    "tf_efficientnetv2_b0": ([4, 8, 16, 32], False),
    "mobilenetv3_small_050": ([4, 8, 16, 32], False),
    "convnext_atto": ([4, 8, 16, 32], False),
    "convnext_tiny": ([4, 8, 16, 32], False),
    "convnextv2_atto": ([4, 8, 16, 32], False),
    "mambaout_femto": ([4, 8, 16, 32], False),
    "swin_tiny_patch4_window7_224": ([4, 8, 16, 32], False),
    "swinv2_tiny_window8_256": ([4, 8, 16, 32], False),
    "maxvit_rmlp_pico_rw_256": ([4, 8, 16, 32], True),
    "maxvit_tiny_tf_224": ([4, 8, 16, 32], True),
    "hrnet_w18_small": ([4, 8, 16, 32], False),
    "vgg11": ([4, 8, 16, 32], False),
    "vit_tiny_patch16_224": (PLAIN, False),
    "vit_small_patch16_224": (PLAIN, False),  # as MAE and DINO have it
    "vit_small_patch14_dinov2": ([14] * 4, False),
    "vit_base_patch16_clip_224": (PLAIN, False),
    "levit_128s": ([16, 16, 16, 32], True),
    "mixer_s32_224": ([32] * 4, True),
}


def small(name, size, **more):
    torch.manual_seed(0)
    return Discriminator(name, 5, pretrained=False, channels=(8,) * 6, size=size, **more)


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (256, 512)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", FAMILIES)
def test_families(name, size):
    strides, built_for_size = FAMILIES[name]
    d = small(name, size)
    assert d.backbone.native_strides == strides and d.backbone.strides == [4, 8, 16, 32]
    assert d.backbone.fixed == (size if built_for_size else None)
    images = (torch.rand(1, 3, *size) * 2 - 1).requires_grad_()
    features = d.features(images)
    grids = [(-(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 16, 32)]
    assert [tuple(f.shape) for f in features] == [(1, c, *g) for c, g in zip(d.backbone.channels, grids, strict=True)]
    logits = d.decode(d.conditioning(features), size)
    logits.square().mean().backward()
    assert logits.shape == (1, 6, *size) and logits.isfinite().all()
    assert images.grad.isfinite().all() and images.grad.abs().sum() > 0, "G learns through the frozen encoder"
    assert all(p.grad is None for p in d.backbone.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", random.Random(0).sample(timm.list_models(), 30))
def test_names_drawn_at_random_work_or_say_why_not(name):
    try:
        d = small(name, (256, 256))
    except InputError as error:
        assert name in str(error) and len(str(error)) > len(name) + 40
        return
    assert d(torch.rand(1, 3, 256, 256)).shape == (1, 6, 256, 256)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "vit_small_patch14_dinov2", "levit_128s"])
def test_images_of_another_size_than_announced(name):
    d = small(name, (64, 64))
    assert d(torch.rand(2, 3, 75, 101)).shape == (2, 6, 75, 101)


def test_models_that_take_one_size_get_resized_images_once_they_have_weights(tmp_path):
    name = "maxvit_tiny_tf_224"  # its tables of relative positions have another shape at another size
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    backbone = Backbone(name, tmp_path / "weights.pth", size=(64, 96))
    assert backbone.fixed == (224, 224)
    features = backbone(torch.rand(1, 3, 64, 96))
    assert [f.shape[-2:] for f in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize(
    "name",
    ["resnet18", "convnext_atto", "efficientnet_b0", "swin_tiny_patch4_window7_224", "regnety_004", "mambaout_femto",
     "maxvit_rmlp_pico_rw_256", "vit_tiny_patch16_224", "efficientvit_b0", "dpn48b"],
)  # fmt: skip
def test_a_local_file_of_the_classifier_or_of_its_features(name, tmp_path):
    torch.manual_seed(1)
    classifier = timm.create_model(name)
    torch.save({"state_dict": classifier.state_dict()}, tmp_path / "classifier.pth")
    save_file(classifier.state_dict(), tmp_path / "classifier.safetensors")
    by_timm = timm.create_model(
        name,
        features_only=True,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "classifier.safetensors")},
    ).eval()
    size = timm.get_pretrained_cfg(name).input_size[-2:]
    images = torch.rand(1, 3, *size) * 2 - 1
    backbone = Backbone(name, tmp_path / "classifier.pth", size=size)
    truth = by_timm((images * 0.5 + 0.5 - backbone.mean) / backbone.std)[-1]
    truth = truth if truth.shape[1] == backbone.channels[-1] else truth.permute(0, 3, 1, 2)
    coarsest = backbone.model((images * 0.5 + 0.5 - backbone.mean) / backbone.std)[-1]
    coarsest = coarsest if coarsest.shape[1] == backbone.channels[-1] else coarsest.permute(0, 3, 1, 2)
    assert torch.allclose(coarsest, truth, rtol=1e-4, atol=1e-4)
    save_file(backbone.model.state_dict(), tmp_path / "features.safetensors")
    again = Backbone(name, tmp_path / "features.safetensors", size=size)
    assert all(torch.equal(a, b) for a, b in zip(again(images), backbone(images), strict=True))


def test_levels_go_to_the_nearest_stride_and_are_shared_out():
    wanted = (4, 8, 16, 32)
    assert choose_levels([2, 4, 8, 16, 32], wanted) == [1, 2, 3, 4]
    assert choose_levels([16] * 12, wanted) == [2, 5, 8, 11]
    assert choose_levels([16] * 3, wanted) == [0, 1, 2, 2]
    assert choose_levels([16, 32, 64], wanted) == [0, 0, 0, 1]
    assert choose_levels([4, 8, 16], wanted) == [0, 1, 2, 2]
    assert choose_levels([8, 16, 16, 16], wanted) == [0, 0, 2, 3]


def test_features_are_interpolated_to_the_grid_of_the_image():
    ramp = torch.arange(19.0).mul(14).add(7)  # centres of the cells of a model of stride 14, in pixels
    feature = ramp.view(1, 1, 19, 1).expand(1, 1, 19, 19)
    for stride in (4, 8, 16, 32):
        rows = to_grid(feature, (266, 266), (256, 256), stride)[0, 0, :, 0]
        centres = (torch.arange(256 // stride) + 0.5) * stride
        inner = (centres >= 7) & (centres <= 259)
        assert torch.allclose(rows[inner], centres[inner], atol=1e-2)


@pytest.mark.parametrize("name", ["resnet-50", "convnext_larg", "dinov3"])
def test_a_wrong_name_suggests_the_nearest(name):
    with pytest.raises(InputError, match=f"unknown backbone '{name}'; did you mean .+, .+, .+"):
        Backbone(name, pretrained=False)


def test_the_counts_in_the_readme_are_those_of_the_tested_models():
    assert backbone_costs.TESTED == tuple(FAMILIES)
    stored = read_json(backbone_costs.FILE, "")
    assert list(stored) == [*backbone_costs.TESTED, *backbone_costs.PAPER]
    for name in ("resnet18", "vit_small_patch14_dinov2", "levit_128s", "convnext_large"):
        assert backbone_costs.cost(name) == stored[name]
    assert stored["convnext_large"]["gmacs"] == 44.88 and "44.88" in backbone_costs.table()
