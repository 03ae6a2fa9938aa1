"""The explorer without a browser: setting a trait does what a user's hand does."""

import asyncio
import dataclasses
import io
import re
import threading
import time

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from dpsims.data import scenes
from dpsims.data.prepare import prepare_scenes
from dpsims.errors import InputError
from dpsims.explorer import studio as studio_module
from dpsims.explorer.controls import NoiseControls
from dpsims.explorer.drawing import Kept, Noise, Own, Scene
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


def shown(panel):
    """(H, W, 3) uint8, the newest image."""
    return panel.shown.image


def counted(panel, monkeypatch):
    """A list that grows by every image that is asked for from now on."""
    asked, ask = [], panel.latest.ask
    monkeypatch.setattr(panel.latest, "ask", lambda wish: (asked.append(wish), ask(wish)))
    return asked


def captions(panel):
    return [box.children[0].value for box in panel.pictures.children]


def test_the_first_image_is_there(panel, generator, maps):
    assert (panel.painter.labels == scenes.render([0], 64, split="val").labels[0]).all()
    expected = np.asarray(Image.open(io.BytesIO(panel.painter.image)))
    assert (picture(panel)[::6, ::6] == expected).all() and (shown(panel) == expected).all()
    bytes_ = ((generator(panel.painter.labels, seed=0)[0] + 1) * 127.5).round().to(torch.uint8)
    assert (expected == bytes_.permute(1, 2, 0).numpy()).all()
    assert captions(panel) == ["one, seed 0"] and re.fullmatch(r"\d+ ms an image", panel.status.value)


@pytest.mark.parametrize(("control", "value"), [("seed", 5), ("strength", 0.2), ("own_share", 1.0)])
def test_each_control_changes_the_image_and_back(panel, controls, control, value):
    widget, before = getattr(controls, control), shown(panel)
    old = widget.value
    widget.value = value
    assert (shown(panel) != before).any()
    widget.value = old
    assert (shown(panel) == before).all(), "same choices, same image"


def test_a_message_from_the_browser_does_the_same(panel, controls):
    before = shown(panel)
    controls.seed.set_state({"value": 9})
    assert (shown(panel) != before).any()
    controls.next_seed.click()
    assert controls.seed.value == 10 and captions(panel) == ["one, seed 10"]


def test_painting_changes_the_image_where_it_was_painted(panel):
    before, labels = shown(panel), panel.painter.labels
    labels[:32] = SPACE.id_of("building")
    browser_paints(panel, labels)
    change = np.abs(shown(panel).astype(int) - before).mean(-1)
    assert change[:32].mean() > 3 * change[40:].mean()
    panel.again.click()
    assert (panel.painter.labels != labels).any() and (shown(panel) == before).all()


def test_another_map(panel):
    before = shown(panel)
    panel.map.value = 3
    assert (panel.painter.labels == scenes.render([3], 64, split="val").labels[0]).all()
    assert panel.map_name.value == scenes.LAYOUTS[scenes.render([3], 64, split="val").layouts[0]]
    assert (shown(panel) != before).any()


def test_one_class_anew_with_the_rest_locked(panel, controls, monkeypatch):
    before, sky = shown(panel), panel.painter.labels == SKY
    controls.own_class.value = SKY
    controls.lock_rest.click()
    asked = counted(panel, monkeypatch)
    controls.renew.click()
    assert len(asked) == 1, "one image, though seed and slider have moved"
    changed = (shown(panel) != before).any(-1)
    assert changed.sum() > sky.sum() / 2 and not changed[~sky].any()
    once = shown(panel)
    controls.renew.click()
    assert (shown(panel) != once).any() and (shown(panel)[~sky] == before[~sky]).all()
    controls.unlock.click()
    assert (shown(panel)[~sky] != before[~sky]).any(), "unlocked, the change may reach beyond the class"
    controls.forget.click()
    assert (shown(panel) == before).all() and controls.have.value == ""


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
    before = shown(panel)
    mark(panel, region)
    assert (shown(panel) == before).all(), "marking alone changes nothing"
    controls.outside.value = True
    controls.renew_region.click()
    changed = (shown(panel) != before).any(-1)
    assert changed[region].mean() > 0.5 and not changed[~region].any()
    controls.outside.value = False
    assert (shown(panel) != before).any(-1)[~region].any()


