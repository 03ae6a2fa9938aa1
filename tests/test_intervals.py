"""Intervals hold what they should, re-balancing tells lost moods from bad images, the second network sees something."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dpsims.data import scenes
from dpsims.evaluation import texture
from dpsims.evaluation.figures import Draws, Seen, coverage, fidelity, realism
from dpsims.evaluation.frechet import frechet_distance, moments
from dpsims.evaluation.intervals import halves, interval
from dpsims.evaluation.rebalancing import counted_moods, mood_weights
from dpsims.evaluation.segmentation import SegmentationScore
from dpsims.evaluation.segmenter import load_evaluator
from dpsims.evaluation.texture import Standardiser, TextureFeatures, kinship
from dpsims.presets import preset as preset_of

MOODS = scenes.MOODS
COUNT = 120  # maps; many enough that a fair sampler misses no mood


@pytest.fixture(scope="module")
def samplers():
    """What the networks see: real images, and images of the same maps in moods drawn in four ways."""
    evaluator, network = load_evaluator(), TextureFeatures()
    real = draw_scenes(None)
    standardise = Standardiser(network(real))
    drawn = np.random.default_rng(1).integers(len(MOODS), size=COUNT)
    night = MOODS.index("night")
    ways = {
        "fair": draw_scenes(drawn),
        "never night": draw_scenes(np.where(drawn == night, (night + 1 + np.arange(COUNT) % 5) % 6, drawn)),
        "one mood": draw_scenes(np.zeros(COUNT, int)),
        "noisy": (draw_scenes(drawn).int() + 40 * (torch.arange(64) % 2)).clamp(0, 255).to(torch.uint8),
    }

    def see(images):
        judged = evaluator.judge(images)
        return Seen(judged.features, standardise(network(images)), judged.moods.argmax(1))

    return see(real), {name: see(images) for name, images in ways.items()}


def draw_scenes(moods):
    images = scenes.render(np.arange(COUNT), 64, seed=5, split="val", moods=moods).images
    return torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def rows(samplers):
    real, generated = samplers
    return {name: realism(real, seen, MOODS) for name, seen in generated.items()}


# --- intervals


def test_halves_come_in_pairs_and_stay_the_same():
    found = halves(9, 6)
    for first, second in zip(found[::2], found[1::2], strict=True):
        assert len(first) == 4 and sorted([*first, *second]) == list(range(9))
    assert all(np.array_equal(a, b) for a, b in zip(found, halves(9, 6), strict=True))
    assert not np.array_equal(found[0], found[2])


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    low, high = interval(10 + values.mean(), [10 + values[half].mean() for half in halves(400, 2000)])
    assert (high - low) / 2 == pytest.approx(1.645 * values.std(ddof=1) / 20, rel=0.1)
    assert (high + low) / 2 == pytest.approx(10 + values.mean(), abs=0.02)


def test_figures_without_a_value_have_no_interval():
    assert interval(None, [1.0, 2.0]) is None and interval(1.0, []) is None
    assert interval(1.0, [np.nan, np.nan, 1.0]) is None
    assert interval(0.1, [0.0, 1.0, np.nan]) == [0.0, pytest.approx(0.55)]
    assert interval(0.99, [0.0, 1.0], highest=1.0)[1] == 1.0


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.4, 1.3)])
def test_intervals_of_distances_hold_their_expectation_and_bootstrap_does_not(shift, scale):
    """Over 40 pairs of sets: 90 % or more hold the mean distance, and none is absurdly wide."""
    draw, resample = torch.Generator().manual_seed(0), np.random.default_rng(0)
    figures, bounds, lowest = [], [], []
    for _ in range(40):
        real, fake = torch.randn(80, 12, generator=draw), scale * torch.randn(80, 12, generator=draw) + shift

        def distance(some, real=real, fake=fake):
            return frechet_distance(moments(real[some]), moments(fake[some]))

        figures.append(distance(np.arange(80)))
        bounds.append(interval(figures[-1], [distance(half) for half in halves(80, 60)]))
        lowest.append(min(distance(resample.integers(80, size=80)) for _ in range(10)))
    low, high = np.array(bounds).T
    expected, spread = np.mean(figures), np.std(figures)
    assert np.mean((low <= expected) & (expected <= high)) >= 0.9
    assert np.mean(high - low) < 2 * 2 * 1.645 * spread
    if shift == 0:  # the reason for halves: not one of ten bootstrap samples reaches down to the figure of all
        assert np.mean(np.array(lowest) > figures) > 0.9


@pytest.mark.slow
def test_a_fair_sampler_lies_in_its_own_interval(rows):
    for name in ("frechet", "frechet_texture", "frechet_rebalanced"):
        low, high = rows["fair"][f"{name}_interval"]
        assert 0 <= low < rows["fair"][name] < high < 2 * rows["fair"][name]
        assert high < rows["noisy"][f"{name}_interval"][0], "bad images are told from good ones"


def test_too_few_images_have_distances_without_intervals(samplers):
    real, generated = samplers
    few = (Seen(some.features[:3], some.texture[:3], some.moods[:3]) for some in (real, generated["fair"]))
    row = realism(*few, None)
    assert row["frechet"] > 0 and row["frechet_interval"] is None


def test_miou_and_diversity_have_intervals():
    labels = torch.ones(6, 4, 4, dtype=torch.long)
    predictions = torch.zeros_like(labels)
    predictions[:3, :2] = 1  # half of the pixels of half of the images are wrong
    score = SegmentationScore(2)
    score.update(predictions, labels)
    row = fidelity(score, ["a", "b"])
    assert row["miou"] == pytest.approx(0.375)  # (12/16 + 0) / 2
    assert 0 < row["miou_interval"][0] < 0.375 < row["miou_interval"][1] < 1
    row = coverage(Draws([0.1, 0.3], [None, None]), torch.zeros(2), None)
    assert row["diversity_l1_interval"] == pytest.approx([0.1, 0.3]) and row["mood_shares"] is None
    assert coverage(Draws([0.1], [3.0]), torch.zeros(1), MOODS)["diversity_l1_interval"] is None


# --- realism apart from coverage


def test_weights_by_hand():
    real, generated = torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 1, 1, 1, 1, 2])
    assert counted_moods(real, generated) == [0, 1]  # one image of 2 is too few
    of_real, of_generated = mood_weights(real, generated, [0, 1])
    assert of_real.tolist() == [1, 1, 1, 1, 1, 0, 0]
    assert of_generated.tolist() == [1.5, 1.5, 0.5, 0.5, 0.5, 0.5, 0]
    of_real, of_generated = mood_weights(real[3:], generated, [0, 1])  # a half without mood 0
    assert of_real.tolist() == [1, 1, 0, 0] and of_generated.tolist() == [0, 0, 0.5, 0.5, 0.5, 0.5, 0]
    assert counted_moods(real, torch.tensor([2])) == []


@pytest.mark.parametrize(("count", "kept"), [(8, [0, 1]), (7, [0])])
def test_eight_of_five_hundred_are_enough(count, kept):
    assert counted_moods(torch.tensor([0, 0, 1, 1]), torch.tensor([1] * count + [0] * (500 - count))) == kept


@pytest.mark.slow
def test_rebalancing_changes_little_for_a_fair_sampler_and_forgives_lost_moods(rows):
    fair = rows["fair"]
    low, high = fair["frechet_interval"]
    assert max(low, 0.5 * fair["frechet"]) < fair["frechet_rebalanced"] < high  # what is left is the chance of shares
    low, high = fair["frechet_rebalanced_interval"]
    assert high - low < fair["frechet_interval"][1] - fair["frechet_interval"][0], "without it the interval is smaller"
    assert fair["rebalanced_moods"] == list(MOODS)
    for name, lost in (("never night", {"night"}), ("one mood", set(MOODS) - {"day"})):
        row = rows[name]
        assert set(row["rebalanced_moods"]) == set(MOODS) - lost
        assert row["frechet_rebalanced"] < row["frechet"] / 3
        assert row["rebalanced_images"][0] < COUNT
    assert rows["never night"]["frechet_rebalanced"] < 1.6 * fair["frechet"]
    noisy = rows["noisy"]
    assert noisy["frechet_rebalanced"] > noisy["frechet"] / 2, "bad images are not forgiven"


@pytest.mark.slow
def test_data_without_moods_are_not_rebalanced(samplers):
    real, generated = samplers
    row = realism(real, generated["fair"], None)
    assert row["frechet_rebalanced"] is None and row["frechet_rebalanced_interval"] is None
    assert row["rebalanced_moods"] is None and row["rebalanced_images"] is None


# --- the second network


@pytest.mark.slow
def test_texture_features_are_standardised_and_tell_images_apart(samplers, rows):
    real, _ = samplers
    assert torch.allclose(real.texture.mean(0), torch.zeros(1), atol=1e-4)
    assert float(real.texture.std(0, unbiased=False).median()) == pytest.approx(1, abs=1e-3)
    fair, never_night, one_mood = (rows[name]["frechet_texture"] for name in ("fair", "never night", "one mood"))
    assert fair < never_night < one_mood


def test_a_dead_feature_is_not_blown_up():
    real = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    real[:, 2] = 1
    assert Standardiser(real)(real + 0.01)[:, 2].abs().max() < 0.5


def test_the_second_network_is_not_the_discriminators():
    preset = preset_of("scenes64")
    assert texture.NAME != preset.discriminator.backbone and "at most" in kinship(replace_loss(preset, 0.0))
    assert kinship(replace_loss(preset, 1.0)).startswith("the same weights: the contrastive loss")
    same = replace(preset, discriminator=replace(preset.discriminator, backbone=texture.NAME))
    assert kinship(replace_loss(same, 0.0)) == "the same weights: the discriminator's backbone"


def replace_loss(preset, weight):
    return replace(preset, loss=replace(preset.loss, lambda_contrastive=weight, contrastive_backbone=texture.NAME))
