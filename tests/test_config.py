"""The configuration: strict keys, strict types, JSON and back."""

import dataclasses
import inspect
import json

import pytest

from dpsims import config, limits
from dpsims.config import Config, from_dict, load, override
from dpsims.errors import InputError
from dpsims.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name, tmp_path):
    made = preset(name)
    made.save(tmp_path / "config.json")
    assert load(tmp_path / "config.json") == made


def test_override_changes_one_field_and_its_type():
    changed = override(preset("tiny"), ["train.betas=0, 0.9", "train.bf16=false", "loss.lambda_diversity=2"])
    assert changed.train.betas == (0.0, 0.9) and all(isinstance(b, float) for b in changed.train.betas)
    assert changed.train.bf16 is False and changed.loss.lambda_diversity == 2.0
    assert changed.data == preset("tiny").data


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.step=3", "did you mean train.steps"),
        ("trian.steps=3", "unknown field"),
        ("train.steps", "section.field=value"),
        ("train.steps=1.5", "'1.5' .* not of type int"),
        ("train.steps=0", "0 must lie between 1 and"),
        ("train.bf16=1", "not of type bool"),
        ("train.betas=a,b", "not of type float"),
        ("loss.class_weights=foo", "not one of inverse, sqrt"),
        ("data.height=60", "multiples of 16"),
        ("train.batch_size=3", "not a multiple"),
        ("discriminator.channels=1,2", "has 2 numbers, needs 6"),
        ("discriminator.channels=0,1,1,1,1,1", "0 must lie between 1 and 4096"),
        ("generator.channels=", "has 0 numbers, needs 2 to 11"),
        ("generator.channels=16,100000", "100000 must lie between"),
        ("train.betas=0.5", "has 1 numbers, needs 2"),
        ("train.betas=0,1", "1.0 must lie between"),
        ("train.betas=nan,0.9", "no finite number"),
        ("train.lr_generator=inf", "no finite number"),
        ("train.lr_discriminator=1e400", "no finite number"),
        ("loss.lambda_contrastive=1e39", "must lie between 0 and 1e"),
        ("loss.lambda_diversity=-10", "must lie between"),
        ("loss.focal_gamma=-5", "must lie between"),
        ("train.clip_norm=0", "must lie between"),
        ("train.decay_from=5", "must lie between 0 and 1"),
        ("train.warmup_steps=-1", "must lie between"),
        ("discriminator.shrinkage=-1", "must lie between 0 and 1"),
        ("discriminator.noise_max=-1", "must lie between"),
        ("discriminator.noise_beta=2", "must lie between 0 and 1"),
        ("discriminator.statistics_images=0", "must lie between 1"),
        ("generator.noise_sharpness=50", "must lie between"),
        ("discriminator.finest_stride=3", "not one of 1, 2, 4"),
        ("train.noises_per_map=1", "at least 2"),
    ],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(InputError, match=message) as error:
        override(preset("tiny"), [setting])
    assert "\n" not in str(error.value)


def test_yaml_1_1_floats_come_as_text_and_are_coerced():
    assert from_dict({"train": {"lr_generator": "1e-3"}}).train.lr_generator == 1e-3


def test_wrong_types_from_python():
    for value in (True, 1.5, "3", None):
        with pytest.raises(InputError, match="train.steps"):
            Config(train=config.Train(steps=value))


def test_foreign_and_damaged_files(tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(InputError, match="no such file"):
        load(path)
    for text, message in (("{", "not readable"), ("[1]", "holds a list"), ('{"model": {}}', "unknown section 'model'")):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            load(path)
    path.write_text(json.dumps({"train": {"stepz": 3}}))
    with pytest.raises(InputError, match=rf"^{path}: unknown field train.stepz; did you mean train.steps"):
        load(path)


def test_unknown_preset():
    with pytest.raises(InputError, match="known: scenes64"):
        preset("scenes46")


def test_nothing_mutates_a_configuration():
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("tiny").train.steps = 3


def test_every_field_says_what_it_is():
    source = inspect.getsource(config)
    for section in dataclasses.fields(Config):
        for field in dataclasses.fields(
            section.type if isinstance(section.type, type) else getattr(config, section.type)
        ):
            line = next(x for x in source.splitlines() if x.startswith(f"    {field.name}: "))
            assert "#" in line or field.name == "seed", f"{section.name}.{field.name} has no comment"


def test_every_number_has_a_range():
    numbers = {k for k, v in Config().flat().items() if isinstance(v, (int, float, tuple)) and not isinstance(v, bool)}
    assert numbers == set(limits.RANGES) | {"discriminator.finest_stride"}


def test_a_bad_value_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"train": {"steps": None}}))
    with pytest.raises(InputError, match=rf"^{path}: train.steps: None"):
        load(path)
    path.write_text(json.dumps({"train": {"clip_norm": 0}}))
    with pytest.raises(InputError, match=rf"^{path}: train.clip_norm: 0.0"):
        load(path)
