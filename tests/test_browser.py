"""Browsing data without a browser: what is counted, found, sorted, shown and handed on. Setting a trait is a click."""

import io
import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from dpsims.data import occurrence, scenes
from dpsims.data.occurrence import class_counts, co_occurrence, presence, rarity, together
from dpsims.errors import InputError
from dpsims.explorer.browser import (
    ANY,
    BY_RARITY,
    LEAST,
    MOST,
    ORDERS,
    RAREST,
    STORED,
    VARIED,
    DataBrowser,
    companions,
    percent,
)
from dpsims.explorer.thumbnails import photo_thumbnail, thumbnail_size
from dpsims.labels import LabelSpace, label_space
from dpsims.plotting_occurrence import co_occurrence_matrix

SCENES = label_space("scenes")
COLOURS = ((0, 0, 0), (250, 0, 0), (0, 250, 0), (0, 0, 250), (90, 90, 90))
SPACE = LabelSpace("toy", ("void", "wall", "door", "<cat>", "moon"), COLOURS)
WALL, DOOR, CAT, MOON = 1, 2, 3, 4
MAPS = np.array(
    [
        [[1, 1], [1, 2]],  # wall 3, door 1
        [[1, 2], [2, 2]],  # wall 1, door 3
        [[1, 1], [0, 0]],  # wall 2, void 2
        [[3, 2], [2, 1]],  # cat 1, door 2, wall 1
        [[0, 0], [0, 0]],  # void alone
        [[1, 1], [1, 1]],  # wall 4
    ],
    np.uint8,
)
COUNTS = [[0, 3, 1, 0, 0], [0, 1, 3, 0, 0], [2, 2, 0, 0, 0], [0, 1, 2, 1, 0], [4, 0, 0, 0, 0], [0, 4, 0, 0, 0]]
PHOTOS = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 3), dtype=np.uint8)


class Mapped:
    """Stands for a file on the disk: says how much of it is asked for at a time."""

    def __init__(self, labels):
        self.labels, self.shape, self.dtype, self.asked = labels, labels.shape, labels.dtype, []

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, which):
        part = self.labels[which]
        self.asked.append(1 if part.ndim == 2 else len(part))
        return part


@pytest.fixture
def chosen():
    return []


@pytest.fixture
def browser(chosen):
    return DataBrowser(MAPS, SPACE, PHOTOS, on_choose=chosen.append, per_page=2)


@pytest.fixture(scope="module")
def drawn():
    return scenes.render(range(60), 32, split="val")


def cells(browser):
    return browser.grid.children


def decoded(image):
    return np.asarray(Image.open(io.BytesIO(image.value)).convert("RGB"))


def buttons(browser):
    return [cell.button.description for cell in cells(browser)]


def texts(control):
    return [text for text, _ in control.options]


# -- counting


def test_counts_by_hand():
    counts = class_counts(MAPS, 4)
    assert counts.tolist() == COUNTS and (counts.sum(1) == 4).all()
    assert presence(counts).tolist() == [2, 5, 3, 1, 0]


def test_co_occurrence_by_hand():
    assert together(np.array(COUNTS)).tolist() == [
        [2, 1, 0, 0, 0], [1, 5, 3, 1, 0], [0, 3, 3, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0],
    ]  # fmt: skip
    share = co_occurrence(np.array(COUNTS))
    assert share[1].tolist() == [1 / 5, 1, 3 / 5, 1 / 5, 0], "of the maps with a wall"
    assert share[2].tolist() == [0, 1, 1, 1 / 3, 0] and share[3].tolist() == [0, 1, 1, 1, 0]
    assert not share[4].any() and not share[:, 4].any() and np.isfinite(share).all()


def test_rarity_by_hand():
    assert rarity(np.array(COUNTS)).tolist() == [3 / 6, 3 / 6, 5 / 6, 1 / 6, 1, 5 / 6]


def test_void_is_no_rare_class():
    labels = np.ones((4, 2, 2), np.uint8)
    labels[3] = 0  # in one map of four
    labels[2, 0, 0] = 0
    assert rarity(class_counts(labels, 1)).tolist() == [3 / 4, 3 / 4, 3 / 4, 1]


def test_no_maps_have_no_counts():
    counts = class_counts(MAPS[:0], 4)
    assert counts.shape == (0, 5) and rarity(counts).shape == (0,) and not co_occurrence(counts).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 255), st.integers(1, 9), st.tuples(st.integers(1, 6), st.integers(1, 6)), st.integers(1, 80))
