"""The explorer without a browser: setting a trait does what a user's hand does."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dpsims.data import scenes
from dpsims.errors import InputError
from dpsims.explorer.panel import ExplorerPanel, noise_strength, png, recoloured
from dpsims.labels import label_space
from dpsims.presets import preset
from dpsims.synthesis import Synthesizer, build_generator


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return Synthesizer(build_generator(preset("tiny"), folded=True), preset("tiny"), {}, label_space("scenes"))


@pytest.fixture(scope="module")
def labels():
    return scenes.render(range(3), 64, split="val").labels


@pytest.fixture
def panel(generator, labels):
    return ExplorerPanel(generator, labels)


def picture(widget):
    return np.asarray(Image.open(io.BytesIO(widget.value)))


def test_first_pictures_are_there(panel, labels):
    assert picture(panel.map).shape == picture(panel.image).shape == (320, 320, 3)
    assert (picture(panel.map)[::5, ::5] == panel.generator.space.colourise(labels[0])).all()
    assert (picture(panel.image)[::5, ::5] == panel.draw()).all()


@pytest.mark.parametrize(("control", "value"), [("seed", 5), ("scene", 1), ("strength", 0.2)])
def test_each_control_changes_the_image_and_back(panel, control, value):
    widget, before = getattr(panel, control), panel.image.value
    old = widget.value
    widget.value = value
    assert panel.image.value != before
    widget.value = old
    assert panel.image.value == before, "same choices, same image"


def test_a_message_from_the_browser_does_the_same(panel):
    before = panel.image.value
    panel.seed.set_state({"value": 9})
    assert panel.image.value != before


def test_another_seed(panel):
    before = panel.image.value
    panel.next_seed.click()
    assert panel.seed.value == 1 and panel.image.value != before


def test_recolouring_changes_map_and_image_and_keeps_the_scene(panel, labels):
    space = panel.generator.space
    map_before, image_before = panel.map.value, panel.image.value
    panel.recolour.value, panel.into.value = space.id_of("grass"), space.id_of("sand")
    assert space.id_of("grass") not in panel.labels and (labels[0] == panel.scenes[0]).all()
    changed = panel.labels != labels[0]
    assert (changed == (labels[0] == space.id_of("grass"))).all() and changed.any()
    assert panel.map.value != map_before and panel.image.value != image_before


def test_varying_one_class_with_the_rest_locked(panel):
    grass, before = panel.generator.space.id_of("grass"), panel.draw()
    panel.lock.value, panel.inside.value, panel.vary.value = True, 77, grass
    changed = (panel.draw() != before).any(-1)
    assert changed.any() and (panel.labels[changed] == grass).all()
    one = panel.image.value
    panel.inside.value = 78
    assert panel.image.value != one
    panel.lock.value = False
    free = (panel.draw() != before).any(-1)
    assert free[panel.labels != grass].any(), "unlocked, the change may reach beyond the class"


def test_without_noise_every_seed_is_the_same(panel):
    panel.strength.value = 0.0
    image = panel.image.value
    panel.seed.value = 7
    assert panel.image.value == image


def test_strength_leaves_nothing_behind(generator, labels):
    before = generator(labels, seed=0)
    with pytest.raises(RuntimeError), noise_strength(generator, 3.0):
        assert not torch.equal(generator(labels, seed=0), before)
        raise RuntimeError
    assert torch.equal(generator(labels, seed=0), before)
    with noise_strength(generator, 1.0):
        assert torch.equal(generator(labels, seed=0), before)


def test_text_is_stable(panel):
    assert repr(panel) == "ExplorerPanel(3 scenes of 64 x 64)"


def test_bad_scenes(generator, labels):
    with pytest.raises(InputError, match="64, 64"):
        ExplorerPanel(generator, labels[:, :32])
    with pytest.raises(InputError, match="value 13"):
        ExplorerPanel(generator, np.full((1, 64, 64), 13))


def test_helpers():
    ids = np.array([[1, 2], [2, 3]], dtype=np.uint8)
    assert recoloured(ids, 2, 9).tolist() == [[1, 9], [9, 3]] and recoloured(ids, 2, 9).dtype == np.uint8
    assert Image.open(io.BytesIO(png(np.zeros((64, 128, 3), np.uint8)))).size == (256, 128)
