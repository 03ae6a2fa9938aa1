"""Backbone, feature conditioning, discriminator and generator."""

import numpy as np
import pytest
import torch
from torch import nn

from dpsims.checkpoint import fold_spectral_norm
from dpsims.errors import InputError
from dpsims.losses import focal_gan_loss
from dpsims.models import Backbone, Discriminator, FeatureConditioning, Generator
from dpsims.models.conditioning import group_size
from dpsims.models.patch_head import LEVELS, PatchHead

SMALL_D = (16, 16, 16, 16, 16, 16)
SMALL_G = {
    "channels": (16, 16, 16, 16, 16, 16),
    "label_channels": 8,
    "noise_tokens": 4,
    "noise_dim": 8,
    "noise_heads": 2,
}


def small_generator(**options):
    torch.manual_seed(0)
    return Generator(5, 64, 64, **(SMALL_G | options))


def small_discriminator(**options):
    torch.manual_seed(0)
    return Discriminator("texture_resnet10t", 5, channels=SMALL_D, **options)


def test_backbone_stays_frozen_and_in_evaluation_mode():
    backbone = Backbone("texture_resnet10t")
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    backbone.train()
    assert not backbone.training and not any(m.training for m in backbone.modules())
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    features = backbone(images)
    assert [f.shape[1:] for f in features] == [(32, 16, 16), (64, 8, 8), (128, 4, 4), (256, 2, 2)]
    sum(f.sum() for f in features).backward()
    assert images.grad.abs().sum() > 0, "the generator learns through the frozen encoder"
    assert all(p.grad is None for p in backbone.parameters())
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())


def test_backbone_uses_its_own_mean_and_std():
    clip = Backbone("resnet50_clip.openai", pretrained=False)
    assert clip.mean.flatten()[0].item() == pytest.approx(0.48145466)
    seen = []
    backbone = Backbone("resnet18", pretrained=False)
    backbone.model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    backbone(torch.ones(1, 3, 32, 32))
    assert seen[0][0, 0, 0, 0].item() == pytest.approx((1 - 0.485) / 0.229, rel=1e-4)


def test_backbone_errors_name_the_remedy(tmp_path):
    with pytest.raises(InputError, match="did you mean .*texture_resnet10t"):
        Backbone("texture_resnet10")
    with pytest.raises(InputError, match="no such file"):
        Backbone("resnet18", pretrained=str(tmp_path / "no.safetensors"))
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "foreign.pth")
    with pytest.raises(InputError, match="lacks"):
        Backbone("resnet18", pretrained=str(tmp_path / "foreign.pth"))


def test_a_local_classifier_state_dict_is_enough(tmp_path):
    import timm

    whole = timm.create_model("resnet18", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "whole.pth")  # with the classifier, as such files come
    backbone = Backbone("resnet18", pretrained=tmp_path / "whole.pth")
    assert torch.equal(backbone.model.conv1.weight, whole.conv1.weight)


def random_features(channels=(6, 8), batch=64):
    """Ill-conditioned on purpose: one channel dominates, neighbours are correlated, one is dead."""
    generator = torch.Generator().manual_seed(3)
    out = []
    for c in channels:
        x = torch.randn(batch, c, 4, 4, generator=generator)
        x[:, 1] = 0.9 * x[:, 0] + 0.1 * x[:, 1]
        x[:, 2] *= 5
        x[:, 3] = 0.7
        out.append(x)
    return out


def fitted(features, **options):
    conditioning = FeatureConditioning([f.shape[1] for f in features], **options)
    halves = [[f[:20] for f in features], [f[20:] for f in features]]
    conditioning.fit(lambda: iter(halves))
    return conditioning


def test_conditioning_normalises_and_whitens():
    features = random_features()
    out = fitted(features, shrinkage=0.0)(features)[0].double()
    flat = out.transpose(0, 1).flatten(1)
    alive = [0, 1, 2, 4, 5]
    covariance = flat.cov(correction=0)[alive][:, alive]
    assert flat.mean(1).abs().max() < 1e-3
    assert (covariance - torch.eye(len(alive))).abs().max() < 0.02
    assert flat[3].abs().max() < 10, "a dead channel divides by nothing"


