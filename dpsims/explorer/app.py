"""The explorer as an app: cells of a notebook as a web page, through voila, on this machine only unless asked.

The page shows the cells that carry the tag ``app``, in order, after the cell of parameters; the rest of the notebook,
whose figures would keep a visitor waiting, is left out. What is shown is written as a notebook of its own into a
temporary folder, which is all that voila is given to serve. Whoever opens the page has a kernel of his own.

What a browser may ask of that server: the page, the scripts of voila, and messages between widgets and their kernel.
Not code to run (voila lets no `execute_request` through), no file, no source, no other template.
"""

import errno
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
from jupyter_server import DEFAULT_STATIC_FILES_PATH
from nbformat.sign import NotebookNotary
from papermill import inspect_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from dpsims import checkpoint as checkpoints
from dpsims import config as configuration
from dpsims.data.prepared import open_prepared
from dpsims.errors import InputError
from dpsims.explorer.maps import check_drawn
from dpsims.paths import CHECKPOINTS, ROOT

NOTEBOOK = ROOT / "notebooks" / "05_label_map_explorer.ipynb"
TAG = "app"  # of the cells that are shown
TITLE = "DP-SIMS: label map explorer"  # of the page
HOST, PORT = "127.0.0.1", 8866
LOOPBACK = frozenset({"127.0.0.1", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})
# what JupyterLab has to have for widgets; others that may be installed have no business on the page
EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget"]
# all that the page may load comes from its server, none of voila's style sheets or ipywidgets' scripts from elsewhere
CONTENTS = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: wss: data: blob:; "
    "frame-ancestors 'self'"
)
IDLE = 3600  # seconds after which the kernel of a page that is gone ends
STARTING, ENDING = 120, 20  # seconds at most, on a busy machine


def serve(
    checkpoint: str | Path | None = None,
    data: str | Path | None = None,
    host: str = HOST,
    port: int = PORT,
    *,
    notebook: str | Path = NOTEBOOK,
) -> None:
    """Serves the page until Ctrl-C, or SIGTERM or SIGHUP; then its server, kernels and folder are gone.

    Prints the address once it answers.

    Args:
        checkpoint: an exported model, a checkpoint or a run; the shipped scenes-64 if None.
        data: prepared data set whose held-out label maps are shown; what the notebook has of its own if None.
        host: address to listen on; one that is not of this machine alone is warned of.
        port: TCP port, 1 to 65535.
        notebook: with a parameters cell that knows `checkpoint` and `data_path`, and cells tagged ``app``.

    Raises:
        InputError: voila is missing; bad checkpoint, data, notebook, address or port, all before anything is started;
            or the server did not start or ended by itself.
    """
    if importlib.util.find_spec("voila") is None:
        raise InputError("app: voila is missing, which serves the page; pip install 'dpsims[app]' brings it")
    page = app_notebook(Path(notebook), check_sources(checkpoint, data))
    host = HOST if host in ("", "localhost") else host  # the first would be everywhere, the second ::1 too
    check_port(host, port)
    if host not in LOOPBACK:
        print(f"dpsims: whoever reaches port {port} of {host} can use the app; there is no password", file=sys.stderr)
    with _signals_interrupt(), tempfile.TemporaryDirectory(prefix="dpsims-app-") as folder:
        with suppress(KeyboardInterrupt), _server(Path(folder), page, host, port) as process:
            shown = socket.gethostname() if host in EVERYWHERE else host
            print(f"explorer: http://{_in_address(shown)}:{port}/  (Ctrl-C ends it)", flush=True)
            while process.poll() is None:  # `wait` would not hear Ctrl-C on Windows
                time.sleep(0.2)
            raise InputError(f"app: the server ended by itself (exit code {process.returncode}); start it again")
        print("\nexplorer: ended", flush=True)


