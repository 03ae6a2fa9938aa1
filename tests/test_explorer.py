"""The explorer without a browser: setting a trait does what a user's hand does."""

import asyncio
import io
import re
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from dpsims.data import scenes
from dpsims.data.prepare import prepare_scenes
from dpsims.errors import InputError
from dpsims.explorer.drawing import Kept, Noise, Own, draw
from dpsims.explorer.latest import LatestWins
from dpsims.explorer.maps import PreparedMaps, SceneMaps
from dpsims.explorer.opening import open_explorer
from dpsims.explorer.panel import ExplorerPanel
from dpsims.explorer.pictures import gif, link, png, strip, tinted
from dpsims.labels import label_space
from dpsims.noise import interpolate
from dpsims.paths import CHECKPOINTS
from dpsims.presets import preset
from dpsims.synthesis import Synthesizer, build_generator, discriminator_view, load_discriminator, load_generator

SPACE = label_space("scenes")
SKY, GRASS = SPACE.id_of("sky"), SPACE.id_of("grass")


@pytest.fixture(scope="module")
def generator():
    return load_generator(CHECKPOINTS / "scenes-64")


@pytest.fixture(scope="module")
def maps():
    return SceneMaps(6)


@pytest.fixture
def panel(generator, maps):
    return ExplorerPanel({"one": generator, "large": CHECKPOINTS / "scenes-128"}, maps)


@pytest.fixture
def controls(panel):
    return panel.controls


def browser_paints(panel, labels):
    """What ends in Python when the pen is lifted."""
    panel.painter.set_state({"_labels": memoryview(labels.astype(np.uint8).tobytes())})


def mark(panel, region):
    panel.painter.set_state({"_region": memoryview(region.astype(np.uint8).tobytes())})


def picture(panel, number=0):
    return np.asarray(Image.open(io.BytesIO(panel.pictures.children[number].children[1].value)))


def captions(panel):
    return [box.children[0].value for box in panel.pictures.children]


def test_the_first_image_is_there(panel, generator, maps):
    assert (panel.painter.labels == scenes.render([0], 64, split="val").labels[0]).all()
    expected = np.asarray(Image.open(io.BytesIO(panel.painter.image)))
    assert (picture(panel)[::6, ::6] == expected).all() and (panel.shown.image == expected).all()
    bytes_ = ((generator(panel.painter.labels, seed=0)[0] + 1) * 127.5).round().to(torch.uint8)
    assert (expected == bytes_.permute(1, 2, 0).numpy()).all()
    assert captions(panel) == ["one, seed 0"] and re.fullmatch(r"\d+ ms an image", panel.status.value)


@pytest.mark.parametrize(("control", "value"), [("seed", 5), ("strength", 0.2), ("own_share", 1.0)])
def test_each_control_changes_the_image_and_back(panel, controls, control, value):
    widget, before = getattr(controls, control), panel.shown.image
    old = widget.value
    widget.value = value
    assert (panel.shown.image != before).any()
    widget.value = old
    assert (panel.shown.image == before).all(), "same choices, same image"


def test_a_message_from_the_browser_does_the_same(panel, controls):
    before = panel.shown.image
    controls.seed.set_state({"value": 9})
    assert (panel.shown.image != before).any()
    controls.next_seed.click()
    assert controls.seed.value == 10 and captions(panel) == ["one, seed 10"]


def test_painting_changes_the_image_where_it_was_painted(panel):
    before, labels = panel.shown.image, panel.painter.labels
    labels[:32] = SPACE.id_of("building")
    browser_paints(panel, labels)
    change = np.abs(panel.shown.image.astype(int) - before).mean(-1)
    assert change[:32].mean() > 3 * change[40:].mean()
    panel.again.click()
    assert (panel.painter.labels != labels).any() and (panel.shown.image == before).all()


def test_another_map(panel):
    before = panel.shown.image
    panel.map.value = 3
    assert (panel.painter.labels == scenes.render([3], 64, split="val").labels[0]).all()
    assert panel.map_name.value == scenes.LAYOUTS[scenes.render([3], 64, split="val").layouts[0]]
    assert (panel.shown.image != before).any()


