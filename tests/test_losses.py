"""The losses against values computed by hand."""

import math

import pytest
import torch

from dpsims.losses import (
    class_weights,
    diversity_loss,
    focal_gan_loss,
    patch_contrastive_loss,
    rms_normalise,
)


def logits_of(*probabilities):
    """(1, K+1, 1, W) logits whose softmax is what is given, one list a pixel."""
    return torch.tensor(probabilities).log().T[None, :, None, :]


def test_focal_loss_by_hand():
    # K = 2 classes and "fake"; pixel 0 is class 1 with p = .5, pixel 1 is class 2 with p = .8, pixel 2 is void
    logits = logits_of([0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6])
    labels = torch.tensor([[[1, 2, 0]]])
    weights = torch.tensor([0.0, 2.0, 0.5])
    expected = -(2.0 * 0.5**2 * math.log(0.5) + 0.5 * 0.2**2 * math.log(0.8)) / 2
    assert focal_gan_loss(logits, labels, weights, gamma=2.0).item() == pytest.approx(expected, rel=1e-5)
    plain = -(math.log(0.5) + math.log(0.8)) / 2
    assert focal_gan_loss(logits, labels, None, gamma=0.0).item() == pytest.approx(plain, rel=1e-5)


def test_fake_target_counts_every_pixel():
    logits = logits_of([0.5, 0.25, 0.25], [0.1, 0.8, 0.1])
    expected = -((1 - 0.25) ** 2 * math.log(0.25) + (1 - 0.1) ** 2 * math.log(0.1)) / 2
    assert focal_gan_loss(logits, None, torch.zeros(3), gamma=2.0).item() == pytest.approx(expected, rel=1e-5)


def test_void_weighs_nothing_and_all_void_is_zero():
    logits = torch.randn(1, 4, 2, 2, requires_grad=True)
    labels = torch.tensor([[[0, 1], [0, 2]]])
    focal_gan_loss(logits, labels).backward()
    assert logits.grad[0, :, 0, 0].abs().max() == 0 and logits.grad[0, :, 0, 1].abs().max() > 0
    assert focal_gan_loss(logits, torch.zeros(1, 2, 2)).item() == 0


def test_focal_loss_is_finite_where_d_is_certain():
    logits = torch.tensor([200.0, -200.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    for label in (1, 2):
        loss = focal_gan_loss(logits, torch.tensor([[[label]]]))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite() and gradient.isfinite().all()


def test_size_mismatch_is_an_error():
    with pytest.raises(ValueError, match="do not fit"):
        focal_gan_loss(torch.zeros(1, 3, 4, 4), torch.ones(1, 8, 8))


@pytest.mark.parametrize("kind", ["inverse", "sqrt", "clipped", "none"])
def test_class_weights_are_normalised(kind):
    pixels = [500, 90, 9, 1, 0]  # void is frequent, class 4 never occurs
    alpha = class_weights(pixels, kind)
    frequency = torch.tensor([0.0, 0.9, 0.09, 0.01, 0.0])
    assert (alpha * frequency).sum().item() == pytest.approx(1, rel=1e-5)
    assert alpha[0] == 0 and alpha[4] == 0 and alpha.isfinite().all()
    ratio = {"inverse": 90, "sqrt": 90**0.5, "clipped": 10, "none": 1}[kind]
    assert (alpha[3] / alpha[1]).item() == pytest.approx(ratio, rel=1e-4)


def test_contrastive_loss_by_hand():
    fake = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])  # normalised inside
    real = torch.tensor([[[3.0, 0.0], [0.0, 1.0]]])
    tau = 0.5
    expected = -math.log(math.exp(1 / tau) / (math.exp(1 / tau) + math.exp(0)))
    assert patch_contrastive_loss(fake, real, tau).item() == pytest.approx(expected, rel=1e-5)
    same = torch.ones(2, 7, 3)
    assert patch_contrastive_loss(same, same).item() == pytest.approx(math.log(7), rel=1e-5)


def test_contrastive_negatives_come_from_the_same_image():
    fake, real = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    alone = (patch_contrastive_loss(fake[:1], real[:1]) + patch_contrastive_loss(fake[1:], real[1:])) / 2
    assert patch_contrastive_loss(fake, real).item() == pytest.approx(alone.item(), rel=1e-5)


def test_diversity_loss_by_hand():
    first, second = torch.zeros(2, 1, 2, 2), torch.stack([torch.full((1, 2, 2), 0.1), torch.full((1, 2, 2), 0.9)])
    z1, z2 = torch.zeros(2, 3, 2), torch.full((2, 3, 2), 0.5)
    # pair 0: .1 / .5 = .2, .3 below the threshold; pair 1: 1.8, far above it
    assert diversity_loss(first, second, z1, z2, threshold=0.5).item() == pytest.approx(0.15, rel=1e-5)


def test_diversity_does_not_depend_on_the_size():
    first, second, z1, z2 = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), torch.randn(1, 4, 2), torch.randn(1, 4, 2)
    large = [torch.nn.functional.interpolate(x, scale_factor=4) for x in (first, second)]
    small = diversity_loss(first, second, z1, z2, 2.0)
    assert diversity_loss(*large, z1, z2, 2.0).item() == pytest.approx(small.item(), rel=1e-5)


def test_scaling_features_does_not_meet_the_diversity_loss():
    features = torch.randn(2, 4, 3, 3)
    assert torch.allclose(rms_normalise(features), rms_normalise(100 * features), rtol=1e-5)
