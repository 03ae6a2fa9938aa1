"""The explorer under a real mouse, in a real JupyterLab and a real voila: painting, resampling, walking, exporting.

What is compared are the images that the page shows, byte by byte, and the label maps that it saves.
"""

import io
import re
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from dpsims.labels import label_space, read_label_map
from tests.chromium import PATIENCE
from tests.in_browser import needs_chromium, painting_in

pytestmark = needs_chromium

SPACE = label_space("scenes")
SKY, BUILDING = SPACE.id_of("sky"), SPACE.id_of("building")
NOTEBOOK = """
import json, zlib
import ipywidgets as W
import numpy as np
from dpsims.explorer.opening import open_explorer
from dpsims.images import to_uint8
panel = open_explorer(count=6)
said = W.Label()
def tell(change=None):
    labels, image = panel.painter.labels, panel.shown.image
    counts = np.bincount(labels.ravel(), minlength=13).tolist()
    said.value = json.dumps({"crc": zlib.crc32(labels), "image": zlib.crc32(image), "counts": counts,
                             "strength": panel.controls.strength.value, "seed": panel.controls.seed.value})
tell()
done = panel.latest._done
panel.latest._done = lambda drawn: tell(done(drawn))  # after every image
generator = panel.generator
def expected(strength):
    return zlib.crc32(to_uint8(generator(panel.painter.labels, seed=0, strength=strength))[0])
weak = W.Label(f"weak: {expected(0.25)}")
W.VBox([panel, said, weak])
"""
SHOWN = """async (number) => {
  const image = document.querySelectorAll("img.widget-image")[number];
  const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
  return Array.from(bytes);
}"""
# from the end of a stroke to the moment at which the new image is decoded and in the page
CLOCK = """() => {
  const image = document.querySelector("img.widget-image");
  window.took = null;
  window.addEventListener("pointerup", (event) => {
    const loaded = () => { window.took = performance.now() - event.timeStamp; };
    image.addEventListener("load", loaded, { once: true });
  }, { capture: true, once: true });
}"""


@pytest.fixture(scope="module", params=["lab", "voila"])
def page(request, tmp_path_factory):
    with painting_in(request.param, NOTEBOOK, tmp_path_factory.mktemp(request.param)) as painting:
        yield painting


def shown(page, number=0):
    """(H, W, 3) of an image in the page, each pixel once; the first is that of the first checkpoint."""
    picture = np.asarray(Image.open(io.BytesIO(bytes(page.page.evaluate(SHOWN, number)))))
    return picture[::6, ::6]


def button(page, name):
    return page.page.locator("button.jupyter-button").filter(has_text=re.compile(rf"^\s*{re.escape(name)}\s*$")).last


def press(page, name):
    button(page, name).click()


def open_tab(page, name):
    page.page.locator(".lm-TabBar-tab", has_text=name).last.click()


def settled(page, before):
    """Waits until Python has drawn another image than `before` and the page shows it; returns what Python says."""
    said = page.wait(lambda said: said["image"] != before["image"])
    end = time.monotonic() + PATIENCE
    while zlib.crc32(np.ascontiguousarray(shown(page))) != page.said["image"]:
        assert time.monotonic() < end, "the page shows another image than Python has drawn"
        page.page.wait_for_timeout(50)
    return said


def labels_of(page):
    return read_label_map(page.save("Save the label map as a grey PNG of class ids"), SPACE, (64, 64))


def test_a_stroke_changes_histogram_and_image(page, record_property):
    before, image = page.said, shown(page)
    assert zlib.crc32(np.ascontiguousarray(image)) == before["image"]
    page.click("building")
    page.page.evaluate(CLOCK)
    page.drag((10, 20), (50, 24))
    said = settled(page, before)
    assert said["counts"][BUILDING] > before["counts"][BUILDING] and (shown(page) != image).any()
    page.page.wait_for_function("window.took !== null")
    milliseconds = page.page.evaluate("window.took")
    record_property("milliseconds", milliseconds)
    print(f"{page.kind}: pen-up to new image {milliseconds:.0f} ms")
    page.click("Undo (Ctrl+Z)")
    back = page.wait(lambda said: said["crc"] == before["crc"] and said["image"] == before["image"])
    assert back["counts"] == before["counts"]
    settled(page, said)
    assert (shown(page) == image).all()


def test_one_class_anew_with_the_rest_locked(page):
    before, image, sky = page.said, shown(page), labels_of(page) == SKY
    page.page.locator(".widget-dropdown", has_text="class").locator("select").last.select_option("sky")
    press(page, "Lock all others")
    page.page.wait_for_timeout(300)
    press(page, "New noise for this class")
    settled(page, before)
    changed = (shown(page) != image).any(-1)
    assert changed[sky].mean() > 0.5 and not changed[~sky].any()
    press(page, "No own noise")
    press(page, "Unlock all")
    page.wait(lambda said: said["image"] == before["image"])