def test_one_class_anew_with_the_rest_locked(panel, controls):
    before, sky = panel.shown.image, panel.painter.labels == SKY
    controls.own_class.value = SKY
    controls.lock_rest.click()
    calls = panel.latest.calls
    controls.renew.click()
    assert panel.latest.calls == calls + 1, "one image, though seed and slider have moved"
    changed = (panel.shown.image != before).any(-1)
    assert changed.sum() > sky.sum() / 2 and not changed[~sky].any()
    once = panel.shown.image
    controls.renew.click()
    assert (panel.shown.image != once).any() and (panel.shown.image[~sky] == before[~sky]).all()
    controls.unlock.click()
    assert (panel.shown.image[~sky] != before[~sky]).any(), "unlocked, the change may reach beyond the class"
    controls.forget.click()
    assert (panel.shown.image == before).all() and controls.have.value == ""


def test_each_class_keeps_its_own_noise(panel, controls):
    controls.own_class.value = SKY
    controls.own_share.value, controls.own_seed.value = 0.5, 7
    controls.own_class.value = GRASS
    assert controls.own_share.value == 0
    controls.own_share.value = 1.0
    controls.own_class.value = SKY
    assert (controls.own_share.value, controls.own_seed.value) == (0.5, 7)
    assert controls.noise().classes == {SKY: Own(7, 0.5), GRASS: Own(7, 1.0)}
    assert "sky (seed 7)" in controls.have.value and "grass" in controls.have.value


def test_only_inside_a_painted_region(panel, controls):
    region = np.zeros((64, 64), bool)
    region[10:30, 20:50] = True
    before = panel.shown.image
    mark(panel, region)
    assert (panel.shown.image == before).all(), "marking alone changes nothing"
    controls.outside.value = True
    controls.renew_region.click()
    changed = (panel.shown.image != before).any(-1)
    assert changed[region].mean() > 0.5 and not changed[~region].any()
    controls.outside.value = False
    assert (panel.shown.image != before).any(-1)[~region].any()


def test_what_is_locked_stays_until_it_is_painted_over(panel, controls):
    controls.locked.value = ["grass"]
    labels = panel.painter.labels
    grass, before = labels == GRASS, panel.shown.image
    controls.seed.value = 9
    assert (panel.shown.image[grass] == before[grass]).all() and (panel.shown.image[~grass] != before[~grass]).any()
    painted = grass & (np.arange(64) < 20)
    assert painted.any()
    labels[painted] = SPACE.id_of("water")
    browser_paints(panel, labels)
    kept = grass & ~painted
    assert (panel.shown.image[kept] == before[kept]).all()
    assert (panel.shown.image != before)[painted].any(-1).mean() > 0.9


def test_a_click_chooses_the_class(panel, controls):
    row, column = np.argwhere(panel.painter.labels == GRASS)[0].tolist()
    panel.painter.set_state({"picked": GRASS, "picked_at": [row, column]})
    assert controls.own_class.value == GRASS and "grass" in panel.painter.message


def test_samples_and_their_seeds(panel, controls):
    panel.samples.count.value = 3
    panel.samples.draw.click()
    boxes = panel.samples.grid.children
    assert [box.children[0].description for box in boxes] == ["Take seed 0", "Take seed 1", "Take seed 2"]
    boxes[2].children[0].click()
    assert controls.seed.value == 2 and panel.samples.bar.value == 3
    large = np.asarray(Image.open(io.BytesIO(boxes[2].children[1].value)))
    assert (large[::3, ::3] == panel.shown.image).all()


def test_six_moods_of_the_data(panel):
    panel.map.value = 2
    panel.samples.reference.click()
    assert tuple(box.children[0].value for box in panel.samples.grid.children) == scenes.MOODS
    first = np.asarray(Image.open(io.BytesIO(panel.samples.grid.children[0].children[1].value)))
    assert (first[::3, ::3] == scenes.render([2], 64, split="val", moods=0).images[0]).all()


def test_a_walk_ends_at_its_seeds(panel, generator):
    walks = panel.walks
    walks.first.value, walks.second.value, walks.steps.value = 4, 8, 10
    walks.draw.click()
    frames = Image.open(io.BytesIO(walks.animation.value))
    assert frames.n_frames == 10 + 8 and frames.info["loop"] == 0
    shown = np.asarray(Image.open(io.BytesIO(walks.strip.value)))
    for seed, corner in ((4, 0), (8, 7 * (64 + 4))):
        panel.controls.seed.value = seed
        assert (shown[:64, corner : corner + 64] == panel.shown.image).all()
    assert 'download="walk-4-8.gif"' in walks.save.value and walks.message.value == ""