def test_what_is_locked_stays_until_it_is_painted_over(panel, controls):
    controls.locked.value = ["grass"]
    labels = panel.painter.labels
    grass, before = labels == GRASS, shown(panel)
    controls.seed.value = 9
    assert (shown(panel)[grass] == before[grass]).all() and (shown(panel)[~grass] != before[~grass]).any()
    painted = grass & (np.arange(64) < 20)
    assert painted.any()
    labels[painted] = SPACE.id_of("water")
    browser_paints(panel, labels)
    kept = grass & ~painted
    assert (shown(panel)[kept] == before[kept]).all()
    assert (shown(panel) != before)[painted].any(-1).mean() > 0.9


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
    assert (large[::3, ::3] == shown(panel)).all()


def test_six_moods_of_the_data(panel):
    panel.map.value = 2
    panel.samples.reference.click()
    assert tuple(box.button.description for box in panel.samples.grid.children) == scenes.MOODS
    first = np.asarray(Image.open(io.BytesIO(panel.samples.grid.children[0].children[1].value)))
    assert (first[::3, ::3] == scenes.render([2], 64, split="val", moods=0).images[0]).all()


def test_a_walk_ends_at_its_seeds(panel, generator):
    walks = panel.walks
    walks.first.value, walks.second.value, walks.count.value = 4, 8, 10
    walks.draw.click()
    frames = Image.open(io.BytesIO(walks.animation.value))
    assert frames.n_frames == 10 + 8 and frames.info["loop"] == 0
    strip_shown = np.asarray(Image.open(io.BytesIO(walks.strip.value)))
    for seed, corner in ((4, 0), (8, 7 * (64 + 4))):
        panel.controls.seed.value = seed
        assert (strip_shown[:64, corner : corner + 64] == shown(panel)).all()
    assert 'download="walk-4-8.gif"' in walks.save.value and walks.message.value == ""


def test_two_checkpoints_and_the_real_image(panel):
    panel.second.value, panel.real.value = "large", True
    assert captions(panel) == ["one, seed 0", "large, seed 0", "real: map 0 as it was"]
    assert picture(panel, 1).shape == (384, 384, 3)
    assert (picture(panel, 2)[::6, ::6] == scenes.render([0], 64, split="val").images[0]).all()
    large = load_generator(CHECKPOINTS / "scenes-128")
    expected = large(panel.painter.labels.repeat(2, 0).repeat(2, 1), seed=0)
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
    assert (panel.painter.labels == labels.repeat(2, 0).repeat(2, 1)).all() and shown(panel).shape == (128, 128, 3)
    controls.locked.value = ["water", "grass"]
    assert shown(panel).shape == (128, 128, 3)


def test_what_the_discriminator_sees(panel):
    panel.checkpoint.value = "large"
    plain = picture(panel)
    panel.kind.value = "classes"
    assert re.search(r"the discriminator names \d+% as the map does", captions(panel)[0])
    assert (picture(panel) != plain).any()
    panel.share.value = 1.0
    seen, fake = discriminator_view(
        load_discriminator(CHECKPOINTS / "scenes-128"),
        torch.from_numpy(shown(panel).copy()).permute(2, 0, 1)[None] / 127.5 - 1,
    )
    assert (picture(panel)[::3, ::3] == SPACE.colourise(seen[0].numpy())).all()
    assert (seen == torch.from_numpy(panel.painter.labels)).float().mean() > 0.5
    panel.kind.value = "fake"
    assert f"{fake.mean():.0%}" in captions(panel)[0]


def test_a_generator_alone_has_no_discriminator(panel):
    panel.kind.value = "fake"
    assert "without its discriminator" in panel.problem.value
    before = shown(panel)
    panel.controls.seed.value = 6
    assert (shown(panel) != before).any(), "the image itself comes all the same"
    panel.kind.value = "image"
    assert panel.problem.value == ""


