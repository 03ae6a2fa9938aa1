"""The explorer as an app: what its page shows, what its server refuses, and how both end."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from typer.testing import CliRunner

from dpsims.cli import app as command_line
from dpsims.errors import InputError
from dpsims.explorer import app
from dpsims.labels import label_space
from dpsims.paths import CHECKPOINTS, ROOT
from tests.chromium import ARGUMENTS, CHROMIUM, PATIENCE, free_port

SHIPPED = CHECKPOINTS / "scenes-64"
PARAMETERS = 'checkpoint: str = ""\ndata_path: str = ""\nseed: int = 3\n'
PANEL = """
import ipywidgets as W
slider, said = W.IntSlider(max=9), W.Label("nothing")
slider.observe(lambda change: setattr(said, "value", f"slider at {change['new']}"), "value")
W.VBox([W.Label(f"model {checkpoint}, data {data_path!r}, seed {seed}"), slider, said])
"""
SERVE = """import sys
from dpsims.explorer.app import serve
serve(sys.argv[1], port=int(sys.argv[2]), notebook=sys.argv[3])"""
# the page's own door to its kernel: sends messages one by one, gives back the kinds of what comes
TALK = """([kernel, kinds, code]) => new Promise((done, fail) => {
  const said = [], session = crypto.randomUUID();
  const socket = new WebSocket(`ws://${location.host}/api/kernels/${kernel}/channels?session_id=${session}`);
  socket.onerror = () => fail(new Error("no connection"));
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    said.push(message.header.msg_type);
    if (message.parent_header.msg_id === `${session}-last` && message.header.msg_type === "kernel_info_reply") {
      setTimeout(() => { socket.close(); done(said); }, 500);  // for what may come by another way
    }
  };
  socket.onopen = () => [...kinds, "kernel_info_request"].forEach((kind, number) => socket.send(JSON.stringify({
    channel: kind === "execute_request" && number % 2 ? "control" : "shell",
    header: {msg_id: `${session}-${number === kinds.length ? "last" : number}`, msg_type: kind, version: "5.3",
             session, username: "", date: new Date().toISOString()},
    parent_header: {}, metadata: {}, buffers: [],
    content: {code, silent: false, store_history: true, user_expressions: {}, allow_stdin: false},
  })));
})"""


def write_notebook(path, *cells):
    """A notebook of (code, tags)."""
    made = [nbformat.v4.new_code_cell(code, metadata={"tags": tags}) for code, tags in cells]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), path)
    return path


def kernels(folder):
    """Command lines of the kernels of an app, which name their connection files."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
        except OSError:
            continue
        if "ipykernel_launcher" in words and str(folder) in words:
            found.append(words)
    return found


