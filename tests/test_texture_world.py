"""The texture world: the same bytes everywhere, and worth learning from."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from dpsims.data.lattice_noise import fractal_noise, mix, unit, value_noise, voronoi
from dpsims.data.texture_world import LIGHTS, TextureBatch, render
from dpsims.data.textures import TEXTURES
from dpsims.errors import InputError

RECORDED = "43d890826affd313e1cef04f47a7b8892791ba2b1b2b450d1621d6580339b107"  # of the first 200 images at 64 px
HASH = """
import hashlib
from dpsims.data.texture_world import render
b = render(range(200), 64)
print(hashlib.sha256(b.images.tobytes() + b.textures.tobytes() + b.lights.tobytes()).hexdigest())
"""


def digest(batch: TextureBatch) -> str:
    return hashlib.sha256(batch.images.tobytes() + batch.textures.tobytes() + batch.lights.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def batch() -> TextureBatch:
    return render(range(200), 64)


def test_shapes_types_and_ranges(batch):
    assert batch.images.shape == (200, 64, 64, 3) and batch.images.dtype == np.uint8
    assert batch.textures.shape == (200, 64, 64) and batch.textures.dtype == np.uint8
    assert batch.lights.shape == (200,) and batch.lights.max() < len(LIGHTS)
    assert batch.textures.max() < len(TEXTURES)


def test_bytes_are_the_recorded_ones(batch):
    assert digest(batch) == RECORDED


def test_bytes_do_not_depend_on_the_vector_unit():
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    switched_off = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    if not switched_off:
        pytest.skip("this processor has no vector feature that numpy could leave unused")
    env = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(switched_off)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HASH], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == RECORDED, done.stderr


def test_an_image_does_not_depend_on_its_batch(batch):
    parts = [render(range(i, min(i + 7, 50)), 64) for i in range(0, 50, 7)]
    assert np.array_equal(np.concatenate([p.images for p in parts]), batch.images[:50])
    shuffled = render([31, 5, 5, 17], 64)
    assert np.array_equal(shuffled.images, batch.images[[31, 5, 5, 17]])
    assert np.array_equal(shuffled.textures, batch.textures[[31, 5, 5, 17]])


def test_seed_split_and_index_each_change_the_image():
    reference = render([3], 32).images
    for other in (render([4], 32), render([3], 32, seed=1), render([3], 32, split="val")):
        assert np.abs(reference.astype(int) - other.images).mean() > 10


def test_sizes_show_the_same_picture():
    small, wide = render([2, 3], 48), render([2, 3], (48, 80))
    assert wide.images.shape == (2, 48, 80, 3)
    agreement = (render([2, 3], 96).textures[:, 1::2, 1::2] == small.textures).mean()
    assert agreement > 0.9  # lengths are shares of the side: a larger image is the same one, finer


def test_every_class_and_light_occurs_about_equally(batch):
    share = np.bincount(batch.textures.ravel(), minlength=len(TEXTURES)) / batch.textures.size
    assert share.min() > 0.5 / len(TEXTURES) and share.max() < 2 / len(TEXTURES)
    lights = np.bincount(batch.lights, minlength=len(LIGHTS)) / len(batch.lights)
    assert lights.min() > 0.4 / len(LIGHTS)


def test_lights_do_what_they_say(batch):
    colour = {name: batch.images[batch.lights == i].reshape(-1, 3).mean(0) for i, name in enumerate(LIGHTS)}
    assert colour["warm"][0] > colour["warm"][2] + 20
    assert colour["cold"][2] > colour["cold"][0] + 20
    assert colour["dim"].mean() < 0.6 * colour["neutral"].mean() < 0.6 * colour["bright"].mean()
    spread = {name: batch.images[batch.lights == i].std((1, 2)).mean() for i, name in enumerate(LIGHTS)}
    assert spread["hazy"] < 0.75 * spread["neutral"]


def test_images_are_neither_flat_nor_burnt_out(batch):
    assert batch.images.reshape(200, -1).std(1).mean() > 30
    assert ((batch.images == 0) | (batch.images == 255)).mean() < 0.15


@pytest.mark.parametrize("texture", TEXTURES, ids=lambda t: t.name)
def test_each_texture_stays_within_zero_and_one(texture):
    random = np.random.default_rng(0)
    u, v = random.uniform(-20, 20, (2, 5000)).astype(np.float32)
    a, b = random.random((2, 5000), dtype=np.float32)
    t = texture.draw(u, v, a, b, np.full(5000, 7, np.uint32))
    assert t.dtype == np.float32 and t.min() >= -1e-6 and t.max() <= 1 + 1e-6
    assert t.std() > 0.05


def test_noise_is_continuous_uniform_and_keyed():
    x = np.linspace(-5, 5, 20001, dtype=np.float32)
    y, salt = np.full_like(x, 0.3), np.full(x.shape, 9, np.uint32)
    noise = value_noise(x, y, salt)
    assert np.abs(np.diff(noise)).max() < 2e-3 and noise.min() >= 0 and noise.max() <= 1
    assert np.abs(noise - value_noise(x, y, salt + np.uint32(1))).mean() > 0.1
    assert 0.4 < fractal_noise(x, y, salt).mean() < 0.6
    near, far, _ = voronoi(x, y, salt)
    assert (near <= far).all() and near.max() < 1.5
    values = unit(mix(np.arange(100_000, dtype=np.uint32)))
    assert np.abs(np.histogram(values, 10, (0, 1))[0] / 10_000 - 1).max() < 0.05


@pytest.mark.parametrize(
    "arguments",
    [{"size": 4}, {"size": (64, 5000)}, {"size": 64, "split": "test"}, {"size": 64, "seed": -1}],
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(InputError, match="texture world"):
        render([0], **arguments)
    with pytest.raises(InputError, match="negative"):
        render([-1], 64)


def test_no_images_is_not_an_error():
    assert render([], 64).images.shape == (0, 64, 64, 3)