def check_sources(checkpoint: str | Path | None, data: str | Path | None) -> dict[str, str]:
    """Values for the notebook's parameters: absolute paths, "" for what was not given. Weights are not loaded.

    Raises:
        InputError: no checkpoint, no prepared data, data of other classes than the checkpoint's, or none where the
            checkpoint is for data that cannot be drawn.
    """
    found, values = None, {"checkpoint": "", "data_path": ""}
    if checkpoint is not None:
        found = Path(checkpoint).expanduser().resolve()
        values["checkpoint"] = str(found)
    model = checkpoints.resolve(found or CHECKPOINTS / "scenes-64")
    config = configuration.load(model / "config.json")
    space = checkpoints.read_space(model, config)
    if data is None:
        check_drawn(config.data.dataset)
    else:
        prepared = open_prepared(Path(data).expanduser().resolve())
        prepared.check_classes(space)
        prepared.split("val")
        values["data_path"] = str(prepared.path)
    return values


def app_notebook(path: Path, parameters: dict[str, str]) -> nbformat.NotebookNode:
    """What the app shows of a notebook: its cells with the tag ``app``, without outputs, after its parameters.

    Args:
        path: of the notebook.
        parameters: values, injected after the cell tagged ``parameters`` as papermill does.

    Raises:
        InputError: no notebook, no cell with the tag, or parameters that its parameters cell does not name.
    """
    try:
        nb, known = load_notebook_node(str(path)), inspect_notebook(str(path))
    except (OSError, ValueError, nbformat.ValidationError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"{path}: no readable notebook ({reason[:100]}); is this a clone of the repository?") from None
    if not any(TAG in cell.metadata.tags for cell in nb.cells):
        raise InputError(f"{path}: no cell has the tag `{TAG}`, so there is nothing to show; tag those to be seen")
    if unknown := parameters.keys() - known.keys():
        raise InputError(f"{path}: its parameters cell does not name {', '.join(sorted(unknown))}")
    nb.cells = [cell for cell in nb.cells if {TAG, "parameters"} & set(cell.metadata.tags)]
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb.metadata.update(kernelspec=kernel, title=TITLE)
    nb = parameterize_notebook(nb, parameters, kernel_name="python3", language="python")
    del nb.metadata["papermill"]
    return nb


def check_port(host: str, port: int) -> None:
    """Raises InputError where this user cannot listen on `port` of `host`."""
    try:
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as trial:
                if os.name == "posix":  # else a port is taken for a minute after an app that has ended
                    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
    except (OSError, UnicodeError) as error:  # the second for names that no host can have
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            raise InputError(f"port {port} of {host} is taken; choose another with --port") from None
        if number == errno.EACCES:
            raise InputError(f"port {port} is closed to you; choose one of 1024 or more with --port") from None
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"host {host}: cannot be listened on ({reason}); leave --host out for {HOST}") from None


def voila_settings(folder: Path, host: str, port: int) -> dict[str, Any]:
    """All that voila is told, as its configuration file has it: one page, no file, no source, no code to run."""
    return {
        "Voila": {
            "ip": host,
            "port": port,
            "port_retries": 0,  # another port would not be the one that was asked for
            "open_browser": False,
            "log_level": "WARN",
            # tornado's remarks on the times of its pings, one a visit; what it refuses is told by "tornado.access"
            "logging_config": {"loggers": {"tornado.general": {"level": "ERROR"}}},
            "connection_dir_root": str(folder),
            "tornado_settings": {
                # other names than this machine's are refused: a foreign page could else reach it under its own
                "allow_remote_access": host not in LOOPBACK,
                # a page that goes ends its kernel, but voila gives it no token for that; and nothing is lost, since
                # all that can be posted needs the number of a kernel, which its page alone has
                "disable_check_xsrf": True,
                "headers": {"Content-Security-Policy": CONTENTS},
                "static_path": DEFAULT_STATIC_FILES_PATH,  # for the words of jupyter_server that say "not found"
            },
        },
        "VoilaConfiguration": {
            "strip_sources": True,
            "show_tracebacks": False,
            "file_allowlist": [],
            "file_denylist": [".*"],
            "allow_template_override": "NO",  # ?template= would be looked for on the disk
            "allow_theme_override": "NO",
            "progressive_rendering": False,
            "extension_allowlist": EXTENSIONS,
        },
        "VoilaExecutor": {
            "startup_timeout": STARTING,
            "cell_error_instruction": "Reload the page to start again; the terminal of the app says what went wrong.",
        },
        "MappingKernelManager": {"cull_idle_timeout": IDLE, "cull_interval": 300},
    }


