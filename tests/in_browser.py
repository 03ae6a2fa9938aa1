"""A real JupyterLab or voila before headless Chromium, and a hand that paints there.

The notebook has one cell, which shows a painter and a label with JSON: what Python has received.
"""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import nbformat
import pytest

from dpsims.paths import ROOT
from tests.chromium import ARGUMENTS, CHROMIUM, PATIENCE, free_port

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing; it comes with the extra `test`")
pytest.importorskip("voila", reason="voila is missing; it comes with the extra `app`")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; on Debian: apt-get install chromium")


class Painting:
    """A page with the painter, and what a hand does there."""

    def __init__(self, page, kind, address, folder):
        self.page, self.kind, self.address, self.folder = page, kind, address, folder
        self.errors = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.opened = 0

    def open(self):
        self.opened += 1
        path = {"voila": "voila/render/painter.ipynb", "lab": f"lab/workspaces/w{self.opened}/tree/painter.ipynb?reset"}
        self.page.goto(f"{self.address}/{path[self.kind]}", wait_until="commit", timeout=PATIENCE * 1000)
        if self.kind == "lab":
            self.page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
            self.run_cell()
        self.page.wait_for_selector(".dpsims-painter canvas")
        self.wait(lambda said: said["crc"])

    def run_cell(self):
        cell = self.page.locator(".jp-Notebook .jp-CodeCell").first
        before = cell.locator(".jp-InputPrompt").inner_text()
        for _ in range(PATIENCE // 4):  # keys are lost until JupyterLab has all its parts
            cell.locator(".jp-InputArea-editor").click()
            self.page.keyboard.press("Shift+Enter")
            self.page.wait_for_timeout(4000)
            if cell.locator(".jp-InputPrompt").inner_text() != before:
                return
        raise AssertionError("the cell does not run")

    @property
    def said(self):
        """What Python has written beside the painter."""
        return json.loads(self.page.locator(".widget-label", has_text="crc").last.inner_text())

    def wait(self, reached):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.page.locator(".widget-label", has_text="crc").count() and reached(self.said):
                return self.said
            self.page.wait_for_timeout(50)
        raise AssertionError(f"Python still says {self.said}; the status line: {self.status}")

    @property
    def status(self):
        return self.page.locator(".dpsims-painter .status").last.inner_text()

    def click(self, title):
        self.page.locator(".dpsims-painter").last.get_by_title(title, exact=True).click()

    def move(self, x, y):
        """To the middle of a pixel of the map."""
        canvas = self.page.locator(".dpsims-painter canvas").first
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        self.page.mouse.move(box["x"] + (x + 0.5) * box["width"] / 64, box["y"] + (y + 0.5) * box["height"] / 64)

    def drag(self, start, end, steps=8):
        self.move(*start)
        self.page.mouse.down()
        for i in range(1, steps + 1):
            self.move(*(a + (b - a) * i / steps for a, b in zip(start, end, strict=True)))
        self.page.mouse.up()

    def save(self, title):
        with self.page.expect_download() as download:
            self.click(title)
        path = self.folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def give(self, path):
        self.page.locator(".dpsims-painter input[type=file]").set_input_files(path)


def serve(kind, notebook, folder, port):
    """Starts the server on this machine alone, with settings of its own."""
    own = {
        f"JUPYTER{name}_DIR": str(folder / name) for name in ("_CONFIG", "_RUNTIME", "LAB_SETTINGS", "LAB_WORKSPACES")
    }
    root = folder / "notebooks"
    root.mkdir()
    quiet = folder / "LAB_SETTINGS" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    cell, metadata = (
        nbformat.v4.new_code_cell(notebook),
        {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=metadata), root / "painter.ipynb")
    options = {
        "lab": [
            "jupyterlab", "--allow-root", "--ip=127.0.0.1", "--IdentityProvider.token=",
            "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={root}",
        ],
        "voila": ["voila", str(root), "--Voila.ip=127.0.0.1"],
    }[kind]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", *options, "--no-browser", f"--port={port}"],
        env=os.environ | own | {"PYTHONPATH": str(ROOT)},
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
    )


@contextmanager
def painting_in(kind, notebook, folder):
    """`Painting` in a server of a kind, "lab" or "voila", whose one notebook has one cell."""
    port = free_port()
    server = serve(kind, notebook, folder, port)
    try:
        for _ in range(10 * PATIENCE):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(PATIENCE * 1000)
            painting = Painting(page, kind, f"http://127.0.0.1:{port}", folder)
            painting.open()
            yield painting
            browser.close()
    finally:
        server.terminate()
        server.wait(timeout=60)