def test_inside_a_painted_region(page):
    before, image = page.said, shown(page)
    page.click("Mark a region; Fill marks the connected area of one class")
    page.page.keyboard.press("r")
    page.drag((8, 8), (39, 23))
    page.page.keyboard.press("b")
    page.click("Paint classes")
    page.page.get_by_label("outside stays, pixel by pixel").last.check()
    press(page, "New noise in the region")
    settled(page, before)
    changed = (shown(page) != image).any(-1)
    assert changed[8:24, 8:40].mean() > 0.5
    changed[8:24, 8:40] = False
    assert not changed.any()
    press(page, "Unlock all")
    page.click("Mark a region; Fill marks the connected area of one class")
    page.click("Take the whole region away")
    page.click("Paint classes")
    page.wait(lambda said: said["image"] == before["image"])


def test_a_slider_that_is_dragged_draws_what_it_ends_at(page):
    before = page.said
    slider = page.page.locator(".widget-slider", has_text="strength").last.locator(".noUi-handle")
    slider.focus()
    for _ in range(15):
        page.page.keyboard.press("ArrowLeft")
    weak = int(page.page.locator(".widget-label", has_text="weak:").last.inner_text().split()[1])
    page.wait(lambda said: said["image"] == weak)
    for _ in range(15):
        page.page.keyboard.press("ArrowRight")
    page.wait(lambda said: said["image"] == before["image"])


def test_a_sample_can_be_taken(page):
    before = page.said
    open_tab(page, "Samples")
    press(page, "Draw samples")
    button(page, "Take seed 7").wait_for()
    sample = shown(page, 1 + 2)[::1]
    press(page, "Take seed 2")
    assert settled(page, before)["seed"] == 2
    assert sample.shape[0] * 2 == 64 and (shown(page)[::2, ::2] == sample[: 64 // 2, : 64 // 2]).all()
    press(page, "Six moods of the data")
    page.page.get_by_text("overcast", exact=True).last.wait_for()


def test_a_walk_is_saved_as_an_animation(page):
    open_tab(page, "Walk")
    press(page, "Walk")
    link = page.page.get_by_text("Save the animation").last
    link.wait_for()
    with page.page.expect_download() as download:
        link.click()
    path = page.folder / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "walk-0-1.gif" and Image.open(path).n_frames == 24 + 22


def test_a_map_of_the_data_goes_to_the_painter(page):
    before = page.said
    open_tab(page, "Data")
    press(page, "Paint #4")
    chosen = settled(page, before)
    assert chosen["crc"] != before["crc"]
    page.click("Undo (Ctrl+Z)")
    assert settled(page, chosen)["crc"] == before["crc"], "what was painted before comes back"
    page.click("Redo (Ctrl+Shift+Z)")
    page.wait(lambda said: said["crc"] == chosen["crc"])
    open_tab(page, "Noise")


def test_another_checkpoint_draws_the_same_map(page):
    before = page.said
    checkpoint = page.page.locator(".widget-dropdown", has_text="checkpoint").locator("select").last
    checkpoint.select_option("scenes-128")
    large = page.wait(lambda said: sum(said["counts"]) == 128 * 128)
    assert large["counts"] == [4 * count for count in before["counts"]]
    checkpoint.select_option("scenes-64")
    page.wait(lambda said: said["crc"] == before["crc"] and said["image"] == before["image"])


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_is_cut(page, width):
    page.page.set_viewport_size({"width": width, "height": 1100})
    page.page.wait_for_timeout(500)
    page.page.screenshot(path=page.folder / f"{page.kind}_{width}.png", full_page=True)
    cut = """(nodes) => nodes.filter((node) => node.checkVisibility()).filter((node) => {
      const box = node.getBoundingClientRect();
      return box.left < 0 || box.right > innerWidth + 1 || !box.width || node.scrollWidth > node.clientWidth + 2;
    }).map((node) => node.title || node.textContent || node.className)"""
    nodes = ".jupyter-widgets :is(button:not(.class), canvas, select), img.widget-image, .jupyter-widgets button.class"
    found = page.page.eval_on_selector_all(nodes, cut)
    page.page.set_viewport_size({"width": 1280, "height": 900})
    assert found == []


def test_export_reload_import(page):
    page.click("building")
    before = page.said
    page.drag((5, 40), (60, 44))
    painted = settled(page, before)
    path = page.save("Save the label map as a grey PNG of class ids")
    page.open()
    assert page.said["crc"] != painted["crc"], "a new explorer"
    page.give(path)
    page.wait(lambda said: said["crc"] == painted["crc"])
    assert not page.errors and "Traceback" not in (page.folder / "log").read_text()
