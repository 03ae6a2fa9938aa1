"""Runs one notebook through papermill and says, while it runs, which cell is at work and how long it will take."""

import html
import re
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill import PapermillExecutionError, execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from dpsims.errors import InputError

QUIET_LINE_EVERY = 15.0  # seconds between progress lines where the output is not a terminal


class Progress:
    """The line that follows a running notebook: rewritten in place on a terminal, a new one now and then in a log.

    Args:
        label: what stands in front, such as ``[2/4] 03_training``.
        stream: where to write; standard output by default.
    """

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self.label = label
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.started = time.monotonic()
        self.last = self.started
        self.place = "starting the kernel"
        self._show(self.place, always=True)

    def cell(self, number: int, count: int, heading: str) -> None:
        """Code cell `number` of `count`, under `heading`, starts."""
        self.place = f"cell {number}/{count}" + (f" ({heading})" if heading else "")
        self._show(self.place)

    def bar(self, text: str) -> None:
        """A progress bar inside the cell moved; `text` is its counter and ETA."""
        self._show(f"{self.place}  {text}")

    def done(self, verdict: str) -> None:
        """The notebook ended."""
        self._show(verdict, always=True)
        if self.live:
            self.stream.write("\n")

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self.started

    def _show(self, text: str, always: bool = False) -> None:
        now = time.monotonic()
        if not (always or self.live) and now - self.last < QUIET_LINE_EVERY:
            return
        self.last = now
        minutes, seconds = divmod(int(self.seconds), 60)
        line = f"{self.label}  {minutes}:{seconds:02d}  {text}"
        self.stream.write(f"\r\x1b[K{line[:150]}" if self.live else f"{line}\n")
        self.stream.flush()


def bar_text(message: dict[str, Any]) -> str:
    """Counter and ETA of a tqdm bar from the widget message that moves it, ``120/600 [00:25<01:40, 4.8it/s]``."""
    data = message.get("content", {}).get("data", {})
    value = data.get("state", {}).get("value") if isinstance(data, dict) else None
    text = html.unescape(value).strip() if isinstance(value, str) else ""
    return text if re.search(r"\d.*\[[\d:?]+<", text) else ""


class _Client(PapermillNotebookClient):
    """papermill's client, telling a Progress which cell starts and where its bars stand."""

    progress: Progress

    def execute_cell(self, cell: NotebookNode, cell_index: int, *args: Any, **kwargs: Any) -> Any:
        if cell.cell_type == "code":
            code = [i for i, c in enumerate(self.nb.cells) if c.cell_type == "code"]
            self.progress.cell(code.index(cell_index) + 1, len(code), _heading(self.nb, cell_index))
        return super().execute_cell(cell, cell_index, *args, **kwargs)

    def process_message(self, msg: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if msg["msg_type"] == "comm_msg" and (text := bar_text(msg)):
            self.progress.bar(text)
        return super().process_message(msg, *args, **kwargs)


def _heading(nb: NotebookNode, index: int) -> str:
    """The last markdown heading above a cell."""
    for cell in reversed(nb.cells[:index]):
        found = re.findall(r"^#+\s+(.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
        if found:
            return found[-1].strip()
    return ""


class _Engine(NBClientEngine):
    @classmethod
    def execute_managed_notebook(  # type: ignore[override]
        cls, nb_man: Any, kernel_name: str, *, progress: Progress, start_timeout: int = 60, **_: Any
    ) -> None:
        client = _Client(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            timeout=None,  # training takes as long as it takes
            store_widget_state=False,  # images in widgets would be stored twice, and are not shown on reopening
            extra_arguments=["--log-level=50"],  # ipykernel's own notes say nothing about the notebook
        )
        client.progress = progress
        client.execute()


papermill_engines.register("dpsims", _Engine)


def run_notebook(path: Path, output: Path, parameters: dict[str, Any], progress: Progress) -> None:
    """Executes `path` with `parameters` in its own folder, into `output`, cell by cell.

    Raises:
        InputError: a cell raised, or the kernel died; names the notebook, the cell and the reason in one line. `output`
            then holds the traceback.
    """
    try:
        execute_notebook(
            *(str(p).replace("{", "{{").replace("}", "}}") for p in (path, output)),  # papermill formats its paths
            parameters=parameters,
            engine_name="dpsims",
            kernel_name="python3",
            cwd=str(path.parent),
            progress_bar=False,
            start_timeout=120,
            progress=progress,
        )
    except PapermillExecutionError as error:
        progress.done("failed")
        reason = " ".join(error.evalue.split())
        said = reason if error.ename == "InputError" else f"{error.ename}: {reason}"
        raise InputError(f"{path.stem}, code cell {error.exec_count}: {said} (traceback in {output})") from None
    except (DeadKernelError, CellTimeoutError) as error:
        progress.done("failed")
        reason = " ".join(str(error).split())
        raise InputError(f"{path.stem}: {reason}; was there enough memory? (so far: {output})") from None
