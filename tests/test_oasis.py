"""The baseline is OASIS: its counts to the last printed digit, and the interfaces of this library."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.flop_counter import FlopCounterMode

from dpsims.models.oasis import DownBlock, OasisDiscriminator, OasisGenerator, UpBlock

SMALL = {"channels": (16, 16, 8, 8), "noise_dim": 4, "hidden": 8}


def millions(network):
    return round(sum(p.numel() for p in network.parameters()) / 1e6, 2)


def gmacs(network, *inputs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(*inputs)
    return round(counter.get_total_flops() / 2e9, 1)


def folded(network):
    """On the meta device; the counts are those of the convolutions alone, not of spectral norm's products."""
    for module in network.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    return network.to("meta")


def test_counts_are_those_of_the_published_code():
    g = OasisGenerator(150, 256, 256)  # ADE20K: 150 classes, and void
    d = OasisDiscriminator(151)  # the published one has a logit for void too
    assert (millions(g), millions(d)) == (74.31, 22.26)
    labels = torch.zeros(1, 256, 256, dtype=torch.long, device="meta")
    assert gmacs(folded(g), labels, torch.zeros(1, 1, 64, device="meta")) == 194.4
    assert gmacs(folded(d), torch.zeros(1, 3, 256, 256, device="meta")) == 48.9


def test_generator_interface():
    torch.manual_seed(0)
    g = OasisGenerator(5, 32, 64, **SMALL)
    labels, noise = torch.randint(0, 6, (2, 32, 64)), g.sample_noise(4)
    images, features = g(labels, noise)
    assert images.shape == (4, 3, 32, 64) and features.shape == (4, 8, 32, 64)
    assert images.abs().max() <= 1
    images.square().mean().backward()
    assert [name for name, p in g.named_parameters() if p.grad is None] == []
    g.eval()
    assert torch.equal(g(labels, noise)[0], g(labels, noise)[0]), "what goes in is what is used (peer defect 2)"
    assert not torch.equal(g(labels, noise)[0], g(labels, g.sample_noise(4))[0])
    each = g(labels.repeat_interleave(2, 0), noise)[0]
    assert torch.allclose(each, g(labels, noise)[0], atol=1e-5), "a map for two noises is the map twice"


def test_regions_hear_their_own_noise():
    torch.manual_seed(0)
    g = OasisGenerator(5, 32, 32, **SMALL).eval()
    labels, noise = torch.randint(0, 6, (1, 32, 32)), torch.randn(1, 2, 1, 4)
    left = torch.zeros(1, 32, 32, dtype=torch.long)
    assert torch.allclose(g(labels, noise, left)[0], g(labels, noise[:, 0])[0], atol=1e-5)
    left[..., 16:] = 1
    mixed, first = g(labels, noise, left)[0], g(labels, noise[:, 0])[0]
    apart = (mixed - first).abs().mean((0, 1, 2))
    assert apart[24:].mean() > 3 * apart[:4].mean()


def test_discriminator_interface():
    torch.manual_seed(0)
    d = OasisDiscriminator(5, channels=(8, 8, 16), last=8)
    logits = d(torch.rand(2, 3, 32, 64))
    assert logits.shape == (2, 6, 32, 64)
    logits.square().mean().backward()
    assert [name for name, p in d.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("block", "factor"),
    [(lambda: DownBlock(6, 8, False), 0.5), (lambda: DownBlock(3, 8, True), 0.5), (lambda: UpBlock(6, 8), 2)],
)
def test_blocks_are_their_shortcut_where_the_branch_is_zero(block, factor):
    torch.manual_seed(0)
    b = block().eval()
    parametrize.remove_parametrizations(b.conv2, "weight")
    nn.init.zeros_(b.conv2.weight)
    nn.init.zeros_(b.conv2.bias)
    x = torch.rand(1, 3 if getattr(b, "first", False) else 6, 8, 8)
    expected = b.skip(x)  # 1x1, so it may stand before or after pooling and nearest up-sampling
    expected = (
        nn.functional.avg_pool2d(expected, 2) if factor < 1 else nn.functional.interpolate(expected, scale_factor=2.0)
    )
    assert torch.allclose(b(x), expected, atol=1e-5)