def test_two_checkpoints_and_the_real_image(panel):
    panel.second.value, panel.real.value = "large", True
    assert captions(panel) == ["one, seed 0", "large, seed 0", "real, of the map before it was painted on"]
    assert picture(panel, 1).shape == (384, 384, 3)
    assert (picture(panel, 2)[::6, ::6] == scenes.render([0], 64, split="val").images[0]).all()
    large = load_generator(CHECKPOINTS / "scenes-128")
    expected = draw(large, panel.painter.labels.repeat(2, 0).repeat(2, 1), Noise(0))
    expected = ((expected[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert (picture(panel, 1)[::3, ::3] == expected).all()
    panel.second.value, panel.real.value = "", False
    assert captions(panel) == ["one, seed 0"]


def test_another_checkpoint_keeps_the_painting(panel, controls):
    labels = panel.painter.labels
    labels[:20] = SPACE.id_of("water")
    browser_paints(panel, labels)
    controls.locked.value = ["water"]
    panel.checkpoint.value = "large"
    assert (panel.painter.labels == labels.repeat(2, 0).repeat(2, 1)).all() and panel.shown.image.shape == (128, 128, 3)
    controls.locked.value = ["water", "grass"]
    assert panel.shown.image.shape == (128, 128, 3)


def test_what_the_discriminator_sees(panel):
    panel.checkpoint.value = "large"
    plain = picture(panel)
    panel.kind.value = "classes"
    assert re.search(r"D names \d+% of the pixels", panel.status.value) and (picture(panel) != plain).any()
    panel.share.value = 1.0
    seen, fake = discriminator_view(
        load_discriminator(CHECKPOINTS / "scenes-128"),
        torch.from_numpy(panel.shown.image.copy()).permute(2, 0, 1)[None] / 127.5 - 1,
    )
    assert (picture(panel)[::3, ::3] == SPACE.colourise(seen[0].numpy())).all()
    assert (seen == torch.from_numpy(panel.painter.labels)).float().mean() > 0.5
    panel.kind.value = "fake"
    assert f"{fake.mean():.0%}" in panel.status.value


def test_a_generator_alone_has_no_discriminator(panel):
    panel.kind.value = "fake"
    assert "without its discriminator" in panel.status.value
    panel.kind.value = "image"
    assert "ms an image" in panel.status.value


def test_a_checkpoint_that_cannot_be_loaded(generator, maps, tmp_path):
    panel = ExplorerPanel({"one": generator, "gone": tmp_path}, maps)
    before = panel.shown.image
    panel.checkpoint.value = "gone"
    assert "no dpsims checkpoint" in panel.status.value and panel.checkpoint.value == "one"
    panel.second.value = "gone"
    assert "no dpsims checkpoint" in panel.status.value and (panel.shown.image == before).all()


def test_a_generator_that_fails_says_so_and_the_next_image_comes(panel, controls, monkeypatch):
    def fail(*given, **options):
        raise RuntimeError("out of <memory>")

    with monkeypatch.context() as patch:
        patch.setattr(Synthesizer, "__call__", fail)
        controls.seed.value = 4
        assert panel.status.value == "out of &lt;memory&gt;"
        panel.samples.draw.click()
        assert panel.samples.message.value == "out of &lt;memory&gt;"
    controls.seed.value = 5
    assert captions(panel) == ["one, seed 5"]


def test_maps_of_a_prepared_folder(tmp_path):
    path = prepare_scenes(tmp_path, n=2, n_val=3, size=64)
    maps, drawn = PreparedMaps(path), scenes.render(range(3), 64, split="val")
    assert len(maps) == 3 and maps.name(1) == "map 1" and maps.moods(0, (64, 64)) == {}
    assert (maps.labels(2, (64, 64)) == drawn.labels[2]).all() and (maps.photo(2, (64, 64)) == drawn.images[2]).all()
    assert (maps.labels(1, (32, 48)) == drawn.labels[1][16:48, 8:56]).all()
    assert (maps.photo(1, (32, 48)) == drawn.images[1][16:48, 8:56]).all()
    assert (maps.labels(0, (128, 128))[::2, ::2] == drawn.labels[0]).all() and maps.photo(0, (128, 128)) is None
    panel = open_explorer(data_path=str(path))
    panel.real.value = True
    assert len(captions(panel)) == 2
    panel.checkpoint.value = "scenes-128"
    assert "no real image of this size" in panel.status.value


def test_other_classes_are_refused(maps):
    torch.manual_seed(0)
    config = preset("tiny")
    foreign = Synthesizer(build_generator(config, folded=True), config, {}, label_space("cityscapes"))
    with pytest.raises(InputError, match="draws 33 classes of cityscapes, and the maps have 12 of scenes"):
        ExplorerPanel({"foreign": foreign}, maps)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"checkpoint": "/nowhere"}, "holds no dpsims checkpoint"), ({"data_path": "/nowhere"}, "no prepared data")],
)
def test_what_cannot_be_opened_is_told_in_its_place(given, says):
    assert says in open_explorer(**given).value


