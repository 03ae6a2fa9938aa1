"""The painter under a real mouse: headless Chromium before a real JupyterLab and a real voila.

The notebook shows the painter and what Python has received: a checksum of the map, pixels of each class and of the
region. Its listener sleeps while there is a sun, which stands for a busy generator.
"""

import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpsims.encodings import Palette
from dpsims.labels import label_space, read_label_map
from tests.in_browser import needs_chromium, painting_in

pytestmark = needs_chromium

SPACE = label_space("scenes")
NOTEBOOK = """
import json, time, zlib
import ipywidgets as W
import numpy as np
from dpsims.explorer.painter import LabelPainter
from dpsims.labels import label_space
labels = np.ones((64, 64), np.uint8)
labels[32:] = 7
painter = LabelPainter(labels, label_space("scenes"))
said = W.Label()
def show(labels):
    if (labels == 3).any():
        time.sleep(3)
    counts = np.bincount(labels.ravel(), minlength=13).tolist()
    said.value = json.dumps({"crc": zlib.crc32(labels), "counts": counts, "region": int(painter.region.sum())})
show(labels)
painter.on_paint(show)
painter.on_region(lambda region: show(painter.labels))
W.VBox([painter, said])
"""
# the moment at which a pixel of the map has another colour, after the pointer has moved
WATCH = """([x, y]) => {
  const canvas = document.querySelector(".dpsims-painter canvas");
  const look = () => canvas.getContext("2d").getImageData(x, y, 1, 1).data.join();
  const before = look();
  window.seen = null;
  const moved = (event) => {
    const frame = () => {
      if (look() === before) return requestAnimationFrame(frame);
      window.removeEventListener("pointermove", moved, true);
      window.seen ??= performance.now() - event.timeStamp;
    };
    requestAnimationFrame(frame);
  };
  window.addEventListener("pointermove", moved, true);
}"""


@pytest.fixture(scope="module", params=["lab", "voila"])
def painting(request, tmp_path_factory):
    with painting_in(request.param, NOTEBOOK, tmp_path_factory.mktemp(request.param)) as painting:
        yield painting


def near(start, end, size):
    """(64, 64) bool: pixels whose centres are within size / 2 of a level line between two pixels."""
    rows, columns = np.mgrid[:64, :64]
    (left, row), (right, _) = start, end
    return (rows - row) ** 2 + (columns - columns.clip(left, right)) ** 2 <= (size / 2) ** 2


def test_a_stroke_changes_exactly_its_pixels(painting):
    expected = np.ones((64, 64), np.uint8)
    expected[32:] = 7
    assert painting.said["crc"] == zlib.crc32(expected)
    painting.click("sand")
    painting.drag((10, 30), (40, 30))
    expected[near((10, 30), (40, 30), 5)] = 8
    said = painting.wait(lambda said: said["counts"][8])
    assert said["counts"] == np.bincount(expected.ravel(), minlength=13).tolist()
    assert said["crc"] == zlib.crc32(expected)


def test_fill_rectangle_erase_undo_redo(painting):
    """By keys, which are the painter's alone: in JupyterLab `b` would add a cell and `d d` remove one."""
    cells = painting.page.locator(".jp-Cell").count()
    first = painting.said
    painting.click("road")
    painting.page.keyboard.press("f")
    painting.drag((5, 60), (5, 60), 1)
    filled = painting.wait(lambda said: said["counts"][9])
    assert filled["counts"][9] == first["counts"][7] and filled["counts"][7] == 0
    painting.page.keyboard.press("r")
    painting.page.keyboard.press("4")
    painting.drag((50, 50), (45, 41))
    assert painting.wait(lambda said: said["counts"][4])["counts"][4] == 6 * 10
    painting.page.keyboard.press("e")
    for _ in range(4):
        painting.page.keyboard.press("[")
    painting.drag((50, 50), (45, 50))
    erased = painting.wait(lambda said: said["counts"][0])
    assert erased["counts"][0] == 6 and erased["counts"][4] == 54
    for key in ("Control+z", "Control+z"):
        painting.page.keyboard.press(key)
    painting.wait(lambda said: said["crc"] == filled["crc"])
    painting.click("Undo (Ctrl+Z)")
    painting.wait(lambda said: said["crc"] == first["crc"])
    for _ in range(3):
        painting.page.keyboard.press("Control+Shift+z")
    painting.wait(lambda said: said["crc"] == erased["crc"])
    for typed in ("dd", "]]]]b"):  # apart: a cell removed and another added would leave as many
        painting.page.keyboard.type(typed)
        painting.page.wait_for_timeout(1000)
        assert painting.page.locator(".jp-Cell").count() == cells


def test_region(painting):
    painting.click("Mark a region; Fill marks the connected area of one class")
    painting.page.keyboard.press("r")
    painting.drag((4, 4), (9, 6))
    crc = painting.said["crc"]
    assert painting.wait(lambda said: said["region"])["region"] == 6 * 3
    painting.click("Take the whole region away")
    assert painting.wait(lambda said: not said["region"])["crc"] == crc
    painting.click("Undo (Ctrl+Z)")
    painting.wait(lambda said: said["region"] == 18)
    painting.page.keyboard.press("b")
    painting.click("Paint classes")


