"""The measuring instruments themselves: hand-computed values, self-tests on real images, determinism, bad input."""

import dataclasses
import itertools
import json
import shutil
import sys
from types import ModuleType
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from dpsims.data import scenes
from dpsims.data.prepare import prepare_scenes
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError
from dpsims.evaluation import diversity, protocol
from dpsims.evaluation.frechet import effective_size, frechet_distance, moments
from dpsims.evaluation.protocol import evaluate, evaluate_checkpoint, reference_rows
from dpsims.evaluation.references import (
    blurred,
    colour_by_class_and_mood,
    mean_colours,
    redrawn,
    rows_for,
    same_image,
)
from dpsims.evaluation.seeds import map_and_draw, sample_seed
from dpsims.evaluation.segmentation import SegmentationScore
from dpsims.evaluation.segmenter import load_evaluator, train_evaluator
from dpsims.images import from_bytes, to_bytes
from dpsims.paths import CHECKPOINTS, EVALUATORS
from dpsims.presets import preset

SMALL = {"diversity_maps": 2, "samples_per_map": 6, "batch_size": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepare_scenes(tmp_path_factory.mktemp("data") / "scenes", size=64, n=24, n_val=12, progress=False)


@pytest.fixture(scope="module")
def data(folder):
    return load_prepared(folder)


@pytest.fixture(scope="module")
def evaluator():
    return load_evaluator()


@pytest.fixture(scope="module")
def rows(data, evaluator):
    return reference_rows(data, evaluator, cache=False, progress=False, **SMALL)


# --- segmentation


def test_perfect_prediction_scores_exactly_one_with_absent_classes_and_void():
    labels = torch.tensor([[[1, 2, 0], [7, 7, 0]]])
    score = SegmentationScore(12)
    score.update(torch.tensor([[[0, 1, 5], [6, 6, 11]]]), labels)  # anything goes on void
    result = score.result()
    assert result["miou"] == 1.0 and result["pixel_accuracy"] == 1.0
    assert [i for i, v in enumerate(result["iou"]) if v is not None] == [0, 1, 6]


def test_iou_equals_a_confusion_matrix_counted_by_hand_over_the_whole_set():
    draw = np.random.default_rng(0)
    labels, predictions = draw.integers(0, 6, (7, 5, 4)), draw.integers(0, 5, (7, 5, 4))
    labels[:3][labels[:3] == 4] = 0  # images differ in their classes, so a mean over images would be another number
    counts = np.zeros((5, 5))
    for label, prediction in zip(labels.ravel(), predictions.ravel(), strict=True):
        if label:
            counts[label - 1, prediction] += 1
    iou = np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))
    score = SegmentationScore(5)
    for part in (slice(0, 2), slice(2, 7)):
        score.update(torch.from_numpy(predictions[part]), torch.from_numpy(labels[part]))
    result = score.result()
    np.testing.assert_allclose(result["iou"], iou, rtol=1e-6)
    assert result["miou"] == pytest.approx(iou.mean(), rel=1e-6)
    assert result["pixel_accuracy"] == pytest.approx(np.trace(counts) / counts.sum())


def test_a_class_seen_only_in_predictions_counts_as_zero():
    score = SegmentationScore(3)
    score.update(torch.tensor([[[0, 2]]]), torch.tensor([[[1, 1]]]))
    assert score.result()["iou"] == [0.5, None, 0.0]
    assert score.result()["miou"] == 0.25


def test_void_alone_has_no_score():
    score = SegmentationScore(3)
    score.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2, dtype=torch.long))
    assert score.result() == {"miou": None, "pixel_accuracy": None, "iou": [None] * 3}


def test_label_beyond_the_classes_is_refused():
    with pytest.raises(ValueError, match="label 4"):
        SegmentationScore(3).update(torch.zeros(1, 1, 1).long(), torch.full((1, 1, 1), 4))


# --- Fréchet distance


def root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T