class Served:
    """A running app, its log, and its temporary folder, which lies alone in a folder of its own."""

    def __init__(self, folder, notebook):
        self.port, self.log, self.temporary = free_port(), folder / "log", folder / "temporary"
        self.temporary.mkdir()
        self.address = f"http://127.0.0.1:{self.port}"
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(SHIPPED), str(self.port), str(notebook)],
            env=environment, cwd=folder, stdout=self.log.open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        for _ in range(10 * PATIENCE):
            if "explorer: http" in self.log.read_text() or self.process.poll() is not None:
                break
            time.sleep(0.1)
        assert f"explorer: {self.address}/  (Ctrl-C ends it)\n" in self.log.read_text(), self.log.read_text()

    def get(self, path, **options):
        """Status and body."""
        try:
            with urllib.request.urlopen(urllib.request.Request(self.address + path, **options), timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def end(self, how=signal.SIGINT):
        """Exit code and seconds."""
        start = time.monotonic()
        self.process.send_signal(how)
        return self.process.wait(timeout=60), time.monotonic() - start


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def served(folder):
    pytest.importorskip("voila", reason="voila is missing; it comes with the extra `app`")
    notebook = write_notebook(
        folder / "small.ipynb",
        (PARAMETERS, ["parameters"]),
        (f"open({str(folder / 'untagged')!r}, 'w')", []),
        (PANEL, ["app"]),
        (f"open({str(folder / 'tagged')!r}, 'w');", ["app"]),
    )
    served = Served(folder, notebook)
    yield served
    if served.process.poll() is None:
        served.end()


@pytest.fixture(scope="module")
def page(served):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing; it comes with `test`")
    if CHROMIUM is None:
        pytest.skip("no Chromium here; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.failed = {}
        page.on("requestfailed", lambda request: page.failed.update({request.url: request.failure}))
        page.goto(served.address, wait_until="commit")
        page.wait_for_selector(".widget-slider")
        yield page
        browser.close()


def kernel_of(page):
    return json.loads(page.locator("#jupyter-config-data").text_content())["kernelId"]


def test_the_page_shows_the_tagged_cells_with_the_parameters_given(page, folder):
    page.locator(".widget-label", has_text=f"model {SHIPPED}, data '', seed 3").wait_for()
    assert (folder / "tagged").exists() and not (folder / "untagged").exists()
    assert page.title() == app.TITLE
    page.locator(".widget-slider .noUi-handle").press("ArrowRight")
    page.locator(".widget-label", has_text="slider at 1").wait_for()


def test_nothing_is_fetched_from_elsewhere(page):
    """Nor is it tried: where the network is closed, a page would wait for its style sheets."""
    wanted = """() => fetch("https://elsewhere.example/").then(() => "fetched", () => "refused")"""
    assert page.evaluate(wanted) == "refused"
    assert len(page.failed) > 1 and set(page.failed.values()) == {"csp"}


def test_a_reload_begins_anew_and_ends_the_kernel_before(page, served):
    before = kernel_of(page)
    page.reload(wait_until="commit")
    page.locator(".widget-label", has_text="nothing").wait_for()
    assert kernel_of(page) != before
    for _ in range(10 * PATIENCE):
        if len(kernels(served.temporary)) == 1:
            break
        page.wait_for_timeout(100)
    assert [kernel_of(page) in words for words in kernels(served.temporary)] == [True]


def test_sources_stay_on_the_machine(page, folder):
    text = page.content()
    assert "widget-slider" in text and "slider.observe" not in text and "IntSlider(max" not in text
    said = page.evaluate(TALK, [kernel_of(page), ["history_request", "inspect_request", "complete_request"], "slider"])
    assert not [kind for kind in said if kind in ("history_reply", "inspect_reply", "complete_reply")]


def test_no_code_runs_from_the_browser(page, served, folder):
    """After the controls: the connection answers, and the same code runs when it comes by the kernel's own door."""
    from jupyter_client import BlockingKernelClient

    kernel, there = kernel_of(page), folder / "made by code"
    code = f"open({str(there)!r}, 'w').close()"
    assert "kernel_info_reply" in page.evaluate(TALK, [kernel, [], ""])
    said = page.evaluate(TALK, [kernel, ["execute_request", "execute_request", "debug_request"], code])
    assert "kernel_info_reply" in said and not {"execute_reply", "execute_input", "error", "debug_reply"} & set(said)
    assert not there.exists()
    [connection] = served.temporary.rglob(f"kernel-{kernel}.json")
    client = BlockingKernelClient(connection_file=str(connection))
    client.load_connection_file()
    client.start_channels()
    client.execute_interactive(code, timeout=60, allow_stdin=False)
    client.stop_channels()
    assert there.exists(), "the code itself is good"
    assert 'message of type "execute_request", which is not allowed' in served.log.read_text()


def test_the_server_listens_on_this_machine_only(served):
    listening = {
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{served.port:04X}")
    }
    assert listening == {f"0100007F:{served.port:04X}"}


@pytest.mark.parametrize(
    "path",
    [
        "/explorer.ipynb", "/voila/files/explorer.ipynb", "/voila/files/x.png",
        "/voila/files/..%2fsettings%2fvoila.json",
        "/voila/files/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "/voila/files//etc/passwd", "/etc/passwd",
        "/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "/voila/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/voila/static//etc/passwd", "/voila/templates/lab/static//etc/passwd", "/voila/labextensions//etc/passwd",
        "/voila/labextensions/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", f"/voila/files/{ROOT}/README.md",
        "/voila/render/explorer.ipynb", "/voila/render/..%2f..%2fetc%2fpasswd", "/voila/tree", "/voila/api/contents",
        "/voila/api/contents/explorer.ipynb", "/api/contents", "/api/contents/explorer.ipynb", "/api/terminals",
        "/api/kernels", "/api/sessions", "/api/kernelspecs", "/terminals/1", "/lab", "/tree", "/files/explorer.ipynb",
    ],
)  # fmt: skip
def test_nothing_else_is_served(served, path):
    status, body = served.get(path)
    assert status in (403, 404)
    assert "root:" not in body and "nbformat" not in body and "VoilaConfiguration" not in body


def test_nothing_is_made_or_ended_without_the_number_of_a_kernel(served, page):
    before = kernels(served.temporary)
    for path in ("/api/kernels", "/api/terminals", "/api/sessions", "/api/contents/new.txt", "/", "/explorer.ipynb"):
        assert served.get(path, data=b"{}")[0] == 405
        assert served.get(path, data=b"{}", method="PUT")[0] == 405
    assert served.get("/voila/api/shutdown/1", data=b"")[0] == 404
    assert kernels(served.temporary) == before


def test_a_foreign_name_for_this_machine_and_foreign_pages_are_refused(served, page):
    """Else a page of elsewhere could have its own name lead here, or talk to a kernel."""
    assert served.get("/", headers={"Host": "elsewhere.example"})[0] == 403
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    for origin, status in {"http://elsewhere.example": 403, served.address: 101}.items():
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
        path = f"/api/kernels/{kernel_of(page)}/channels?session_id=1"
        connection.request("GET", path, headers=upgrade | {"Origin": origin})
        assert connection.getresponse().status == status
        connection.close()


def test_ctrl_c_ends_all(served, page):
    """Last of those that use the module's server."""
    running = kernels(served.temporary)
    assert running
    code, seconds = served.end(signal.SIGINT)
    assert code == 0 and seconds < 20
    assert not kernels(served.temporary) and not list(served.temporary.iterdir())
    said = served.log.read_text()
    assert said.endswith("explorer: ended\n") and "Traceback" not in said
    with pytest.raises(urllib.error.URLError):
        served.get("/")


def test_a_cell_that_fails_says_so_in_words_and_sigterm_ends_all(tmp_path):
    pytest.importorskip("voila", reason="voila is missing; it comes with the extra `app`")
    cells = [(PARAMETERS, ["parameters"]), ("1 / 0", ["app"])]
    served = Served(tmp_path, write_notebook(tmp_path / "failing.ipynb", *cells))
    status, body = served.get("/")
    assert status == 200 and "Reload the page to start again" in body
    assert "ZeroDivisionError" not in body and str(ROOT) not in body
    assert "ZeroDivisionError" in served.log.read_text(), "who started it may read why"
    assert kernels(served.temporary)
    assert served.end(signal.SIGTERM)[0] == 0
    assert not kernels(served.temporary) and not list(served.temporary.iterdir())


def refused(*arguments, says, **environment):
    result = CliRunner().invoke(command_line, ["app", *map(str, arguments)], env=environment)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output + result.stderr
    assert re.search(says, result.stderr), result.stderr


@pytest.fixture
def nothing_starts(monkeypatch, tmp_path):
    """A notebook with a tag in the place of 05, and no server."""
    notebook = write_notebook(tmp_path / "05.ipynb", (PARAMETERS, ["parameters"]), (PANEL, ["app"]))
    monkeypatch.setattr(app.serve, "__kwdefaults__", {"notebook": notebook})
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(app, "_server", None)
    return tmp_path


def test_what_is_asked_for_wrongly_is_told_in_one_line_before_anything_starts(nothing_starts):
    refused("--checkpoint", nothing_starts, says="holds no dpsims checkpoint")
    refused(says="holds no dpsims checkpoint", DPSIMS_CHECKPOINT=str(nothing_starts))
    refused("--data", nothing_starts, says="no prepared data .* make it with `dpsims prepare`")
    refused(says="no prepared data", DPSIMS_DATA=str(nothing_starts))
    refused("--port", 0, says="'--port'")
    for host in ("no.such.host.invalid", "a..b", "192.0.2.1"):
        refused("--host", host, says=f"host {host}: cannot be listened on")
    (nothing_starts / "generator.safetensors").write_text("")
    (nothing_starts / "config.json").write_text('{"mine": 1}')
    refused("--checkpoint", nothing_starts, says="config.json: .*mine")


def test_a_port_that_is_taken(nothing_starts):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused("--port", port, says=f"port {port} of 127.0.0.1 is taken; choose another with --port")
        refused(says=f"port {port} of 127.0.0.1 is taken", DPSIMS_PORT=str(port), DPSIMS_HOST="localhost")


def test_without_voila(nothing_starts, monkeypatch):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    refused(says=r"voila is missing.*pip install 'dpsims\[app\]'")


def test_data_of_other_classes(tmp_path):
    from dpsims.data.prepare import prepare_scenes

    prepare_scenes(tmp_path / "data", size=16, n=2, n_val=2)
    assert app.check_sources(None, tmp_path / "data") == {"checkpoint": "", "data_path": str(tmp_path / "data")}
    index = json.loads((tmp_path / "data" / "index.json").read_text())
    index["names"][2] = "foam"
    (tmp_path / "data" / "index.json").write_text(json.dumps(index))
    known = label_space("scenes").names[2]
    with pytest.raises(InputError, match=f"class 2 of scenes is 'foam', in the model '{known}'"):
        app.check_sources(SHIPPED, tmp_path / "data")


def test_notebooks_that_show_nothing(tmp_path):
    values = {"checkpoint": "", "data_path": ""}
    with pytest.raises(InputError, match="no readable notebook .No such file"):
        app.app_notebook(tmp_path / "a.ipynb", values)
    (tmp_path / "b.ipynb").write_text("{")
    with pytest.raises(InputError, match="no readable notebook"):
        app.app_notebook(tmp_path / "b.ipynb", values)
    untagged = write_notebook(tmp_path / "c.ipynb", (PARAMETERS, ["parameters"]), (PANEL, []))
    with pytest.raises(InputError, match="no cell has the tag `app`"):
        app.app_notebook(untagged, values)
    other = write_notebook(tmp_path / "d.ipynb", ("seed: int = 3", ["parameters"]), (PANEL, ["app"]))
    with pytest.raises(InputError, match="does not name checkpoint, data_path"):
        app.app_notebook(other, values)


def test_paths_are_made_absolute_and_injected_after_the_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(CHECKPOINTS)
    values = app.check_sources("scenes-64", None)
    assert values == {"checkpoint": str(SHIPPED), "data_path": ""}
    values["checkpoint"] += "'\"\n"  # a name that papermill has to quote
    cells = [("1", ["app"]), (PARAMETERS, ["parameters"]), ("2", []), ("3", ["app", "other"])]
    made = app.app_notebook(write_notebook(tmp_path / "a.ipynb", *cells), values)
    assert [cell.source for cell in made.cells][::3] == ["1", "3"] and made.cells[1].source == PARAMETERS
    names = {}
    exec(made.cells[2].source, names)
    assert {key: names[key] for key in values} == values


def test_others_are_let_in_only_when_asked_and_with_a_warning(nothing_starts, monkeypatch):
    class Asked(Exception):
        pass

    def server(folder, page, host, port):
        raise Asked(json.dumps(app.voila_settings(folder, host, port)))

    monkeypatch.setattr(app, "_server", server)
    for host, open_to_all in (("0.0.0.0", True), ("127.0.0.1", False), ("localhost", False), ("", False)):
        result = CliRunner().invoke(command_line, ["app", "--host", host, "--port", str(free_port())])
        assert isinstance(result.exception, Asked)
        settings = json.loads(str(result.exception))
        assert settings["Voila"]["ip"] == ("0.0.0.0" if open_to_all else "127.0.0.1")
        assert settings["Voila"]["tornado_settings"]["allow_remote_access"] == open_to_all
        assert ("there is no password" in result.stderr) == open_to_all