def test_a_checkpoint_that_cannot_be_loaded(generator, maps, tmp_path):
    panel = ExplorerPanel({"one": generator, "gone": tmp_path}, maps)
    panel.checkpoint.value = "gone"
    assert "no dpsims checkpoint" in panel.problem.value and panel.checkpoint.value == "one"
    panel.second.value = "gone"
    assert "no dpsims checkpoint" in panel.problem.value and captions(panel) == ["one, seed 0"]
    panel.controls.seed.value = 1
    assert captions(panel) == ["one, seed 1"]


def test_a_generator_that_fails_says_so_and_the_next_image_comes(panel, controls, monkeypatch):
    def fail(*given, **options):
        raise OSError("a <disk>")

    with monkeypatch.context() as patch:
        patch.setattr(Synthesizer, "__call__", fail)
        controls.seed.value = 4
        assert panel.problem.value == "OSError: a &lt;disk&gt;"
        panel.samples.draw.click()
        assert panel.samples.message.value == "OSError: a &lt;disk&gt;"
        assert panel.samples.bar.layout.visibility == "hidden"
    controls.seed.value = 5
    assert captions(panel) == ["one, seed 5"] and panel.problem.value == ""


def test_a_first_image_that_fails(generator, maps, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Synthesizer, "__call__", lambda *given, **options: 1 / 0)
        panel = ExplorerPanel({"one": generator}, maps)
        panel.controls.locked.value = ["sky"]
        assert "ZeroDivisionError" in panel.problem.value and panel.controls.locked.value == []
    panel.controls.seed.value = 3
    assert captions(panel) == ["one, seed 3"]


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
    assert "no real image of this size" in panel.problem.value


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
    assert not panel.data.place.children
    panel.tabs.selected_index = 3
    (browser,) = panel.data.place.children
    assert (browser.counts[2] == np.bincount(scenes.render([2], 64, split="val").labels.ravel(), minlength=13)).all()
    browser.on_choose(4)
    assert panel.map.value == 4 and (panel.painter.labels == scenes.render([4], 64, split="val").labels[0]).all()


def test_another_map_is_drawn_once_and_undoes_no_lock_in_secret(panel, controls, monkeypatch):
    controls.locked.value, controls.outside.value = ["sky"], True
    asked = counted(panel, monkeypatch)
    panel.choose(3)
    assert len(asked) == 1 and controls.locked.value == [] and not controls.outside.value
    panel.choose(3)
    controls.renew_region.click()
    assert len(asked) == 3


def test_outside_of_no_region_is_everything_and_that_is_said(panel, controls):
    controls.outside.value = True
    before = shown(panel)
    controls.seed.value = 8
    assert (shown(panel) == before).all() and "no region is marked" in panel.problem.value
    region = np.zeros((64, 64), bool)
    region[:9] = True
    mark(panel, region)
    assert panel.problem.value == "" and (shown(panel) != before).any()


@pytest.mark.parametrize("deed", ["lock everything", "strength 0", "region of nothing"])
def test_controls_that_seem_dead_say_why(panel, controls, deed):
    if deed == "lock everything":
        controls.lock_this.click()
        controls.lock_rest.click()
        controls.lock_this.click()
        assert panel.problem.value == "Everything stays as it is: all of it is locked."
    elif deed == "strength 0":
        controls.strength.value = 0
        assert "every seed gives the same image" in panel.problem.value
    else:
        controls.renew_region.click()
        assert "No region is marked" in panel.problem.value
    controls.unlock.click()
    controls.strength.value, controls.region_share.value = 1.0, 0.0
    assert panel.problem.value == ""


def test_samples_of_another_map_go(panel):
    panel.samples.draw.click()
    assert len(panel.samples.grid.children) == 8
    panel.map.value = 2
    assert panel.samples.grid.children == ()