def test_frechet_distance_equals_the_formula():
    draw = np.random.default_rng(1)
    real, fake = draw.normal(size=(60, 8)), 1.5 * draw.normal(size=(40, 8)) @ draw.normal(size=(8, 8)) + 0.5
    a, b = np.cov(real.T), np.cov(fake.T)
    expected = ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root(root(a) @ b @ root(a)))
    of_real, of_fake = moments(torch.from_numpy(real)), moments(torch.from_numpy(fake))
    assert frechet_distance(of_real, of_fake) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(of_fake, of_real) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(of_real, of_real) == pytest.approx(0, abs=1e-9)
    shifted = moments(torch.from_numpy(real + 2.0).float())
    assert frechet_distance(of_real, shifted) == pytest.approx(8 * 2.0**2, rel=1e-5)


@pytest.mark.parametrize("count", [70, 12])  # more images than features, and fewer
def test_frechet_distance_equals_that_of_torchmetrics(count):
    draw = torch.Generator().manual_seed(2)
    real, fake = (torch.randn(count, 16, generator=draw) * s + s for s in (1.0, 1.7))
    given = nn.Identity()
    given.num_features = 16
    metric = FrechetInceptionDistance(given).set_dtype(torch.float64)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    assert frechet_distance(moments(real), moments(fake)) == pytest.approx(float(metric.compute()), rel=1e-5)


def test_weights_count_like_copies():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(3)).double()
    weights = torch.arange(30).double() % 3  # a third is left out
    found = moments(x, 7 * weights)
    np.testing.assert_allclose(found.mean, np.average(x, axis=0, weights=weights))
    np.testing.assert_allclose(found.root.T @ found.root, np.cov(x.T, aweights=weights), atol=1e-12)
    assert effective_size(torch.ones(5)) == 5 and effective_size(torch.tensor([1.0, 1.0, 0.0])) == 2


def test_frechet_distance_refuses_other_shapes():
    for features, weights in ((torch.zeros(1, 4), None), (torch.zeros(9, 4), torch.eye(9)[0]), (torch.zeros(3), None)):
        with pytest.raises(ValueError, match="N >= 2"):
            moments(features, weights)
    with pytest.raises(ValueError, match="4 features against 3"):
        frechet_distance(moments(torch.rand(5, 4)), moments(torch.rand(5, 3)))


# --- diversity


def test_pairwise_l1_by_hand():
    samples = torch.stack([torch.full((3, 4, 4), v, dtype=torch.uint8) for v in (0, 51, 255)])
    assert diversity.pairwise_l1(samples) == pytest.approx((51 + 255 + 204) / 3 / 255)
    with pytest.raises(ValueError, match="pair"):
        diversity.pairwise_l1(samples[:1])


def test_distinct_moods_equal_the_mean_over_all_subsets():
    moods = torch.tensor([0, 0, 0, 1, 2, 2, 5, 5])
    subsets = [len({int(m) for m in s}) for s in itertools.combinations(moods, 6)]
    assert diversity.distinct_in_draws(moods) == pytest.approx(np.mean(subsets))
    assert diversity.distinct_in_draws(moods[:6]) == 3
    assert diversity.distinct_in_draws(moods[:5]) is None


def test_mood_shares():
    assert diversity.mood_shares(torch.tensor([2, 0, 2, 2]), "abc") == {"a": 0.25, "b": 0.0, "c": 0.75}


# --- images, seeds, tables


def test_eight_bits_survive_the_round_trip_and_the_rest_is_clipped():
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_bytes(from_bytes(values)), values)
    assert to_bytes(torch.tensor([-7.0, 0.0, 1.0001])).tolist() == [0, 128, 255]


def test_seeds_never_meet_and_tell_their_map():
    of = {(s, j, i): sample_seed(s, j, i) for s in range(3) for j in (0, 1, 499, 999_999) for i in (0, 1, 999)}
    assert len(set(of.values())) == 3 * 4 * 3
    assert all(map_and_draw(seed) == (j, i) for (_, j, i), seed in of.items())


def test_mean_colours_by_hand():
    images = np.array([[[[0, 10, 20], [100, 30, 40]], [[9, 9, 9], [200, 50, 60]]]], np.uint8)
    table = mean_colours(images, np.array([[[1, 2], [0, 2]]], np.uint8), 3)
    np.testing.assert_array_equal(table, [[9, 9, 9], [0, 10, 20], [150, 40, 50], [np.nan] * 3])