def test_counts_do_not_depend_on_the_blocks(num_classes, count, size, block):
    random = np.random.default_rng(num_classes + 7 * count)
    labels = random.integers(0, num_classes + 1, (count, *size), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(occurrence, "BLOCK", block)
        counts = class_counts(labels, num_classes)
    assert (counts == [[(one == i).sum() for i in range(num_classes + 1)] for one in labels]).all()


def test_maps_on_the_disk_are_read_in_blocks(monkeypatch):
    monkeypatch.setattr(occurrence, "BLOCK", 3 * 4 + 1)
    mapped = Mapped(np.tile(MAPS, (4, 1, 1)))
    assert class_counts(mapped, 4).tolist() == COUNTS * 4
    assert mapped.asked == [3] * 8
    mapped.asked.clear()
    browser = DataBrowser(mapped, SPACE, per_page=5)
    assert mapped.asked == [3] * 8 + [1] * 5, "once for the counts, then the maps of a page"
    mapped.asked.clear()
    browser.holds.value, browser.order.value = WALL, MOST
    assert mapped.asked == [1] * 10, "the thumbnails of two changes"
    browser.also.value, browser.page.value = DOOR, 3
    mapped.asked.clear()
    browser.holds.value = DOOR
    assert mapped.asked == [1] * 5, "one search, though three controls have moved"


def test_a_real_file(tmp_path):
    np.save(tmp_path / "labels.npy", MAPS)
    mapped = np.load(tmp_path / "labels.npy", mmap_mode="r")
    browser = DataBrowser(mapped, SPACE)
    assert browser.labels is mapped and browser.counts.tolist() == COUNTS


# -- filters and orders


def test_at_first_all_maps_are_there_as_stored(browser):
    assert browser.found.tolist() == [0, 1, 2, 3, 4, 5] and browser.position.value == "1-2 of 6"
    assert browser.holds.value == browser.also.value == ANY and browser.message.value == ""
    assert browser.facts.value == (
        "6 maps; 3 of 4 classes occur, 1.5 in a map on average; 25 % of all pixels are void."
    )


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (STORED, [0, 1, 3]),
        (MOST, [1, 3, 0]),
        (LEAST, [0, 3, 1]),
        (RAREST, [3, 0, 1]),
        (VARIED, [3, 0, 1]),
    ],
)
def test_orders_of_the_maps_with_a_door(browser, order, found):
    browser.holds.value = DOOR
    browser.order.value = order
    assert browser.found.tolist() == found
    browser.order.value = STORED
    assert browser.found.tolist() == [0, 1, 3]


def test_orders_of_all_maps(browser):
    browser.order.value = RAREST
    assert browser.found.tolist() == [3, 0, 1, 2, 5, 4]
    browser.order.value = VARIED
    assert browser.found.tolist() == [3, 0, 1, 2, 5, 4]
    browser.order.value = MOST
    assert browser.found.tolist() == [0, 1, 2, 3, 4, 5] and "choose one" in browser.message.value
    browser.holds.value = WALL
    assert browser.found.tolist() == [5, 0, 2, 1, 3] and browser.message.value == ""


def test_two_classes(browser):
    browser.holds.value, browser.also.value = WALL, DOOR
    assert browser.found.tolist() == [0, 1, 3]
    browser.order.value = MOST
    assert browser.found.tolist() == [0, 1, 3], "most wall"
    browser.holds.value, browser.also.value = DOOR, WALL
    assert browser.found.tolist() == [1, 3, 0], "most door"
    browser.holds.value = ANY
    assert browser.also.value == WALL and browser.found.tolist() == [5, 0, 2, 1, 3], "most wall"


def test_lists_of_classes(browser):
    named = ["any - 6 maps", "<cat> - 1 map", "door - 3 maps", "moon - 0 maps", "wall - 5 maps"]
    assert texts(browser.holds) == named
    assert texts(browser.also) == ["any", "<cat> - 1 of 6", "door - 3 of 6", "moon - 0 of 6", "wall - 5 of 6"]
    browser.holds.value = DOOR
    assert texts(browser.also) == ["any", "<cat> - 1 of 3", "moon - 0 of 3", "wall - 3 of 3"]
    browser.also.value = WALL
    browser.classes.value = BY_RARITY
    assert texts(browser.holds) == [named[i] for i in (0, 1, 2, 4, 3)], "what never occurs is last"
    assert texts(browser.also) == ["any", "<cat> - 1 of 3", "wall - 3 of 3", "moon - 0 of 3"]
    assert (browser.holds.value, browser.also.value, browser.found.tolist()) == (DOOR, WALL, [0, 1, 3])