def test_there_and_back_keeps_every_pixel_and_the_region(panel):
    panel.checkpoint.value = "large"
    labels, region = panel.painter.labels, np.zeros((128, 128), bool)
    labels[::2], region[:32] = SPACE.id_of("road"), True
    browser_paints(panel, labels)
    mark(panel, region)
    panel.checkpoint.value = "one"
    assert panel.painter.region[:16].all() and not panel.painter.region[16:].any()
    panel.checkpoint.value = "large"
    assert (panel.painter.labels == labels).all()
    panel.checkpoint.value = "one"
    small = panel.painter.labels
    small[5] = GRASS
    browser_paints(panel, small)
    panel.checkpoint.value = "large"
    assert (panel.painter.labels == small.repeat(2, 0).repeat(2, 1)).all(), "what was painted at the small size counts"


def test_long_use_makes_no_more_widgets(panel):
    def use():
        panel.real.value = not panel.real.value
        panel.checkpoint.value = "one" if panel.checkpoint.value == "large" else "large"
        panel.samples.draw.click()
        panel.samples.reference.click()

    use(), use()
    before = len(ipywidgets.widgets.widget._instances)
    for _ in range(4):
        use()
    assert len(ipywidgets.widgets.widget._instances) == before


def test_a_walk_keeps_what_classes_have_of_their_own(panel, controls):
    controls.own_class.value = SKY
    controls.renew.click()
    panel.walks.first.value, panel.walks.count.value = 0, 3
    panel.walks.draw.click()
    first = np.asarray(Image.open(io.BytesIO(panel.walks.strip.value)))[:64, :64]
    assert (first == shown(panel)).all()


def test_names_are_no_html(generator):
    names = ("void", "<img src=x onerror=alert(1)>", *SPACE.names[2:])
    space = dataclasses.replace(SPACE, names=names)
    controls = NoiseControls(space, 0, lambda: None, lambda: None)
    controls.own_class.value = 1
    controls.own_share.value = 1.0
    assert "<" not in controls.have.value and "onerror" in controls.have.value


def test_seeds_that_no_box_holds():
    assert "seed: -5" in open_explorer(seed=-5).value and "seed: 1099511627776" in open_explorer(seed=2**40).value


# -- with an event loop, as in JupyterLab and voila


class Slow:
    """Holds the first image back until it is let go."""

    def __init__(self, monkeypatch):
        self.go, self.begun, call = threading.Event(), threading.Event(), Synthesizer.__call__

        def slow(*given, **options):
            self.begun.set()
            self.go.wait(20)
            return call(*given, **options)

        monkeypatch.setattr(Synthesizer, "__call__", slow)

    async def wait(self):
        await asyncio.to_thread(self.begun.wait, 20)


def test_while_an_image_is_drawn_nobody_waits_and_the_last_wish_counts(panel, controls, monkeypatch):
    async def hand():
        slow = Slow(monkeypatch)
        begin = time.monotonic()
        for seed in range(1, 20):
            controls.seed.value = seed
            await asyncio.sleep(0)
        assert time.monotonic() - begin < 5 and captions(panel) == ["one, seed 0"]
        slow.go.set()
        await panel.latest.idle()

    asyncio.run(hand())
    assert captions(panel) == ["one, seed 19"]


