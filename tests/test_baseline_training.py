"""Every combination of {generator, discriminator, conditioning, losses} trains: from DP-SIMS to OASIS."""

import csv
import itertools

import pytest
import torch
import torch.nn.functional as F
import trees
from torch import nn
from trees import scenes_of

from dpsims import losses
from dpsims.checkpoint import export_run
from dpsims.config import override
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError
from dpsims.presets import preset
from dpsims.synthesis import load_discriminator, load_generator
from dpsims.training import Trainer, fit

OASIS = ("loss.class_weights=batch", "loss.lambda_labelmix=10", "loss.focal_gamma=0", "loss.lambda_diversity=0")
KINDS = ("dp_sims", "oasis")


data = scenes_of(24)


def tiny(data, *settings):
    return trees.tiny(data, "train.bf16=false", *settings)


@pytest.mark.parametrize("conditioning", ["zca", "random_mixing"])
@pytest.mark.parametrize("terms", [(), OASIS], ids=["dp_sims", "oasis"])
@pytest.mark.parametrize(("g", "d"), list(itertools.product(KINDS, KINDS)))
def test_every_combination_learns(data, g, d, terms, conditioning):
    settings = (f"generator.kind={g}", f"discriminator.kind={d}", f"discriminator.decorrelation={conditioning}", *terms)
    trainer = Trainer(tiny(data, *settings, "train.warmup_steps=0"), load_prepared(data))
    trainer.fit_conditioning(progress=False)
    networks = {"G": trainer.generator, "D": trainer.discriminator}
    before = {(k, n): p.clone() for k, m in networks.items() for n, p in m.named_parameters() if p.requires_grad}
    log = trainer.step(0, measure=True)
    log = trainer.step(1) | {name: log[name] for name in log if name.startswith("saturated")}
    assert all(torch.as_tensor(value).isfinite().all() for value in log.values())
    assert any(name.startswith("saturated") for name in log) == (d == "dp_sims")
    still = [key for key, p in before.items() if torch.equal(p, dict(networks[key[0]].named_parameters())[key[1]])]
    assert not [key for key in still if "places" not in key[1]], still


def test_the_baseline_from_training_to_images(data, tmp_path):
    settings = ("generator.kind=oasis", "discriminator.kind=oasis", *OASIS, "train.noises_per_map=1", "train.steps=4")
    config = tiny(data, *settings)
    assert fit(config, tmp_path / "run", progress=False).finished
    with (tmp_path / "run/metrics.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["sigma"]) == 0
    g = load_generator(tmp_path / "run")
    labels = load_prepared(data).split("val").labels[:2]
    images = g(labels.copy(), seed=3)
    assert images.shape == (2, 3, 64, 64) and g.noise_shape == (1, 8)
    export_run(tmp_path / "run", tmp_path / "export")
    assert torch.allclose(load_generator(tmp_path / "export")(labels.copy(), seed=3), images, atol=2e-2)
    assert load_discriminator(tmp_path / "run")(images.clone()).shape == (2, 13, 64, 64)


def test_batch_weights_are_those_of_oasis():
    labels = torch.tensor([[[0, 1, 1, 1], [2, 2, 0, 1]]])  # of 8 pixels 2 void, 4 of class 1, 2 of class 2
    weights = losses.batch_class_weights(losses.class_counts(labels, 3))
    assert weights.tolist() == [0, 6 / (2 * 4), 6 / (2 * 2), 0]
    logits = torch.randn(1, 4, 2, 4)
    cross_entropy = F.cross_entropy(logits, (labels - 1).clamp_min(0), reduction="none")
    per_class = [cross_entropy[labels == c].sum() / ((labels == c).sum() * 2) for c in (1, 2)]
    ours = losses.focal_gan_loss(logits, labels, weights, gamma=0)
    assert ours.item() == pytest.approx(float(sum(per_class)), rel=1e-5), (
        "as the published code: a mean over all pixels"
    )
    assert losses.batch_class_weights(torch.tensor([4, 0, 0, 0])).tolist() == [0, 0, 0, 0]


def test_labelmix_swaps_whole_classes_and_is_zero_for_a_local_discriminator():
    labels = torch.tensor([[[0, 1], [2, 2]]])
    mask = losses.labelmix_mask(labels, torch.tensor([0.9, 0.1, 0.7]))
    assert mask.tolist() == [[[[1, 0], [1, 1]]]]
    torch.manual_seed(0)
    d, real, fake = nn.Conv2d(3, 4, 1), torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2)
    mixed = d(mask * real + (1 - mask) * fake)
    assert losses.labelmix_loss(mixed, d(real), d(fake), mask).item() == pytest.approx(0, abs=1e-10)
    assert losses.labelmix_loss(mixed + 2, d(real), d(fake), mask).item() == pytest.approx(4, rel=1e-5)


def test_sizes_that_cannot_be_halved_six_times_are_refused():
    with pytest.raises(InputError, match="96 x 96 must be multiples of 64, which discriminator.kind=oasis halves six"):
        override(preset("tiny"), ["discriminator.kind=oasis", "data.height=96", "data.width=96"])


def test_an_unknown_kind_is_refused():
    for part in ("generator", "discriminator"):
        with pytest.raises(InputError, match=f"{part}.kind: 'spade' is not one of dp_sims, oasis"):
            override(preset("tiny"), [f"{part}.kind=spade"])