@contextmanager
def _server(folder: Path, page: nbformat.NotebookNode, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """voila, answering inside the block; at its end it is gone, with its kernels.

    Settings, kernels and start-up files of the user are not read: the app is the same for everyone.
    """
    for name in ("page", "settings", "jupyter/kernels/python3", "ipython"):
        (folder / name).mkdir(parents=True)
    nbformat.write(page, folder / "page" / "explorer.ipynb")
    NotebookNotary(data_dir=str(folder / "jupyter")).sign(page)  # it is ours; voila would warn of it else
    (folder / "settings" / "voila.json").write_text(json.dumps(voila_settings(folder, host, port)))
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"]  # errors
    kernel = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (folder / "jupyter" / "kernels" / "python3" / "kernel.json").write_text(json.dumps(kernel))
    command = [sys.executable, "-m", "voila", f"--Voila.config_file_paths={folder / 'settings'}"]
    own = {
        "JUPYTER_CONFIG_DIR": str(folder / "settings"),
        "JUPYTER_DATA_DIR": str(folder / "jupyter"),
        "JUPYTER_PATH": _first(folder / "jupyter", "JUPYTER_PATH"),  # its kernel before one of the same name
        "IPYTHONDIR": str(folder / "ipython"),
        "PYTHONPATH": _first(ROOT, "PYTHONPATH"),  # this library, installed or not
    }
    process = subprocess.Popen(
        [*command, str(folder / "page" / "explorer.ipynb")],
        cwd=folder / "page",
        env=os.environ | own,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for this process, which then ends the server in order
    )
    answered, ending = False, threading.Event()
    threading.Thread(target=_relay, args=(process, ending), daemon=True).start()
    try:
        _wait_for_an_answer(process, host, port)
        answered = True
        yield process
    finally:
        ending.set()
        _end(process, in_order=answered)


def _relay(process: subprocess.Popen[bytes], ending: threading.Event) -> None:
    """Passes on what the server says; not its complaints of being ended, such as of cells that are at work."""
    assert process.stderr is not None
    for line in process.stderr:
        if not ending.is_set():
            print(line.decode(errors="replace"), end="", file=sys.stderr, flush=True)


def _wait_for_an_answer(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    """Returns when the server answers; raises InputError when it ends before, or takes too long."""
    place = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    last = time.monotonic() + STARTING
    while time.monotonic() < last:
        if process.poll() is not None:
            raise InputError(f"app: the server ended before it answered (exit code {process.returncode})")
        connection = http.client.HTTPConnection(place, port, timeout=5)
        with suppress(OSError, http.client.HTTPException):
            connection.request("HEAD", "/voila/static/voila.js")
            connection.getresponse()
            return
        connection.close()
        time.sleep(0.1)
    raise InputError(f"app: the server does not answer on port {port} after {STARTING} seconds")


def _end(process: subprocess.Popen[bytes], in_order: bool) -> None:
    """Ends the server. In order, it ends its kernels first; a kernel whose server is gone ends within a second."""
    for number in _ending_signals():  # impatience would leave kernels and the folder behind
        signal.signal(number, signal.SIG_IGN)
    if process.poll() is None and in_order:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING)
    if process.poll() is None:
        process.kill()
        process.wait()


def _ending_signals() -> list[signal.Signals]:
    return [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Inside the block, what asks this process to end raises KeyboardInterrupt, as Ctrl-C does."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first(path: Path, variable: str) -> str:
    """`path`, before the paths that an environment variable has."""
    return os.pathsep.join(filter(None, [str(path), os.environ.get(variable)]))


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
