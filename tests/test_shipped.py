"""What is shipped is what its provenance says."""

import json
import subprocess

import pytest

from dpsims import checkpoint, config, presets
from dpsims.checkpoint import backbone_sha256, read_provenance
from dpsims.files import sha256
from dpsims.models.backbone import embedded_backbones
from dpsims.paths import BACKBONES, CHECKPOINTS, EVALUATORS

each = pytest.mark.parametrize("folder", sorted(CHECKPOINTS.iterdir()), ids=lambda folder: folder.name)


@each
def test_the_checkpoint_is_of_its_preset(folder):
    shipped, facts = config.load(folder / "config.json"), read_provenance(folder)
    assert shipped == presets.preset(folder.name.replace("-", ""))
    assert facts["step"] == facts["steps"] == shipped.train.steps >= 5000
    assert facts["backbone_sha256"] == backbone_sha256(shipped), "trained with other backbone weights than are shipped"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 14e6


@each
def test_its_evaluation_was_made_with_what_is_here(folder):
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["protocol"]["evaluator"]["sha256"] == sha256(EVALUATORS / folder.name / "weights.safetensors")
    assert evaluation["checkpoint"].endswith(f"checkpoints/{folder.name}")
    assert evaluation["protocol"]["maps"] >= 500
    assert {"blur_3x3", "class_mean", "class_mood_mean", "one_mood"} <= evaluation["references"].keys()


def test_the_commit_is_marked_where_files_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "ROOT", tmp_path)
    assert checkpoint.commit.__wrapped__() == "unknown"
    (tmp_path / "a").write_text("1")
    for line in ("init", "add a", "-c user.name=a -c user.email=b commit -m c"):
        subprocess.run(["git", *line.split()], cwd=tmp_path, check=True, capture_output=True)
    whole = checkpoint.commit.__wrapped__()
    (tmp_path / "a").write_text("2")
    assert len(whole) == 40 and checkpoint.commit.__wrapped__() == f"{whole}+changes"


@pytest.mark.parametrize("name", embedded_backbones())
def test_backbones_carry_their_hash(name):
    folder = BACKBONES / name
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["sha256"] == sha256(folder / "weights.safetensors") and facts["command"].startswith("dpsims pretrain")


def test_every_small_preset_names_backbones_that_are_here():
    for name in presets.SMALL:
        made = presets.preset(name)
        assert {made.discriminator.backbone, made.loss.contrastive_backbone} <= set(embedded_backbones())