def test_a_class_beside_itself_is_any(browser):
    browser.also.value = WALL
    browser.holds.value = WALL
    assert browser.also.value == ANY and browser.found.tolist() == [0, 1, 2, 3, 5]


def test_nothing_found_is_said(browser):
    browser.holds.value = MOON
    assert browser.message.value == "No map holds moon." and browser.facts.value == "<b>moon</b> is in no map."
    assert not len(browser.found) and not cells(browser) and browser.position.value == "0 of 0"
    assert browser.previous.disabled and browser.next.disabled and browser.page.max == 1
    browser.also.value = CAT
    assert browser.message.value == "No map holds both moon and &lt;cat&gt;."
    browser.holds.value = ANY
    assert browser.message.value == "" and buttons(browser) == ["Paint #3"]


def test_a_message_from_the_web_page_does_the_same(browser):
    browser.holds.set_state({"index": texts(browser.holds).index("<cat> - 1 map")})
    assert browser.holds.value == CAT and browser.found.tolist() == [3]


# -- pages


def test_pages_and_their_ends(browser):
    browser.holds.value = WALL
    assert (browser.page.value, browser.page.max) == (1, 3) and buttons(browser) == ["Paint #0", "Paint #1"]
    assert browser.previous.disabled and not browser.next.disabled
    browser.previous.click()
    assert browser.page.value == 1
    browser.next.click()
    assert browser.position.value == "3-4 of 5" and buttons(browser) == ["Paint #2", "Paint #3"]
    assert not browser.previous.disabled and not browser.next.disabled
    browser.next.click()
    assert browser.position.value == "5-5 of 5" and buttons(browser) == ["Paint #5"]
    assert not browser.previous.disabled and browser.next.disabled
    browser.next.click()
    assert browser.page.value == 3
    browser.page.value = 99
    assert browser.page.value == 3
    browser.previous.click()
    assert buttons(browser) == ["Paint #2", "Paint #3"]


@pytest.mark.parametrize(("control", "value"), [("holds", WALL), ("also", DOOR), ("order", RAREST)])
def test_whatever_changes_starts_at_the_first_page(browser, control, value):
    browser.page.value = 3
    assert browser.position.value == "5-6 of 6"
    getattr(browser, control).value = value
    assert browser.page.value == 1 and browser.position.value.startswith("1-2 of ")


def test_as_many_maps_as_fit_one_page():
    browser = DataBrowser(MAPS, SPACE, per_page=6)
    assert browser.page.max == 1 and browser.next.disabled and browser.position.value == "1-6 of 6"


# -- choosing


def test_the_map_that_is_seen_is_the_one_that_is_chosen(browser, chosen):
    browser.holds.value, browser.also.value, browser.order.value = WALL, DOOR, LEAST
    assert browser.found.tolist() == [1, 3, 0]
    browser.next.click()
    (cell,) = cells(browser)
    cell.button.click()
    browser.previous.click()
    cells(browser)[1].button.click()
    assert chosen == [0, 3] and all(type(number) is int for number in chosen)
    assert (decoded(cells(browser)[1].map)[::40, ::40] == SPACE.colourise(MAPS[3])).all()
    assert (decoded(cells(browser)[1].photo)[::40, ::40] == PHOTOS[3]).all()


def test_a_click_on_a_map_that_is_gone(browser, chosen, caplog):
    last = cells(browser)[1]
    browser.holds.value = CAT
    last.button.click()
    assert chosen == [] and not caplog.records, "ipywidgets logs what a callback raises"


def test_what_cannot_be_chosen_is_said(browser):
    def refuse(number):
        raise InputError(f"map {number} is <large>")

    browser.on_choose = refuse
    cells(browser)[1].button.click()
    assert browser.message.value == "map 1 is &lt;large&gt;"
    browser.on_choose = print
    cells(browser)[1].button.click()
    assert browser.message.value == ""


def test_without_a_painter_there_is_nothing_to_click():
    browser = DataBrowser(MAPS, SPACE, per_page=2)
    assert buttons(browser) == ["#0", "#1"] and all(cell.button.disabled for cell in cells(browser))
    cells(browser)[0].button.click()


# -- what is seen