def test_real_images_are_found_by_seed_where_maps_are_the_same(data):
    maps, images = torch.zeros(2, 64, 64).long(), data.split("val").images
    for seed in (0, 3):
        found = same_image(data)(maps, [sample_seed(seed, j, 5) for j in (10, 5)])
        assert (to_bytes(found).permute(0, 2, 3, 1).numpy() == images[[10, 5]]).all()


# --- evaluation network


def test_shipped_network_is_small_half_precision_and_good(evaluator):
    file = EVALUATORS / "scenes-64" / "weights.safetensors"
    assert file.stat().st_size < 3e6
    with safe_open(file, "pt") as weights:
        assert {weights.get_tensor(key).dtype for key in weights.keys()} == {torch.float16}
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in evaluator.parameters())
    about = json.loads((file.parent / "provenance.json").read_text())
    assert about["metrics"]["mood_accuracy"] >= 0.97 and about["metrics"]["miou"] >= 0.77
    assert evaluator.moods == scenes.MOODS and evaluator.num_classes == len(scenes.CLASSES)


def test_shipped_network_is_independent_of_the_discriminator(evaluator):
    kinds = {type(module).__name__ for module in evaluator.modules()}
    assert "BatchNorm2d" not in kinds and "GroupNorm" in kinds  # a plain UNet, no timm ResNet


def test_shipped_network_on_new_scenes(evaluator):
    batch = scenes.render(np.arange(48), 64, seed=4711, split="val")
    judged = evaluator.judge(torch.from_numpy(batch.images).permute(0, 3, 1, 2))
    assert judged.classes.shape == (48, 12, 64, 64) and judged.features.shape == (48, evaluator.num_features)
    assert (judged.moods.argmax(1).numpy() == batch.moods).mean() >= 0.9
    predicted, labels = judged.classes.argmax(1).numpy() + 1, batch.labels
    assert (predicted == labels)[labels > 0].mean() >= 0.9
    assert judged.features.abs().mean() < 3  # standardised over real images


def test_training_is_repeatable_and_the_files_are_checked(tmp_path):
    first = train_evaluator(tmp_path / "a", size=16, steps=2, progress=False)
    second = train_evaluator(tmp_path / "b", size=16, steps=2, progress=False)
    assert first["sha256"] == second["sha256"]
    network = load_evaluator(tmp_path / "a")
    assert network.sha256 == first["sha256"] and network.height == 16
    with pytest.raises(InputError, match=r"trained at 16x16 .* 64x64; .*train-evaluators \(--size"):
        network.judge(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    file = tmp_path / "a" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="sha256"):
        load_evaluator(tmp_path / "a")
    with pytest.raises(InputError, match=r"provenance\.json"):
        load_evaluator(tmp_path / "nothing")
    (tmp_path / "b" / "provenance.json").write_text("{}")
    with pytest.raises(InputError, match="not the provenance"):
        load_evaluator(tmp_path / "b")


@pytest.mark.parametrize("arguments", [{"size": 20}, {"steps": 0}])
def test_training_refuses_impossible_arguments(tmp_path, arguments):
    with pytest.raises(InputError, match=next(iter(arguments))):
        train_evaluator(tmp_path / "out", progress=False, **arguments)
    assert not (tmp_path / "out").exists()


# --- reference rows and protocol


def test_real_images_score_nothing_but_the_limits_of_the_network(rows, data):
    real = rows["real"]
    assert real["frechet"] == pytest.approx(0, abs=1e-3)
    assert real["diversity_l1"] == 0 and real["moods_per_six"] == 1
    assert real["num_images"] == 12 and real["num_maps_diversity"] == 2
    assert sum(real["mood_shares"].values()) == pytest.approx(1)
    assert set(real["iou"]) == set(scenes.CLASSES)
    present = {scenes.CLASSES[k - 1] for k in np.unique(data.split("val").labels) if k}
    assert all(real["iou"][name] is not None for name in present)


