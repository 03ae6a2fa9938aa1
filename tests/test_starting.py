"""A training that starts from a trained model: the same weights, or the coarse levels of a larger network."""

import json

import numpy as np
import pytest
import torch
import trees

from dpsims.checkpoint import checkpoints, export_run, fold_spectral_norm, read_provenance
from dpsims.config import override
from dpsims.data.prepare import prepare_scenes
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError
from dpsims.files import sha256
from dpsims.presets import preset
from dpsims.synthesis import load_discriminator, load_generator
from dpsims.training import Trainer, fit

LARGER = ("data.height=128", "data.width=128", "generator.channels=16,16,16,16,16,16,16")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {size: prepare_scenes(folder / f"{size}", size=size, n=24, n_val=8, progress=False) for size in (64, 128)}


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """An exported model, a few steps from random weights."""
    folder = tmp_path_factory.mktemp("trained")
    fit(tiny(data[64]), folder / "run", progress=False)
    return export_run(folder / "run", folder / "export")


def tiny(path, *settings):
    return trees.tiny(path, "generator.label_channels=16", "train.bf16=false", *settings)


def begun(config, data):
    trainer = Trainer(config, load_prepared(data))
    trainer.begin(progress=False)
    return trainer


def test_a_model_of_the_same_size_goes_on_as_it_is(data, trained):
    trainer = begun(tiny(data[64], f"train.start_from={trained}"), data[64])
    facts = trainer.started_from
    assert facts["generator_fitted"] == facts["discriminator_fitted"] == 1.0 and facts["step"] == 6
    assert facts["sha256"] == sha256(trained / "generator.safetensors")
    labels = torch.from_numpy(np.array(load_prepared(data[64]).split("val").labels[:4])).long()
    given, fresh = load_generator(trained), Trainer(tiny(data[64]), load_prepared(data[64])).generator
    z = given.noise(0, 4)
    apart = []
    for network in (trainer.generator, trainer.ema, fresh):
        with torch.inference_mode():
            images = fold_spectral_norm(network)(labels, z)[0]
        apart.append(float((images - given(labels, noise=z)).abs().mean()))
    # power iteration finds the norms of hardly trained weights slowly, and export rounds: nearly the same images
    assert max(apart[:2]) < 0.03 < 0.1 < apart[2]
    d, shown = load_discriminator(trained), torch.from_numpy(np.zeros((1, 3, 64, 64), np.float32))
    trainer.discriminator.conditioning.load_state_dict(d.conditioning.state_dict())
    with torch.inference_mode():
        assert torch.allclose(trainer.discriminator.eval()(shown), d(shown), atol=2e-2)


def test_a_larger_network_begins_with_the_coarse_levels_of_the_trained_one(data, trained):
    trainer = begun(tiny(data[128], *LARGER, f"train.start_from={trained}"), data[128])
    old, new = load_generator(trained).generator, fold_spectral_norm(trainer.generator)
    labels = torch.from_numpy(np.array(load_prepared(data[128]).split("val").labels[:4])).long()
    z = old.sample_noise(4)[:, None]
    coarse = old.onehot(labels).unflatten(2, (64, 2)).unflatten(4, (64, 2)).mean((3, 5))  # shares, as the new one pools
    everywhere = torch.ones(4, 1, 1, 1)
    with torch.inference_mode():
        expected = old.label_features(coarse, z, everywhere)
        found = new.label_features(new.onehot(labels), z, everywhere)
        fresh = fold_spectral_norm(Trainer(tiny(data[128], *LARGER), load_prepared(data[128])).generator)
        other = fresh.label_features(fresh.onehot(labels), z, everywhere)
    assert len(found) == len(expected) + 1
    for here, there, random in zip(found, expected, other, strict=False):
        assert float((here - there).abs().mean() / there.abs().mean()) < 0.15
        assert float((random - there).abs().mean() / there.abs().mean()) > 0.5, "a fresh one is nothing like it"
    for level, block in enumerate(old.blocks):
        pair = new.blocks[level].conv1.weight.flatten(), block.conv1.weight.flatten()
        assert float(torch.cosine_similarity(*(w.detach() for w in pair), dim=0)) > 0.9999


def test_the_start_stands_in_the_provenance_and_is_not_needed_to_go_on(data, trained, tmp_path):
    away = tmp_path / "away"
    trained.rename(away)
    try:
        config = tiny(data[64], f"train.start_from={away}", "train.steps=4")
        fit(config, tmp_path / "run", progress=False)
    finally:
        away.rename(trained)
    facts = read_provenance(checkpoints(tmp_path / "run")[-1])["started_from"]
    assert facts["path"] == str(away) and facts["step"] == 6
    assert fit(config, tmp_path / "run", resume=True, progress=False).finished  # the folder is gone
    exported = export_run(tmp_path / "run", tmp_path / "export")
    assert json.loads((exported / "provenance.json").read_text())["started_from"] == facts


def test_other_classes_leave_the_layers_that_meet_them_fresh(data, trained):
    trainer = begun(tiny(data[64], f"train.start_from={trained}", "discriminator.finest_stride=1"), data[64])
    assert trainer.started_from["generator_fitted"] == 1.0
    assert 0.5 < trainer.started_from["discriminator_fitted"] < 1.0, "D's levels at stride 1 are new"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("generator.channels=16,16,16,16",), "levels of"),
        (("generator.label_channels=8", "generator.channels=24,24,24,24,24,24"), "only"),
    ],
)
def test_a_model_of_another_kind_is_refused(data, trained, settings, named):
    trainer = Trainer(tiny(data[64], f"train.start_from={trained}", *settings), load_prepared(data[64]))
    with pytest.raises(InputError, match=named) as error:
        trainer.begin(progress=False)
    assert "train.start_from" in str(error.value) and "generator.channels" in str(error.value)


def test_no_model_there(data, tmp_path):
    trainer = Trainer(tiny(data[64], f"train.start_from={tmp_path}"), load_prepared(data[64]))
    with pytest.raises(InputError, match="holds no dpsims checkpoint"):
        trainer.begin(progress=False)


def test_the_shipped_model_is_found_by_its_name(data):
    trainer = begun(override(preset("scenes64"), [f"data.path={data[64]}", "train.start_from=scenes-64"]), data[64])
    assert trainer.started_from["generator_fitted"] == trainer.started_from["discriminator_fitted"] == 1.0