def test_names_and_shares_are_below_the_maps():
    browser = DataBrowser(MAPS, SPACE, names=["a<b", 7, "c", "d", "e", "f"])
    assert [re.sub("<.*?>", "", cell.caption.value) for cell in cells(browser)][:2] == ["a&lt;b", "7"]
    browser.holds.value, browser.order.value = DOOR, MOST
    assert [re.sub("<.*?>", "", cell.caption.value) for cell in cells(browser)] == [
        "7, 75 %",
        "d, 50 %",
        "a&lt;b, 25 %",
    ]
    unnamed = DataBrowser(MAPS, SPACE)
    assert all(cell.caption.value == "" and cell.caption.layout.display == "none" for cell in cells(unnamed))


def test_facts_of_a_class(browser):
    browser.holds.value = DOOR
    assert browser.facts.value == (
        "<b>door</b> is in 3 maps (50 %) and covers 25 % of all pixels. "
        "Most often seen with wall (100 %), &lt;cat&gt; (33 %)."
    )
    browser.holds.value = CAT
    assert browser.facts.value.startswith("<b>&lt;cat&gt;</b> is in 1 map (17 %) and covers 4.2 % of all pixels. ")
    alone = DataBrowser(MAPS[4:], SPACE)
    alone.holds.value = WALL
    assert alone.facts.value == "<b>wall</b> is in 1 map (50 %) and covers 50 % of all pixels."


def test_companions_by_hand():
    """Class 1 is in ten maps; class 8 in none, and void is none."""
    maps, beside = [10, 10, 9, 5, 7, 4, 6, 2, 0], [10, 10, 8, 5, 5, 1, 0, 0, 0]
    both = np.diag(maps)
    both[1], both[:, 1] = beside, beside
    assert companions(both, 1) == ([2, 3, 4], [6, 7, 5])
    assert companions(both, 1, 1) == ([2], [6])
    assert companions(both[:5, :5], 1) == ([2, 3, 4], [])


def test_companions_in_scenes(drawn):
    browser = DataBrowser(drawn.labels, SCENES)
    browser.holds.value = SCENES.id_of("window")
    held = drawn.labels[(drawn.labels == SCENES.id_of("window")).any((1, 2))]
    building = (held == SCENES.id_of("building")).any((1, 2)).mean()
    assert building == 1 and re.search(r"Most often seen with .*building \(100 %\).*; least", browser.facts.value)


@pytest.mark.parametrize("order", ORDERS)
def test_scenes_in_every_order(drawn, order):
    """Against the maps themselves."""
    browser, tree = DataBrowser(drawn.labels, SCENES), SCENES.id_of("tree")
    browser.holds.value, browser.order.value = tree, order
    holds = [(drawn.labels == i).any((1, 2)) for i in range(13)]
    assert sorted(browser.found) == np.flatnonzero(holds[tree]).tolist() and 1 < holds[tree].sum() < 60
    key = {
        STORED: lambda n: n,
        MOST: lambda n: -(drawn.labels[n] == tree).sum(),
        LEAST: lambda n: (drawn.labels[n] == tree).sum(),
        RAREST: lambda n: min(holds[i].mean() for i in set(np.unique(drawn.labels[n]).tolist()) - {0}),
        VARIED: lambda n: -len(set(np.unique(drawn.labels[n]).tolist()) - {0}),
    }[order]
    assert browser.found.tolist() == sorted(np.flatnonzero(holds[tree]).tolist(), key=key)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((2, 2), (80, 80)),
        ((32, 32), (64, 64)),
        ((64, 64), (64, 64)),
        ((96, 96), (80, 80)),
        ((256, 256), (80, 80)),
        ((256, 512), (80, 160)),
        ((64, 256), (40, 160)),
        ((20, 60), (40, 120)),
        ((3000, 1), (80, 1)),
    ],
)
def test_thumbnails_have_a_size_and_only_colours_of_their_classes(size, shown):
    assert thumbnail_size(*size) == shown
    labels = np.random.default_rng(0).integers(0, 5, (1, *size), dtype=np.uint8)
    browser = DataBrowser(labels, SPACE, np.zeros((*labels.shape, 3), np.uint8))
    (cell,) = cells(browser)
    seen = decoded(cell.map)
    assert seen.shape == (*shown, 3) == decoded(cell.photo).shape
    assert {tuple(colour) for colour in seen.reshape(-1, 3).tolist()} <= set(COLOURS)
    if shown[0] % size[0] == 0:
        scale = shown[0] // size[0]
        assert (seen == SPACE.colourise(labels[0]).repeat(scale, 0).repeat(scale, 1)).all()


def test_photographs_are_made_smaller_by_means():
    image = np.zeros((160, 160, 3), np.uint8)
    image[::2] = 200
    assert (np.asarray(Image.open(io.BytesIO(photo_thumbnail(image)))) == 100).all()