def test_rows_fall_in_the_order_they_must(rows):
    for key in ("frechet", "frechet_texture"):
        distance = {name: row[key] for name, row in rows.items()}
        assert distance["real"] < distance["blur_3x3"] < distance["class_mean"]
        assert distance["class_mood_mean"] < distance["class_mean"]
    assert protocol.diversity_ratio(rows["class_mean"], rows) == 0
    assert protocol.diversity_ratio(rows["real"], {}) is None
    assert rows["class_mean"]["diversity_l1"] == 0 < rows["redrawn"]["diversity_l1"]
    assert rows["redrawn"]["moods_per_six"] > 2
    assert rows["one_mood"]["mood_shares"]["day"] > 0.8
    assert rows["real"]["miou"] > rows["class_mood_mean"]["miou"]
    json.dumps(rows, allow_nan=False)


def test_evaluation_is_deterministic_and_its_seed_matters(data, evaluator):
    synthesise = colour_by_class_and_mood(data)

    def run(**settings):
        return evaluate(synthesise, data, evaluator=evaluator, progress=False, **{**SMALL, **settings})

    first = run()
    assert run() == first
    assert run(seed=1)["mood_shares"] != first["mood_shares"]
    regrouped = run(batch_size=12)
    assert regrouped["frechet"] == pytest.approx(first["frechet"], rel=1e-4)
    assert regrouped["diversity_l1"] == first["diversity_l1"] and regrouped["mood_shares"] == first["mood_shares"]
    assert run(max_maps=5)["num_images"] == 5


def test_images_are_quantised_before_any_metric(data, evaluator, rows):
    real = same_image(data)
    row = evaluate(
        lambda labels, seeds: real(labels, seeds) + 0.003, data, evaluator=evaluator, progress=False, **SMALL
    )
    assert row == {name: value for name, value in rows["real"].items() if name not in ("meaning", "diversity_ratio")}


def test_redrawing_keeps_the_layout_and_changes_the_mood(data):
    labels = torch.from_numpy(np.array(data.split("val").labels[:1]).astype(np.int64)).expand(6, -1, -1)
    images = redrawn(data)(labels, list(range(6)))
    assert len(torch.unique(images.flatten(1), dim=0)) > 1
    again = redrawn(data)(labels, list(range(6)))
    assert torch.equal(images, again)


def test_blur_is_a_mean_of_nine_pixels(data):
    labels = torch.from_numpy(np.array(data.split("val").labels[:1]).astype(np.int64))
    real, blur = same_image(data)(labels, [0]), blurred(data)(labels, [0])
    assert blur.shape == real.shape
    assert torch.allclose(blur[0, :, 10, 20], real[0, :, 9:12, 19:22].mean((1, 2)), atol=1e-5)


def test_data_without_moods_has_no_mood_figures(data, evaluator):
    hashes = {name: value for name, value in data.index["sha256"].items() if "moods" not in name}
    bare = dataclasses.replace(data, index={**data.index, "sha256": hashes})
    row = evaluate(same_image(data), bare, evaluator=evaluator, progress=False, **SMALL)
    assert row["mood_shares"] is None and row["moods_per_six"] is None and row["miou"] > 0.5
    assert row["frechet_rebalanced"] is None and row["frechet_texture"] == pytest.approx(0, abs=1e-6)
    assert "class_mood_mean" not in {row.name for row in rows_for(bare, 12)}


@pytest.mark.parametrize(
    ("images", "message"),
    [(torch.zeros(1, 3, 8, 8), "shape"), (torch.full((5, 3, 64, 64), float("nan")), "not finite")],
)
def test_bad_images_are_refused(data, evaluator, images, message):
    with pytest.raises(ValueError, match=message):
        evaluate(lambda labels, seeds: images, data, evaluator=evaluator, progress=False, **SMALL)


@pytest.mark.parametrize("setting", ["max_maps", "samples_per_map", "diversity_maps", "batch_size"])
def test_impossible_settings_are_refused(data, evaluator, setting):
    with pytest.raises(InputError, match=setting):
        evaluate(same_image(data), data, evaluator=evaluator, progress=False, **{setting: 0})


