"""A trained generator in a user's hands: the same seed, the same image; the noise given is the noise used."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dpsims import load_generator
from dpsims.data.scenes import render
from dpsims.errors import InputError
from dpsims.generation import generate_files
from dpsims.images import to_tensor
from dpsims.noise import class_region, interpolate
from dpsims.paths import CHECKPOINTS
from dpsims.presets import preset
from dpsims.synthesis import discriminator_view, load_discriminator, noise_of_seed

SHIPPED = CHECKPOINTS / "scenes-64"


@pytest.fixture(scope="module")
def g():
    return load_generator(SHIPPED)


@pytest.fixture(scope="module")
def labels():
    return render(range(3), 64, split="val").labels


def test_same_seed_same_image(g, labels):
    images = g(labels, seed=3)
    assert images.shape == (3, 3, 64, 64) and images.min() >= -1 and images.max() <= 1
    assert torch.equal(images, g(torch.from_numpy(labels).long(), seed=3))
    assert torch.equal(images, load_generator(SHIPPED)(labels, seed=3))
    assert not torch.equal(images, g(labels, seed=4))


def test_a_batch_is_its_images_one_by_one(g, labels):
    batch = g(labels, seed=3)
    for b in range(3):
        assert torch.allclose(batch[b], g(labels[b], seed=3 + b)[0], atol=1e-4)
    assert torch.equal(g(labels, seed=[3, 4, 5]), batch)


def test_the_noise_given_is_the_noise_used(g, labels):
    z = torch.stack([noise_of_seed(s, g.noise_shape) for s in (7, 8, 9)])
    assert torch.equal(g(labels, noise=z), g(labels, seed=7))
    assert torch.equal(g(labels, seed=1, noise=z), g(labels, noise=z)), "noise goes before seed"
    assert not torch.equal(g(labels, noise=-z), g(labels, noise=z))


@pytest.mark.parametrize(
    ("labels", "noise", "message"),
    [
        (np.zeros((1, 32, 64), np.uint8), None, r"takes \(B, 64, 64\)"),
        (np.full((1, 64, 64), 13, np.uint8), None, "value 13"),
        (np.full((1, 64, 64), -1), None, "value -1"),
        (np.ones((1, 64, 64), np.uint8), torch.zeros(1, 2, 2), "noise of shape"),
    ],
)
def test_bad_arguments(g, labels, noise, message):
    with pytest.raises(InputError, match=message):
        g(labels, noise=noise)


def test_what_users_have_at_hand_works(g, labels):
    expected = g(labels, seed=3)
    for same in (labels.astype(">i2"), labels.tolist(), torch.from_numpy(labels).to(torch.int16)):
        assert torch.equal(g(same, seed=np.int64(3)), expected)
    z = g.noise(np.int64(3), 3)
    for same in (z.double(), z.numpy(), z.double().numpy()):
        assert torch.equal(g(labels, noise=same), expected)
    assert torch.isfinite(g(labels, noise=z.half())).all() and torch.isfinite(g(labels, noise=z.int())).all()
    one, region = labels[0], labels[0] == labels[0, 40, 20]
    varied = g.vary(one, region, 3, 9, lock=True)
    for same in (torch.from_numpy(region), region[None].astype(np.uint8), class_region(one, [one[40, 20]])):
        assert torch.equal(g.vary(one, same, 3, 9, lock=True), varied)
    assert torch.equal(
        g(one, noise=g.noise(3, 2)[None], regions=region),
        g(one, noise=g.noise(3, 2)[None], regions=torch.from_numpy(region)[None]),
    )


def test_what_is_no_label_noise_or_region(g, labels):
    z, two = g.noise(0, 3), g.noise(0, 6).unflatten(0, (3, 2))
    half = torch.full((3, 64, 64), 0.5)
    cases = [
        ("labels: torch.float32 values; give integers", {"labels": half * torch.nan}),
        ("labels: torch.bfloat16", {"labels": half.bfloat16()}),
        ("labels: float64", {"labels": labels.astype(float)}),
        ("labels: ", {"labels": [[1], [2, 3]]}),
        ("labels of shape", {"labels": labels[:0]}),
        ("labels of shape", {"labels": np.array(3)}),
        ("noise: holds NaN", {"noise": z * torch.nan}),
        ("noise: holds NaN", {"noise": z.double() + 1e300}),
        ("noise: a str", {"noise": "noise"}),
        ("noise of shape", {"noise": torch.tensor(1.0), "regions": labels}),
        ("noise of shape", {"noise": torch.ones(3), "regions": labels}),
        ("noise of shape", {"noise": z, "regions": labels}),
        ("regions: torch.float32", {"noise": two, "regions": half}),
        ("regions: need", {"noise": two, "regions": labels[0] * 0}),
        ("regions: need", {"noise": two[:, :0], "regions": labels * 0}),
        ("seed: None", {"seed": None}),
        ("noise of shape", {"seed": [1, 2]}),
    ]
    for message, arguments in cases:
        with pytest.raises(InputError, match=message) as caught:
            g(**{"labels": labels, **arguments})
        assert "\n" not in str(caught.value)
    for region, inside, message in ((half * torch.nan, 1, "region: torch"), (labels, [1, 2, 3], "seed: ")):
        with pytest.raises(InputError, match=message):
            g.vary(labels, region, 0, inside)


def test_generate_files_from_a_file_and_a_folder(labels, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for name, ids in zip(("one", "two"), labels, strict=False):
        Image.fromarray(ids).save(maps / f"{name}.png")
    written = generate_files(SHIPPED, maps, tmp_path / "out", seed=5, n=2, progress=False)
    names = [f"{m}_seed{s}.png" for m in ("one", "two") for s in (5, 6)]
    assert [p.name for p in written] == names and sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
    again = generate_files(SHIPPED, maps / "one.png", tmp_path / "again", seed=6, n=1, progress=False)
    assert np.array_equal(np.asarray(Image.open(again[0])), np.asarray(Image.open(written[1])))


def test_varying_one_class_and_locking_the_rest(g, labels, tmp_path):
    ids = torch.from_numpy(labels).long()
    region = class_region(ids, [g.space.id_of("tree"), g.space.id_of("grass")])
    assert torch.equal(region, ((ids == 5) | (ids == 6)).long()) and 0 < region.sum() < region.numel()
    before, free, lock = g(ids, seed=3), g.vary(ids, region, 3, 99), g.vary(ids, region, 3, 99, lock=True)
    inside = region[:, None].bool().expand_as(before)
    assert torch.equal(lock[~inside], before[~inside]), "bit for bit"
    assert torch.equal(lock[inside], free[inside]) and not torch.equal(lock[inside], before[inside])
    change = (free - before).abs()
    assert change[inside].mean() > change[~inside].mean()
    assert torch.equal(free, g.vary(ids, region, 3, 99)), "same seeds, same image"
    with pytest.raises(InputError, match=r"regions: need \(3, 64, 64\) integers in 0..1"):
        g(ids, noise=g.noise(0, 6).unflatten(0, (3, 2)), regions=region + 1)
    Image.fromarray(labels[0]).save(tmp_path / "a.png")
    written = generate_files(
        SHIPPED, tmp_path / "a.png", tmp_path / "out", seed=3, n=2, vary=["tree"], lock=True, progress=False
    )
    assert [p.name for p in written] == ["a_seed3_vary4.png", "a_seed3_vary5.png"]
    one, two = (np.asarray(Image.open(p)) for p in written)
    assert np.array_equal(one[labels[0] != 6], two[labels[0] != 6])
    with pytest.raises(InputError, match="class 'trees' is not one of scenes"):
        generate_files(SHIPPED, tmp_path / "a.png", tmp_path / "out", vary=["trees"], progress=False)
    with pytest.raises(InputError, match="lock: keeps what is outside the classes of vary"):
        generate_files(SHIPPED, tmp_path / "a.png", tmp_path / "out", lock=True, progress=False)


def test_a_new_noise_in_a_class_changes_most_inside_and_when_locked_nothing_else(g, labels):
    """For most classes of a map the mean change inside is at least 3 times that outside, where norms carry it."""
    ids = torch.from_numpy(labels[[1] * 4]).long()
    before, ratios = g(ids, seed=3), {}
    for c in ids.unique().tolist():
        region = class_region(ids, [c])
        inside = region.bool()
        change = (g.vary(ids, region, 3, 99) - before).abs().mean(1)
        ratios[g.space.names[c]] = float(change[inside].mean() / change[~inside].mean())
        differ = (g.vary(ids, region, 3, 99, lock=True) != before).any(1)
        assert int(differ[~inside].sum()) == 0 and differ[inside].any(), "bit for bit"
    assert min(ratios.values()) > 1 and np.median([*ratios.values()]) >= 3, ratios


def test_a_noise_by_classes(g, labels):
    """As with regions made by hand; a class that is not named, and "default", have the noise they should."""
    ids, z = torch.from_numpy(labels[:2]).long(), g.noise([3, 4, 5], 3)
    sky, grass = (g.space.id_of(name) for name in ("sky", "grass"))
    regions = (ids == sky).long() + 2 * (ids == grass)
    own = torch.stack([z[1], z[2]]).expand(2, -1, -1, -1)
    for noise, first in (
        ({"sky": z[1], "grass": z[2].numpy(), "default": z[0]}, z[:1].expand(2, -1, -1)),
        ({"sky": z[1], "grass": z[2].expand(2, -1, -1)}, g.noise(8, 2)),
    ):
        expected = g(ids, noise=torch.cat([first[:, None], own], 1), regions=regions)
        assert torch.equal(g(ids, seed=8, noise=noise), expected)
    assert torch.equal(g(ids, noise={"default": z[0]}), g(ids, seed=[3, 3]))
    for noise, says in (({"skyy": z[0]}, "class 'skyy'"), ({"sky": z[0][:3]}, r"noise of sky: shape \(3, 64\)")):
        with pytest.raises(InputError, match=says):
            g(ids, noise=noise)
    with pytest.raises(InputError, match="the classes are the regions"):
        g(ids, noise={"sky": z[0]}, regions=regions)


def test_strength_of_the_noise(g, labels):
    as_trained = g(labels, seed=1)
    assert torch.equal(g(labels, seed=1, strength=1.0), as_trained)
    assert torch.equal(g(labels, seed=1, strength=0), g(labels, seed=7, strength=0)), "without noise"
    assert not torch.equal(g(labels, seed=1, strength=0), as_trained)
    assert not torch.equal(g(labels, seed=1, strength=2.0), as_trained)
    for strength in (-0.5, float("nan"), float("inf")):
        with pytest.raises(InputError, match="strength"):
            g(labels, strength=strength)


def test_a_walk_over_one_map(g, labels):
    images = torch.cat(list(g.walk(labels[0], 4, 9, 5)))
    assert images.shape == (5, 3, 64, 64)
    assert torch.equal(images[0], g(labels[0], 4)[0]) and torch.equal(images[-1], g(labels[0], 9)[0])
    middle = interpolate(*g.noise([4, 9], 2), 0.5)
    assert torch.equal(images[2], g(labels[0], noise=middle[None])[0])
    assert torch.equal(next(g.walk(labels[0], 4, 9, 2, strength=0.5)), g(labels[0], 4, strength=0.5))
    for given in ((labels, 4, 9, 5), (labels[0], 4, 9, 1), (labels[0], -4, 9, 3)):
        with pytest.raises(InputError):
            g.walk(*given)


def test_what_a_discriminator_sees(labels):
    """Shares are those of the logits; on real images it finds their classes."""
    d, images = load_discriminator(SHIPPED), to_tensor(render(range(3), 64, split="val").images)
    seen, fake = discriminator_view(d, images)
    logits = d(images)
    assert torch.equal(seen, logits[:, :12].argmax(1) + 1) and 1 <= seen.min() and seen.max() <= 12
    assert torch.allclose(fake, logits.exp()[:, 12] / logits.exp().sum(1), atol=1e-5)
    assert (seen == torch.from_numpy(labels)).float().mean() > 0.8


def test_walks_between_two_noises():
    a, b = torch.randn(2, 3, 8, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    for spherical in (True, False):
        assert torch.allclose(interpolate(a, b, 0.0, spherical), a) and torch.allclose(
            interpolate(a, b, 1.0, spherical), b
        )
        assert torch.allclose(interpolate(a, a, 0.3, spherical), a)
    assert torch.allclose(interpolate(a, b, 0.5, spherical=False), (a + b) / 2)
    east, north = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    third = torch.tensor([[[3**0.5 / 2, 0.5]]])  # 30 of 90 degrees
    assert torch.allclose(interpolate(east, north, 1 / 3), third)
    with pytest.raises(InputError, match="cannot be mixed"):
        interpolate(a, b[:, :4], 0.5)


def test_one_bad_map_and_nothing_is_written(labels, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    Image.fromarray(labels[0]).save(maps / "a.png")
    Image.fromarray(labels[0]).convert("RGB").save(maps / "b.png")
    with pytest.raises(InputError, match="b.png: image mode 'RGB'"):
        generate_files(SHIPPED, maps, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="none: holds no PNG"):
        generate_files(SHIPPED, tmp_path / "none", tmp_path / "out", progress=False)
    for n in (0, 10**6 + 1):
        with pytest.raises(InputError, match="n: .* must lie between 1 and 1000000"):
            generate_files(SHIPPED, maps, tmp_path / "out", n=n, progress=False)
    (maps / "b.png").rename(maps / "a.PNG")
    with pytest.raises(InputError, match="a.png: its images would replace those of a.PNG|a.PNG: .* a.png; rename"):
        generate_files(SHIPPED, maps, tmp_path / "out", progress=False)
    for seed in (-1, 2**63 - 2, 2**70):
        with pytest.raises(InputError, match=f"seed: {seed} must lie in"):
            generate_files(SHIPPED, maps / "a.png", tmp_path / "out", seed=seed, n=2, progress=False)
    assert not (tmp_path / "out").exists()


def test_missing_damaged_and_foreign_checkpoints(tmp_path):
    with pytest.raises(InputError, match="holds no dpsims checkpoint"):
        load_generator(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(SHIPPED, copy)
    whole = (copy / "generator.safetensors").read_bytes()
    (copy / "generator.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_generator(copy)
    (copy / "generator.safetensors").write_bytes(whole)
    preset("tiny").save(copy / "config.json")
    with pytest.raises(InputError, match="do not fit its config.json"):
        load_generator(copy)
    (copy / "config.json").write_text('{"model": {"_target_": "os.system"}}')
    with pytest.raises(InputError, match="unknown section"):
        load_generator(copy)