def test_without_photographs():
    browser = DataBrowser(MAPS, SPACE)
    assert all(cell.photo is None and len(cell.children) == 3 for cell in cells(browser))


def test_turning_pages_makes_no_widgets(browser):
    before = cells(browser)
    browser.next.click()
    assert cells(browser) == before and decoded(before[0].map)[0, 0].tolist() == list(COLOURS[WALL])


def test_shares_in_words():
    assert [percent(share) for share in (0, 0.00123, 0.0994, 0.0996, 0.5, 0.994, 0.9996, 1)] == [
        "0 %", "0.12 %", "9.9 %", "10 %", "50 %", "99 %", "over 99 %", "100 %",
    ]  # fmt: skip


def test_text_is_stable(browser, drawn):
    assert repr(browser) == "DataBrowser(6 maps of 2 x 2, 4 classes)"
    assert repr(DataBrowser(drawn.labels[:1], SCENES)) == "DataBrowser(1 map of 32 x 32, 12 classes)"


# -- errors


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"labels": MAPS[0]}, r"labels of shape \(2, 2\)"),
        ({"labels": MAPS[:0]}, r"labels of shape \(0, 2, 2\)"),
        ({"labels": MAPS.astype(np.int64)}, "labels: int64 of shape .*give uint8"),
        ({"images": PHOTOS[:5]}, r"shape \(5, 2, 2, 3\); .* of shape \(6, 2, 2, 3\)"),
        ({"images": PHOTOS / 255}, "images: float64"),
        ({"names": ["a"]}, "names: 1 for 6 label maps"),
        ({"per_page": 0}, "per_page: 0"),
        ({"space": replace(SPACE, names=SPACE.names[:3])}, r"map 3 holds id 3, and the classes are 1\.\.2"),
    ],
)
def test_what_does_not_fit_is_refused(given, says):
    with pytest.raises(InputError, match=says):
        DataBrowser(**{"labels": MAPS, "space": SPACE} | given)


def test_an_id_too_high_is_found_in_a_later_block(monkeypatch):
    monkeypatch.setattr(occurrence, "BLOCK", 8)
    labels = MAPS.copy()
    labels[5, 1, 1] = 255
    with pytest.raises(InputError, match=r"map 5 holds id 255, and the classes are 1\.\.4"):
        class_counts(labels, 4)


# -- the figure


def drawn_cells(axes):
    return {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}


def test_the_matrix_shows_what_is_seen_together():
    before = dict(plt.rcParams)
    figure = co_occurrence_matrix(co_occurrence(np.array(COUNTS)), SPACE)
    assert dict(plt.rcParams) == before
    axes, bar = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["wall", "door", "<cat>"] == [label.get_text() for label in axes.get_xticklabels()]
    assert drawn_cells(axes) == {(0, 1): "60", (0, 2): "20", (1, 0): "100", (1, 2): "33", (2, 0): "100", (2, 1): "100"}
    shown = axes.images[0].get_array()
    assert shown.mask.tolist() == np.eye(3, dtype=bool).tolist() and shown[0, 1] == pytest.approx(60)
    assert axes.get_title(loc="left") == "Classes seen together" and "share of" in bar.get_ylabel()
    plt.close("all")


@pytest.mark.parametrize("most", [2, 20, 60])
def test_the_matrix_of_many_classes_is_legible(most):
    space, random = label_space("ade20k"), np.random.default_rng(0)
    counts = (random.random((200, 151)) < 1 / np.arange(1, 152) ** 0.5).astype(int)
    figure = co_occurrence_matrix(co_occurrence(counts), space, most)
    axes = figure.axes[0]
    assert axes.images[0].get_array().shape == (most, most) and bool(axes.texts) == (most <= 15)
    assert axes.get_title(loc="left") == f"Classes seen together, {most} of 150"
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    inside, outside = figure.get_tightbbox(renderer), figure.bbox_inches
    assert inside.x0 >= 0 and inside.y0 >= 0 and inside.x1 <= outside.x1 and inside.y1 <= outside.y1, "nothing is cut"
    boxes = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in zip(boxes, boxes[1:], strict=False)), "names do not meet"
    plt.close("all")


def test_the_matrix_refuses_what_it_cannot_show():
    with pytest.raises(InputError, match=r"shape \(3, 3\), and toy needs \(5, 5\)"):
        co_occurrence_matrix(np.eye(3), SPACE)
    with pytest.raises(InputError, match="no class occurs"):
        co_occurrence_matrix(co_occurrence(class_counts(MAPS[4:5], 4)), SPACE)