def test_text_is_stable(panel):
    assert repr(panel) == "ExplorerPanel(6 maps, one, large, 64 x 64)"


def test_every_shipped_checkpoint_is_offered():
    panel = open_explorer(str(CHECKPOINTS / "scenes-128"), count=3)
    assert panel.checkpoint.options == ("scenes-128", "scenes-64") and panel.checkpoint.value == "scenes-128"


def test_thumbnails_are_made_when_somebody_looks(panel):
    assert not panel.data.children
    panel.tabs.selected_index = 3
    (browser,) = panel.data.children
    browser.on_choose(4)
    assert panel.map.value == 4 and (panel.painter.labels == scenes.render([4], 64, split="val").labels[0]).all()


# -- parts


def test_of_twenty_wishes_in_a_busy_second_two_are_fulfilled():
    """The first, and the last; nobody waits for those between."""
    busy, done = threading.Event(), []

    def work(wish):
        busy.wait(10)
        return wish

    async def hand():
        latest = LatestWins(work, done.append)
        for wish in range(20):
            latest.ask(wish)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        for wish in range(20, 30):
            latest.ask(wish)
        busy.set()
        await latest.idle()
        return latest.calls

    assert asyncio.run(hand()) == 2 and done == [0, 29]


def test_without_a_loop_the_work_is_done_at_once():
    done = []
    LatestWins(lambda wish: wish + 1, done.append).ask(1)
    assert done == [2]


def test_an_image_of_a_checkpoint_that_was_left_is_not_shown(panel):
    old = panel.shown
    panel.checkpoint.value = "large"
    new = panel.shown
    panel._done(old)
    assert panel.shown is new


def test_noises_of_classes_and_region(generator, maps):
    labels, region = maps.labels(0, (64, 64)), np.zeros((64, 64), bool)
    region[:8] = True
    noise = Noise(3, 1.0, {GRASS: Own(5, 1.0), 0: Own(1, 1.0), SKY: Own(2, 0.0)}, Own(8, 0.5))
    z, regions = noise.tensors(generator, labels, region)
    assert z.shape[:2] == (1, 3), "no void in the map, and a share of 0 is the image's noise"
    assert torch.equal(z[0, 1], generator.noise(5)[0])
    assert torch.equal(z[0, 2], interpolate(generator.noise(3)[0], generator.noise(8)[0], 0.5))
    expected = np.where(region, 2, np.where(labels == GRASS, 1, 0))
    assert (regions[0].numpy() == expected).all()
    assert Noise(3).tensors(generator, labels, region)[1] is None


def test_what_is_kept():
    labels = np.array([[1, 1, 2], [2, 3, 3]])
    image, other = np.full((2, 3, 3), 9, np.uint8), np.zeros((2, 3, 3), np.uint8)
    kept = Kept(image, labels, frozenset({1, 3}))
    now = np.array([[1, 2, 2], [3, 3, 1]])  # three places were painted over
    nowhere = np.zeros((2, 3), bool)
    assert (kept.over(other, now, nowhere)[..., 0] == [[9, 0, 0], [0, 9, 0]]).all()
    region = np.array([[True, True, False], [True, True, True]])
    assert (Kept(image, labels, outside=True).over(other, now, region)[..., 0] == [[0, 0, 9], [0, 0, 0]]).all()


def test_pictures():
    image = np.arange(64 * 128 * 3, dtype=np.uint8).reshape(64, 128, 3)
    large = np.asarray(Image.open(io.BytesIO(png(image, 384))))
    assert large.shape == (192, 384, 3) and (large[1::3, 2::3] == image).all()
    assert strip([image] * 3, 2, 128).shape == (64 * 2 + 4, 128 * 2 + 4, 3)
    assert (tinted(image, 255 - image, 0) == image).all() and (tinted(image, 255 - image, 1) == 255 - image).all()
    frames = Image.open(io.BytesIO(gif([image, image.copy() // 2, image // 4], 100)))
    assert frames.n_frames == 4 and frames.info["duration"] == 100 and frames.size == (256, 128)
    assert 'download="a&quot;.gif" href="data:image/gif;base64,MQ==">&lt;b&gt;</a>' in link(b"1", 'a".gif', "<b>")