def test_reference_rows_are_kept(data, evaluator, tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "CACHE", tmp_path)
    first = reference_rows(data, evaluator, progress=False, max_maps=4, diversity_maps=1, samples_per_map=2)
    monkeypatch.setattr(protocol, "rows_for", lambda *arguments: pytest.fail("drawn again"))
    assert reference_rows(data, evaluator, progress=False, max_maps=4, diversity_maps=1, samples_per_map=2) == first
    monkeypatch.setattr(protocol, "FORMAT", protocol.FORMAT + 1)
    with pytest.raises(pytest.fail.Exception, match="drawn again"):  # rows of another format are not taken
        reference_rows(data, evaluator, progress=False, max_maps=4, diversity_maps=1, samples_per_map=2)


def test_a_checkpoint_is_measured_into_one_json_file(folder, data, tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "CACHE", tmp_path / "cache")
    stub = ModuleType("dpsims.synthesis")
    draw = colour_by_class_and_mood(data)
    generator = Mock(side_effect=lambda labels, seed: draw(labels, seed), config=preset("tiny"))
    generator.configure_mock(space=data.space, size=(64, 64))
    stub.load_generator = lambda path, device: generator
    monkeypatch.setitem(sys.modules, "dpsims.synthesis", stub)
    out = tmp_path / "deep" / "result.json"
    result = evaluate_checkpoint(
        "checkpoint", folder, out, progress=False, max_maps=4, diversity_maps=1, samples_per_map=2
    )
    assert json.loads(out.read_text()) == result
    assert result["generator"] == {k: v for k, v in result["references"]["class_mood_mean"].items() if k != "meaning"}
    assert result["protocol"]["maps"] == 4 and len(result["protocol"]["evaluator"]["sha256"]) == 64
    assert result["format"] == result["protocol"]["format"] == protocol.FORMAT == 2
    assert result["protocol"]["texture"]["name"] == "texture_resnet10t_b"
    assert result["evaluator"]["mood_accuracy"] >= 0.97 and result["evaluator"]["images"] == 500
    assert "at most" in result["texture_shares"]
    known = result["references"]["redrawn"]["diversity_l1"]
    assert result["generator"]["diversity_ratio"] == pytest.approx(result["generator"]["diversity_l1"] / known)
    assert result["references"]["redrawn"]["diversity_ratio"] == 1
    with pytest.raises(InputError, match="is a folder, where a file is to be written"):
        evaluate_checkpoint("checkpoint", folder, tmp_path, progress=False)


def test_a_bad_checkpoint_leaves_no_folder(folder, tmp_path):
    with pytest.raises(InputError, match="checkpoint"):
        evaluate_checkpoint(tmp_path / "none", folder, tmp_path / "deep" / "result.json", progress=False)
    assert not (tmp_path / "deep").exists()
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "result.json", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match="cannot be written"):
            evaluate_checkpoint(tmp_path / "none", folder, out, progress=False)


def test_a_damaged_cache_is_measured_anew(data, evaluator, tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "CACHE", tmp_path)
    small = {"max_maps": 4, "diversity_maps": 1, "samples_per_map": 2, "progress": False}
    rows = reference_rows(data, evaluator, **small)
    (file,) = (tmp_path / "references").iterdir()
    for damage in ("", "nope", "[]", "{}", '{"real": {}}'):
        file.write_text(damage)
        assert reference_rows(data, evaluator, **small) == rows
        assert json.loads(file.read_text()) == rows


def test_changed_data_are_not_measured(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    images = np.load(copy / "val" / "images.npy")
    np.save(copy / "val" / "images.npy", images // 4)
    with pytest.raises(InputError, match="images.npy: missing or changed"):
        evaluate_checkpoint(CHECKPOINTS / "scenes-64", copy, progress=False)


def test_one_training_image_is_enough(evaluator, tmp_path):
    few = load_prepared(prepare_scenes(tmp_path / "few", size=64, n=1, n_val=4, progress=False))
    assert "train" not in [row.name for row in rows_for(few, 4)]
    result = reference_rows(few, evaluator, cache=False, progress=False, diversity_maps=1, samples_per_map=2)
    assert result["real"]["frechet"] < 1e-3


def test_scenes_of_another_seed_are_named(data):
    wrong = dataclasses.replace(data, index=data.index | {"seed": 77})
    labels = torch.from_numpy(np.array(data.split("val").labels[:2]).astype(np.int64))
    with pytest.raises(InputError, match="holds other label maps than Scenes of seed 77"):
        redrawn(wrong)(labels, [0, 1])
