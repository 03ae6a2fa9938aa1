"""Makes data/results/explorer.png and explorer.gif: `python -m tests.screenshot`, with Chromium and voila.

A hand paints a house and a flood in the app, and then lets night fall; the app is the one that `make app` serves.
"""

import io
import subprocess
import sys

from PIL import Image

from dpsims.paths import DATA, ROOT
from tests.chromium import ARGUMENTS, CHROMIUM, free_port
from tests.in_browser import Painting, playwright

WIDTH, HEIGHT = 1280, 1300
CHECKPOINT, MAP, DAY, NIGHT = "scenes-128", 2, 19, 3
SECONDS = 1.2  # that a frame is shown
PAUSE = 900  # milliseconds until an image has surely come


class Hand(Painting):
    """Paints in the app at once, and takes a picture after every deed."""

    frames: list[Image.Image] = []

    def snap(self) -> None:
        self.page.mouse.move(1270, 8)
        self.page.wait_for_timeout(PAUSE)
        top = self.page.locator(".widget-text", has_text="map").first.bounding_box()["y"]
        tabs = self.page.locator(".widget-tab").bounding_box()
        clip = {"x": 0, "y": top - 8, "width": WIDTH, "height": tabs["y"] + tabs["height"] - top + 16}
        self.frames.append(Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB"))

    def box(self, label: str, value: int) -> None:
        field = self.page.locator(".widget-text", has_text=label).locator("input").first
        field.fill(str(value))
        field.press("Enter")

    def rectangle(self, name: str, *corners: tuple[int, int]) -> None:
        self.page.locator(".dpsims-painter").get_by_title(name, exact=True).click()
        self.page.keyboard.press("r")
        self.drag(*corners)


def paint(hand: Hand) -> None:
    """A house with windows, a flood, and night."""
    hand.box("map", MAP)
    hand.box("seed", DAY)
    hand.snap()
    hand.rectangle("building", (6, 26), (23, 42))
    hand.snap()
    for left in (8, 13, 18):
        for top in (29, 35):
            hand.rectangle("window", (left, top), (left + 2, top + 2))
    hand.snap()
    hand.page.keyboard.press("f")
    hand.page.locator(".dpsims-painter").get_by_title("water", exact=True).click()
    hand.page.keyboard.press("f")
    hand.drag((4, 60), (4, 60), 1)
    hand.snap()
    hand.box("seed", NIGHT)
    hand.snap()


def main() -> None:
    port = free_port()
    command = [sys.executable, "-m", "dpsims", "app", "--checkpoint", str(DATA / "checkpoints" / CHECKPOINT)]
    server = subprocess.Popen([*command, f"--port={port}"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        server.stdout.readline()  # the address, once it answers
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(f"http://127.0.0.1:{port}/", wait_until="commit", timeout=120_000)
            page.wait_for_selector(".dpsims-painter canvas", timeout=120_000)
            page.locator(".dpsims-painter").scroll_into_view_if_needed()
            hand = Hand(page, "voila", "", None)
            paint(hand)
            browser.close()
    finally:
        server.terminate()
        server.wait(timeout=60)
    hand.frames[2].save(DATA / "results" / "explorer.png", optimize=True)
    small = [frame.resize((WIDTH * 5 // 8, frame.height * 5 // 8), Image.Resampling.LANCZOS) for frame in hand.frames]
    # of all colours, not the most frequent: the swatches of the legend are small
    first, *rest = (frame.quantize(256, Image.Quantize.MAXCOVERAGE) for frame in small)
    duration = round(1000 * SECONDS)
    first.save(DATA / "results" / "explorer.gif", save_all=True, append_images=rest, duration=duration, loop=0)


if __name__ == "__main__":
    main()
