"""Scenes: the same bytes everywhere, labels that do not know the mood, every class and size."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_baseline__, __cpu_dispatch__, __cpu_features__

from dpsims import paths
from dpsims.data import scenes
from dpsims.data.scene_palette import MATERIAL
from dpsims.data.scenes import CLASSES, LAYOUTS, MOODS, render, render_moods
from dpsims.errors import InputError

HASHES = paths.ROOT / "tests" / "scenes.sha256.json"
SIZES = {"64": (24, 64), "128": (6, 128), "64x128": (6, (64, 128)), "256": (2, 256)}


def digests() -> dict[str, str]:
    """sha256 of some scenes of several sizes; `python tests/test_scenes.py` prints them."""
    result = {}
    for name, (count, size) in SIZES.items():
        batch = render(range(count), size, seed=3)
        result[name] = hashlib.sha256(b"".join(array.tobytes() for array in batch)).hexdigest()
    return result


def same(a: scenes.SceneBatch, b: scenes.SceneBatch) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_shapes_and_range() -> None:
    batch = render([5, 2, 9], (48, 80))
    assert batch.images.shape == (3, 48, 80, 3)
    assert batch.labels.shape == (3, 48, 80)
    assert all(array.dtype == np.uint8 for array in batch)
    assert batch.labels.min() >= 1
    assert batch.labels.max() <= len(CLASSES)
    assert render([], 64).images.shape == (0, 64, 64, 3)


def test_any_chunking_gives_the_same_bytes() -> None:
    whole = render(range(12), 64, seed=4)
    for cut in ([range(12)[i : i + 1] for i in range(12)], [range(5), range(5, 12)]):
        parts = [render(part, 64, seed=4) for part in cut]
        assert same(whole, scenes.SceneBatch(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True))))
    order = np.array([7, 0, 11, 7])
    assert same(render(order, 64, seed=4), scenes.SceneBatch(*(array[order] for array in whole)))


def test_seed_split_and_index_each_give_other_images() -> None:
    batches = [
        render([3], 32),
        render([4], 32),
        render([3], 32, seed=1),
        render([3], 32, split="val"),
        render([3], 32, split="evaluator"),
        render([3 + 2**40], 32),
        render([3], 32, seed=2**63),
    ]
    assert len({batch.images.tobytes() for batch in batches}) == len(batches)


@pytest.mark.parametrize("without", [["X86_V4", "AVX512"], ["X86_V3", "X86_V4", "AVX512", "AVX2", "FMA3"]])
def test_same_bytes_without_vector_instructions(without: list[str]) -> None:
    """Rendered again in a process in which numpy may not use AVX-512, or not even AVX2."""
    off = [name for name in __cpu_dispatch__ if name.startswith(tuple(without)) and __cpu_features__.get(name)]
    if not off:
        pytest.skip(f"numpy uses none of {without} here (baseline {__cpu_baseline__}, dispatch {__cpu_dispatch__})")
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(off), "PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout)
    assert not set(off) & set(there["features"]), "the features were not switched off"
    assert there["sha256"] == digests()


def test_same_bytes_as_on_the_machine_that_made_the_checkpoints() -> None:
    expected = json.loads(HASHES.read_text())
    assert expected["version"] == scenes.VERSION
    assert digests() == expected["sha256"], (
        "this machine or NumPy draws other scenes than those the shipped checkpoints were trained on; "
        "after a change on purpose raise scenes.VERSION and write the new hashes (python tests/test_scenes.py)"
    )


@pytest.mark.parametrize("size", [64, (64, 96)])
def test_six_moods_of_one_layout(size: int | tuple[int, int]) -> None:
    batch = render_moods(8, size, seed=2)
    assert batch.moods.tolist() == list(range(6))
    assert (batch.labels == batch.labels[0]).all()
    for mood in range(6):
        one = render([8], size, seed=2, moods=mood)
        assert np.array_equal(one.images[0], batch.images[mood])
        assert np.array_equal(one.labels[0], batch.labels[mood])
    drawn = render([8], size, seed=2)
    assert np.array_equal(drawn.images[0], batch.images[drawn.moods[0]])


def test_moods_differ_and_night_can_be_seen() -> None:
    images = np.stack([render_moods(index, 64).images for index in range(24)]) / 255  # (24, 6, H, W, 3)
    distance = np.abs(images[:, :, None] - images[:, None]).mean((0, 3, 4, 5))
    off_diagonal = distance[~np.eye(6, dtype=bool)]
    assert 0.2 < off_diagonal.mean() < 0.3
    assert off_diagonal.min() > 0.1
    luminance = images.mean((0, 2, 3)) @ (0.299, 0.587, 0.114)
    assert 0.15 < luminance[MOODS.index("night")] < 0.3


def test_mood_can_be_read_from_the_image() -> None:
    """The nearest mean of coarse colours is far above chance (1/6) already."""
    summary = [
        render(range(240), 32, split=split).images.reshape(240, 4, 8, 32, 3).mean((2, 3)).reshape(240, -1)
        for split in ("train", "val")
    ]
    moods = [render(range(240), 32, split=split).moods for split in ("train", "val")]
    means = np.stack([summary[0][moods[0] == mood].mean(0) for mood in range(6)])
    guess = ((summary[1][:, None] - means) ** 2).sum(2).argmin(1)
    assert (guess == moods[1]).mean() > 0.85


def test_moods_and_layouts_are_drawn_evenly() -> None:
    batch = render(range(900), 16)
    for drawn, kinds in ((batch.moods, len(MOODS)), (batch.layouts, len(LAYOUTS))):
        share = np.bincount(drawn, minlength=kinds) / 900
        assert len(share) == kinds
        assert np.abs(share - 1 / kinds).max() < 4 * (1 / kinds * (1 - 1 / kinds) / 900) ** 0.5


def test_every_class_occurs_in_layouts_where_it_belongs() -> None:
    batch = render(range(240), 64)
    present = np.stack([(batch.labels == number).any((1, 2)) for number in range(1, 13)])  # (12, 240)
    for name, least in {"sky": 0.99, "cloud": 0.9, "sun": 0.6, "tree": 0.6, "grass": 0.6, "flower": 0.25}.items():
        assert present[CLASSES.index(name)].mean() > least, name
    assert present.mean(1).min() > 0.2
    city, beach = batch.layouts == LAYOUTS.index("city"), batch.layouts == LAYOUTS.index("beach")
    assert present[CLASSES.index("window"), city].all()
    assert present[CLASSES.index("road"), city].mean() > 0.7
    assert present[CLASSES.index("water"), beach].all()
    assert not present[CLASSES.index("grass"), beach].any()


def test_windows_are_whole_at_64_pixels() -> None:
    """Runs of window pixels inside the image, not covered by a tree, are 3 or more wide and high."""
    window, building = CLASSES.index("window") + 1, CLASSES.index("building") + 1
    runs = []
    batch = render(range(100), 64)
    for labels in batch.labels[batch.layouts == LAYOUTS.index("city")]:  # elsewhere a house may cover another
        for line in (*labels, *labels.T):
            edges = np.flatnonzero(np.diff(np.concatenate(([0], line == window, [0]))))
            for start, stop in edges.reshape(-1, 2):
                framed = 0 < start and stop < 64 and line[start - 1] == building and line[stop] == building
                if framed:
                    runs.append(stop - start)
    assert len(runs) > 200
    assert min(runs) >= 3


def test_labels_are_the_majority_and_images_the_mean_of_blocks() -> None:
    scene = scenes._Scene(3, 64, 64, 0, "train")
    coarse = scene.labels()
    ids = scenes.LABEL_OF[scene.canvas.material]
    blocks = ids.reshape(64, 2, 64, 2).transpose(0, 2, 1, 3).reshape(64, 64, 4)
    most = np.stack([(blocks == number).sum(2) for number in range(13)], 2)
    assert (np.take_along_axis(most, coarse[..., None].astype(int), 2)[..., 0] == most.max(2)).all()
    mean = (scene.colours(1).astype(int).reshape(3, 64, 2, 64, 2).sum((2, 4)) + 2) // 4
    assert np.array_equal(scene.image(1), mean.transpose(1, 2, 0))


def test_sizes_show_the_same_scene() -> None:
    """Labels at 64 px agree with those at 256 px where nothing depends on the size (no buildings)."""
    for index in np.flatnonzero(render(range(30), 16).layouts == LAYOUTS.index("beach"))[:4]:
        small, large = render([index], 64).labels[0], render([index], 256).labels[0]
        assert (small == large[2::4, 2::4]).mean() > 0.9


def test_night_windows_are_lit_and_stars_are_sky() -> None:
    scene = next(s for s in (scenes._Scene(i, 64, 64, 0, "train") for i in range(40)) if LAYOUTS[s.layout] == "city")
    lamps = (scene.canvas.material == MATERIAL["lamp"]).reshape(64, 2, 64, 2).all((1, 3))
    night = scene.image(MOODS.index("night")).astype(int)
    assert lamps.any()
    assert night[lamps].mean() > 2 * night[~lamps].mean()
    stars = scene.canvas.material == MATERIAL["star"]
    assert (scenes.LABEL_OF[scene.canvas.material][stars] == CLASSES.index("sky") + 1).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": 8},
        {"size": (64, 1024)},
        {"split": "test"},
        {"seed": -1},
        {"seed": 2**64},
        {"indices": [-1]},
        {"indices": [2**56]},
        {"moods": 6},
        {"moods": [0, 1]},
    ],
)
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError, match="scenes"):
        render(**{"indices": [0], "size": 32, **arguments})


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [16, 64, (128, 64), (64, 256)])
def test_many_scenes_draw_without_a_warning(size: int | tuple[int, int]) -> None:
    render(range(1000, 1150 if size in (16, 64) else 1040), size)


if __name__ == "__main__":
    enabled = [name for name, on in __cpu_features__.items() if on]
    print(json.dumps({"version": scenes.VERSION, "sha256": digests(), "features": enabled}))