def test_a_lock_before_the_new_map_is_drawn_keeps_the_new_map(panel, controls, generator, monkeypatch):
    async def hand():
        panel.map.value = 1
        controls.locked.value = ["sky"]
        controls.seed.value = 5
        await panel.latest.idle()

    asyncio.run(hand())
    labels = scenes.render([1], 64, split="val").labels[0]
    first = ((generator(labels, 0)[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert (shown(panel)[labels == SKY] == first[labels == SKY]).all() and (shown(panel) != first).any()


def test_an_unforeseen_error_ends_no_later_wish(panel, controls, monkeypatch):
    async def hand():
        slow = Slow(monkeypatch)
        monkeypatch.setattr(studio_module, "png", None)  # what draws next raises a TypeError
        controls.seed.value = 4
        await slow.wait()
        controls.seed.value = 5
        slow.go.set()
        await panel.latest.idle()
        assert "TypeError" in panel.problem.value
        monkeypatch.undo()
        controls.seed.value = 6
        await panel.latest.idle()

    asyncio.run(hand())
    assert captions(panel) == ["one, seed 6"] and panel.problem.value == ""


def test_a_walk_that_is_overtaken_is_left_off(panel, monkeypatch):
    walks = panel.walks

    async def hand():
        slow = Slow(monkeypatch)
        walks.count.value = 90
        walks.draw.click()
        await slow.wait()
        walks.count.value, walks.second.value = 5, 7
        walks.draw.click()
        slow.go.set()
        await asyncio.sleep(0.02)
        assert walks.bar.layout.visibility == "visible" and walks.bar.max == 5
        await walks.latest.idle()

    asyncio.run(hand())
    assert walks.bar.layout.visibility == "hidden" and walks.bar.value == 5
    assert "walk-0-7.gif" in walks.save.value and Image.open(io.BytesIO(walks.animation.value)).n_frames == 5 + 3


def test_moods_are_not_overwritten_by_samples_under_way(panel, monkeypatch):
    async def hand():
        slow = Slow(monkeypatch)
        panel.samples.draw.click()
        panel.samples.count.value = 2
        await slow.wait()
        panel.samples.reference.click()
        slow.go.set()
        await panel.samples.latest.idle()

    asyncio.run(hand())
    assert [box.button.description for box in panel.samples.grid.children] == list(scenes.MOODS)


def test_a_message_stays_until_the_user_does_something(generator, maps, tmp_path, monkeypatch):
    panel = ExplorerPanel({"one": generator, "gone": tmp_path}, maps)

    async def hand():
        slow = Slow(monkeypatch)
        panel.controls.seed.value = 2
        await slow.wait()
        panel.checkpoint.value = "gone"
        await panel._loading.idle()
        slow.go.set()
        await panel.latest.idle()

    asyncio.run(hand())
    assert "no dpsims checkpoint" in panel.problem.value and captions(panel) == ["one, seed 2"]


# -- parts


def test_of_twenty_wishes_in_a_busy_second_two_are_fulfilled():
    """The first, and the last; nobody waits for those between."""
    busy, done, errors, begun = threading.Event(), [], [], []

    def work(wish):
        begun.append(wish)
        busy.wait(10)
        return wish

    async def hand():
        latest = LatestWins(work, done.append, errors.append)
        for wish in range(20):
            latest.ask(wish)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        for wish in range(20, 30):
            latest.ask(wish)
        busy.set()
        await latest.idle()

    asyncio.run(hand())
    assert begun == done == [0, 29] and not errors


def test_without_a_loop_the_work_is_done_at_once():
    done = []
    latest = LatestWins(lambda wish: 6 // wish, done.append, done.append)
    latest.ask(2)
    latest.ask(0)
    assert done[0] == 3 and isinstance(done[1], ZeroDivisionError)


def test_an_image_of_a_checkpoint_that_was_left_is_not_shown(panel):
    old = panel.shown
    panel.checkpoint.value = "large"
    new = panel.shown
    panel._show(old)
    assert panel.shown is new


def test_noises_of_classes_and_region(generator, maps):
    labels, region = maps.labels(0, (64, 64)), np.zeros((64, 64), bool)
    region[:8] = True
    noise = Noise(3, 1.0, {GRASS: Own(5, 1.0), 0: Own(1, 1.0), SKY: Own(2, 0.0)}, Own(8, 0.5))
    base = generator.noise(3)
    z, regions = Scene(generator, labels, region, noise).tensors(base)
    assert z.shape[:2] == (1, 3), "no void in the map, and a share of 0 is the image's noise"
    assert torch.equal(z[0, 0], base[0]) and torch.equal(z[0, 1], generator.noise(5)[0])
    assert torch.equal(z[0, 2], interpolate(base[0], generator.noise(8)[0], 0.5))
    assert (regions[0].numpy() == np.where(region, 2, np.where(labels == GRASS, 1, 0))).all()
    assert Scene(generator, labels, region, Noise(3)).tensors(base) == (base, None)


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