def test_conditioning_statistics_equal_numpy():
    features = random_features()
    level = fitted(features, decorrelation="none").levels[1]
    squashed = 1 / (1 + np.exp(-features[1].double().numpy()))
    assert np.allclose(level.mean.numpy(), squashed.mean(axis=(0, 2, 3)), atol=1e-6)
    std = squashed.std(axis=(0, 2, 3))
    assert np.allclose(level.scale.numpy(), np.maximum(std, 0.05 * np.median(std)), rtol=2e-2)


@pytest.mark.parametrize("nonlinearity", ["sigmoid_normalise", "normalise_sigmoid", "none"])
@pytest.mark.parametrize("decorrelation", ["zca", "random_orthogonal", "random_mixing", "none"])
def test_every_mode_is_finite_and_keeps_shapes(nonlinearity, decorrelation):
    features = random_features()
    conditioning = fitted(features, nonlinearity=nonlinearity, decorrelation=decorrelation)
    out = conditioning(features)
    assert all(o.shape == f.shape and o.isfinite().all() for o, f in zip(out, features, strict=True))
    if (nonlinearity, decorrelation) == ("none", "none"):
        assert torch.equal(out[0], features[0])


def test_statistics_are_constants():
    features = random_features()
    conditioning = fitted(features)
    alone = conditioning([f[:1] for f in features])[0]
    assert torch.allclose(alone, conditioning(features)[0][:1], atol=1e-5), "a sample must not depend on its batch"


def test_noise_modes_and_order():
    features = random_features()
    draw = torch.ones
    for mode, sigma in (("off", 0.0), ("fixed", 0.3), ("dynamic", 0.0)):
        conditioning = fitted(features, noise=mode, noise_max=0.3, decorrelation="none")
        change = conditioning(features, draw)[0] - conditioning(features)[0]
        assert change.max().item() == pytest.approx(sigma, abs=1e-6)
    first = fitted(features, noise="fixed", noise_max=0.3, noise_last=False)
    last = fitted(features, noise="fixed", noise_max=0.3, noise_last=True)
    assert not torch.allclose(first(features, draw)[0], last(features, draw)[0])


def test_dynamic_noise_follows_the_gap():
    conditioning = FeatureConditioning([4], noise="dynamic", noise_max=0.2, noise_beta=0.5)
    assert conditioning.sigma.item() == 0
    conditioning.update_noise(torch.tensor(0.0))
    assert conditioning.sigma.item() == pytest.approx(0.5 * 0.2 * 0.5)
    for _ in range(60):
        conditioning.update_noise(torch.tensor(50.0))
    assert conditioning.sigma.item() == pytest.approx(0.2, rel=1e-4), "D far ahead: the most noise"
    for _ in range(60):
        conditioning.update_noise(torch.tensor(-50.0))
    assert conditioning.sigma.item() == pytest.approx(0.0, abs=1e-6)


def test_group_size():
    assert [group_size(c) for c in (32, 64, 128, 192, 1536, 7, 97)] == [32, 64, 64, 64, 64, 7, 1]