def test_saved_files_are_the_labels(painting):
    before = painting.said
    painting.page.keyboard.press("b")
    for row, name in enumerate(("cloud", "tree", "building")):
        painting.click(name)
        painting.drag((30, 4 * row), (34, 4 * row))
    painting.wait(lambda said: all(said["counts"][number] > before["counts"][number] for number in (2, 6, 10)))
    ids = read_label_map(painting.save("Save the label map as a grey PNG of class ids"), SPACE, (64, 64))
    assert zlib.crc32(ids) == painting.said["crc"] and len(np.unique(ids)) >= 5
    assert (Palette(SPACE).read(painting.save("Save the label map as a PNG of class colours")) == ids).all()


def test_import_and_its_refusals(painting):
    path = painting.save("Save the label map as a PNG of class colours")
    before = painting.said
    painting.click("flower")
    painting.drag((20, 10), (30, 10))
    changed = painting.wait(lambda said: said["counts"][12])
    painting.give(path)
    painting.wait(lambda said: said["crc"] == before["crc"])
    assert path.name in painting.status
    painting.click("Undo (Ctrl+Z)")
    painting.wait(lambda said: said["crc"] == changed["crc"])
    wrong = painting.folder / "wrong.png"
    for array, says in (
        (np.zeros((32, 32), np.uint8), "32 x 32"),
        (np.full((64, 64), 13, np.uint8), "value 13"),
        (np.zeros((64, 64, 3), np.uint8) + 9, r"colour \(9, 9, 9\)"),
    ):
        Image.fromarray(array).save(wrong)
        painting.give(wrong)
        painting.page.locator(".dpsims-painter .status", has_text=re.compile(f"wrong.png.*{says}")).wait_for()
    wrong.write_bytes(path.read_bytes()[:100])
    painting.give(wrong)
    painting.page.locator(".dpsims-painter .status", has_text="not a readable image").wait_for()
    assert painting.said == changed and not painting.errors


def test_painting_goes_on_while_the_kernel_is_busy(painting, record_property):
    painting.click("sun")
    before = painting.said
    painting.drag((50, 5), (52, 5))  # from here on Python sleeps
    painting.page.wait_for_timeout(300)
    times = []
    for row in range(8, 38, 6):
        painting.move(10, row)
        painting.page.mouse.down()
        painting.page.evaluate(WATCH, [20, row])
        painting.move(20, row)
        painting.page.mouse.up()
        painting.page.wait_for_function("window.seen !== null")
        times.append(painting.page.evaluate("window.seen"))
        if row == 8:
            assert painting.said == before, "Python is busy"
    record_property("milliseconds", times)
    print(f"{painting.kind}: pointer to pixel {', '.join(f'{one:.0f}' for one in times)} ms")
    assert np.median(times) < 500  # 50 is the aim; a busy machine adds its own
    expected = before["counts"][3] + sum(near((50, 5), (52, 5), 5).ravel())
    expected += 5 * sum(near((10, 8), (20, 8), 5).ravel())
    painting.wait(lambda said: said["counts"][3] == expected)
    for _ in range(6):
        painting.page.keyboard.press("Control+z")
    painting.wait(lambda said: said["crc"] == before["crc"])


@pytest.mark.parametrize("width", [1280, 800])
def test_nothing_is_cut(painting, width):
    painting.page.set_viewport_size({"width": width, "height": 900})
    painting.page.wait_for_timeout(500)
    painting.page.screenshot(path=painting.folder / f"{painting.kind}_{width}.png")
    cut = """(nodes) => nodes.filter((node) => node.checkVisibility()).filter((node) => {
      const [box, outer] = [node, node.closest(".dpsims-painter")].map((one) => one.getBoundingClientRect());
      return box.left < outer.left || box.right > Math.min(outer.right, innerWidth) + 1 || !box.width;
    }).map((node) => node.title)"""
    nodes = ".dpsims-painter :is(button, canvas, input:not([type=file]))"
    found = painting.page.eval_on_selector_all(nodes, cut)
    painting.page.set_viewport_size({"width": 1280, "height": 900})
    assert found == []


def test_what_was_painted_outlives_a_reload(painting):
    before = painting.said
    painting.open()
    assert painting.said["crc"] != before["crc"], "the cell made a new painter"
    painting.click("Take back what was painted here before the page was loaded")
    painting.wait(lambda said: said["crc"] == before["crc"])


def test_a_kernel_that_goes_is_noticed(painting):
    if painting.kind == "voila":
        pytest.skip("voila has no restart; a reload starts a new kernel, as tested above")
    page, before = painting.page, painting.said
    page.keyboard.press("b")
    painting.click("window")
    painting.drag((30, 50), (35, 50))
    crc = painting.wait(lambda said: said["counts"][11] > before["counts"][11])["crc"]
    page.locator('[data-command="notebook:restart-kernel"]').click()
    page.locator(".jp-Dialog button.jp-mod-accept").click()
    page.locator(".dpsims-painter .status", has_text="The kernel is gone").wait_for()
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    painting.run_cell()
    painting.click("Take back what was painted here before the page was loaded")
    painting.wait(lambda said: said["crc"] == crc)
    assert not painting.errors and Path(painting.folder / "log").read_text().count("Traceback") == 0