def test_discriminator_shapes_and_gradients():
    d = small_discriminator()
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    logits = d(images)
    assert logits.shape == (2, 6, 64, 64)
    labels = torch.randint(0, 6, (2, 64, 64))
    (focal_gan_loss(logits, labels) + focal_gan_loss(logits, None)).backward()
    assert images.grad.abs().sum() > 0
    without = [n for n, p in d.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    assert not without, without
    assert all(p.grad is None for p in d.backbone.parameters())


def test_discriminator_takes_sizes_that_are_no_multiple_of_32():
    assert small_discriminator()(torch.rand(1, 3, 72, 104)).shape == (1, 6, 72, 104)


def test_generator_gradients_reach_every_parameter():
    for options in ({}, {"attention": "both", "norm": "batch", "upsample": "nearest", "spectral_norm": False}):
        g = small_generator(**options)
        images, features = g(torch.randint(0, 6, (2, 64, 64)), g.sample_noise(2))
        assert images.shape == (2, 3, 64, 64) and images.abs().max() <= 1
        assert features.shape == (2, 16, 64, 64)
        (images * torch.randn_like(images)).sum().backward()
        without = [n for n, p in g.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not without, without


def test_the_noise_given_is_the_noise_used():
    g = small_generator().eval()
    labels = torch.randint(0, 6, (1, 64, 64))
    z1, z2 = g.sample_noise(1), g.sample_noise(1)
    with torch.inference_mode():
        assert torch.equal(g(labels, z1)[0], g(labels, z1)[0])
        assert (g(labels, z1)[0] - g(labels, z2)[0]).abs().mean() > 1e-3


def test_noise_starts_at_the_scale_of_the_label_features():
    torch.manual_seed(0)
    g = Generator(12, 64, 64, channels=(32,) * 6, label_channels=32)
    onehot = g.onehot(torch.randint(0, 13, (8, 64, 64)))
    tokens = g.mapping(g.sample_noise(8))
    for features, attend in zip(g.label_encoder(onehot), g.noise, strict=True):
        ratio = attend(features, tokens).square().mean().sqrt() / features.square().mean().sqrt()
        assert 0.5 < ratio.item() < 2


def test_noise_attention_weights_are_those_used():
    g = small_generator()
    features = g.label_encoder(g.onehot(torch.randint(0, 6, (2, 64, 64))))[0]
    weights = g.noise[0].weights(features, g.mapping(g.sample_noise(2)))
    assert weights.shape == (2, 2, 4, 16)  # B, heads, N, pixels
    assert torch.allclose(weights.sum(2), torch.ones(2, 2, 16), atol=1e-5)


def test_void_can_be_painted():
    g = small_generator().eval()
    assert g(torch.zeros(1, 64, 64), g.sample_noise(1))[0].isfinite().all()
    assert g.onehot(torch.tensor([[[0, 5]]])).argmax(1).tolist() == [[[0, 5]]]


def test_folding_spectral_norm_changes_no_image():
    g = small_generator().train()
    labels, z = torch.randint(0, 6, (1, 64, 64)), g.sample_noise(1)
    folded = fold_spectral_norm(g, iterations=200)
    for _ in range(200):  # let the power iteration of the original converge too
        _ = [m.weight for m in g.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        assert torch.allclose(g.eval()(labels, z)[0], folded(labels, z)[0], atol=1e-4)
    assert not any("parametrizations" in name for name, _ in folded.named_parameters())


def test_patch_head_reads_the_same_places():
    head = PatchHead("texture_resnet10t", features=16)
    images = torch.rand(2, 3, 64, 64)
    places = torch.rand(2, LEVELS, 5)
    out = head(images, places)
    assert [o.shape for o in out] == [(2, 5, 16)] * LEVELS
    feature = head.backbone(images)[0]
    row = int(places[1, 0, 3] * 256)
    assert torch.allclose(out[0][1, 3], head.heads[0](feature[1, :, row // 16, row % 16]), atol=1e-5)


def test_queries_that_know_their_place():
    g = small_generator(noise_places=True).eval()
    labels, z = torch.ones(1, 64, 64, dtype=torch.long), g.sample_noise(1, torch.Generator().manual_seed(0))
    layer = g.noise[-1]
    features = torch.ones(1, 8, 64, 64)  # the same everywhere: only the place can make a difference
    field = layer(features, g.mapping(z))
    assert field.std(dim=(2, 3)).max() < 1e-4, "it starts without effect"
    without = g(labels, z)[0]
    for attend in g.noise:
        nn.init.normal_(attend.from_place.weight)
    n = layer(features, g.mapping(z))[0, 0]
    n = (n - n.mean()) / n.std()
    for neighbours in (n[1:, :] * n[:-1, :], n[:, 1:] * n[:, :-1], n[8:, :] * n[:-8, :]):
        assert neighbours.mean().abs() < 0.08, "neighbours know nothing of each other"
    assert torch.equal(g(labels, z)[0], g(labels, z)[0]), "z is all the noise there is"
    assert not torch.equal(g(labels, z)[0], without)
    assert all("places" not in key for key in g.state_dict()), "fixed by code, so not stored"


def test_replicated_borders_survive_folding():
    labels = torch.ones(1, 64, 64, dtype=torch.long)  # one class everywhere: only the border can make a difference
    g = small_generator(padding="replicate", attention="none", label_channels=8)
    z = g.sample_noise(1, torch.Generator().manual_seed(0))
    for _ in range(40):  # until the power iteration has converged
        g(labels, z)
    g.eval()
    plain, folded = g(labels, z)[0], fold_spectral_norm(g)(labels, z)[0]
    assert torch.allclose(plain, folded, atol=0.05)
    zeros = small_generator(padding="zeros", attention="none", label_channels=8).eval()
    zeros.load_state_dict(g.state_dict())

    def frame(image):
        return (image[..., 0, 24:40] - image[..., 8, 24:40]).abs().mean()

    assert frame(folded) < frame(zeros(labels, z)[0])


def test_a_level_at_stride_2():
    d = small_discriminator(finest_stride=2)
    assert d.backbone.strides == [2, 4, 8, 16, 32] and d.backbone.channels[0] == 64
    assert d(torch.rand(1, 3, 64, 64)).shape == (1, 6, 64, 64)
    with pytest.raises(InputError, match="no level of stride 2"):
        Discriminator("convnext_atto", 5, pretrained=False, channels=SMALL_D, finest_stride=2)


def test_the_image_itself_as_a_level():
    d = small_discriminator(finest_stride=1)
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    features = d.features(images)
    assert d.strides == [1, 4, 8, 16, 32] and features[0].shape == (1, 12, 32, 32)
    assert torch.equal(torch.nn.functional.pixel_shuffle(features[0], 2), images), "nothing of it is lost"
    assert d(images).shape == (1, 6, 64, 64)


def test_noise_by_region():
    g = small_generator(noise_places=True).eval()
    for attend in g.noise:
        nn.init.normal_(attend.from_place.weight)
    labels = torch.randint(0, 6, (1, 64, 64), generator=torch.Generator().manual_seed(1))
    z = g.sample_noise(2, torch.Generator().manual_seed(0))
    regions = torch.zeros(1, 64, 64, dtype=torch.long)
    regions[:, :, 32:] = 1
    with torch.no_grad():
        one = g(labels, z[:1])[0]
        assert torch.allclose(one, g(labels, z[None], torch.zeros_like(regions))[0], atol=1e-4), "one is not heard"
        assert torch.allclose(one, g(labels, z[:1].expand(2, -1, -1)[None], regions)[0], atol=1e-4)
        changed = (g(labels, z[None], regions)[0] - one).abs().mean((0, 1, 2))
    assert changed[40:].mean() > 1.5 * changed[:24].mean(), (changed[40:].mean(), changed[:24].mean())


def test_one_map_for_several_noises_is_the_same_as_the_map_repeated():
    g = small_generator(noise_places=True, noise_max_size=16).eval()  # no noise at the finest levels
    labels = torch.randint(0, 6, (2, 64, 64), generator=torch.Generator().manual_seed(1))
    z = g.sample_noise(6, torch.Generator().manual_seed(0))
    with torch.no_grad():
        once, repeated = g(labels, z)[0], g(labels.repeat_interleave(3, dim=0), z)[0]
    assert once.shape == (6, 3, 64, 64) and torch.allclose(once, repeated, atol=1e-4)
    assert not torch.allclose(once[0], once[3], atol=1e-2), "another map"
