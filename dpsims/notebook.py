"""What every notebook does at its start and at its end: the folder for what it makes, where it ran, its figures."""

import io
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from IPython.display import Image as DisplayedImage
from IPython.display import Markdown
from matplotlib.figure import Figure
from PIL import Image

from dpsims import __version__, checkpoint
from dpsims.errors import InputError
from dpsims.files import write_json
from dpsims.palette import with_palette
from dpsims.paths import ROOT

QUALITY = 75  # of a figure that is stored as a JPEG
COLOURS = 128  # of a stored figure: a fifth of the bytes less than with 256


def output_folder(out: str, name: str) -> Path:
    """The folder for what the notebook `name` makes, made if need be: `out`, or ``runs/notebooks/<name>`` for "".

    Raises:
        InputError: it cannot be made.
    """
    folder = Path(out) if out else ROOT / "runs" / "notebooks" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: {folder} cannot be made ({error.strerror}); give another folder") from None
    return folder


def palette_png(figure: Figure) -> bytes:
    """A figure as a PNG of `COLOURS` colours, those of classes exact; see `dpsims.palette`."""
    file = io.BytesIO()
    with_palette(_drawn(figure), COLOURS).save(file, format="PNG", optimize=True)
    return file.getvalue()


def compact_figures() -> None:
    """Stores the figures of this kernel by `palette_png`, so that an executed notebook stays small."""
    shell = get_ipython()
    if shell is not None:  # else no notebook, nothing to store
        plt.switch_backend(matplotlib.get_backend())  # it registers its own writer when it is loaded: that comes first
        shell.display_formatter.formatters["image/png"].for_type(Figure, palette_png)


def photograph(figure: Figure) -> DisplayedImage:
    """A figure of many images as a JPEG: a quarter of the bytes where a palette would have to hold fine grain."""
    file = io.BytesIO()
    _drawn(figure).convert("RGB").save(file, format="JPEG", quality=QUALITY, optimize=True)
    plt.close(figure)
    return DisplayedImage(file.getvalue())


def _drawn(figure: Figure) -> Image.Image:
    return Image.open(io.BytesIO(print_figure(figure, "png", bbox_inches="tight", facecolor="white")))


def environment(**seeds: int) -> Markdown:
    """Seeds given, commit, versions, hardware and threads, as a table: what a run has to say of itself."""
    packages = {name: version(name) for name in ("torchvision", "timm", "numpy")}
    facts = {"dpsims": __version__, **checkpoint.provenance(**seeds), **packages, "CPU": _processor()}
    return table({key: [str(value)] for key, value in facts.items()}, ["value"], corner="what ran")


def _processor() -> str:
    """Name of the CPU as Linux has it, elsewhere what Python knows, and the number of its cores."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def table(rows: Mapping[str, Sequence[Any]], columns: Sequence[str], corner: str = "", digits: int = 2) -> Markdown:
    """A table that notebooks, GitHub and reports show alike.

    Args:
        rows: name -> one value a column; floats are written with `digits` significant digits, None and NaN as a dash.
        columns: their names.
        corner: what the row names are.
        digits: few, so that another machine prints the same.
    """
    lines = [f"| {corner} | {' | '.join(columns)} |", "|:--|" + "--:|" * len(columns)]
    lines += [f"| {name} | {' | '.join(cell(value, digits) for value in values)} |" for name, values in rows.items()]
    return Markdown("\n".join(lines))


def cell(value: Any, digits: int = 2) -> str:
    """One value as text; see `table`. Whole numbers keep all digits, in groups of three."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value == 0 or abs(value) < 10.0**-6:
            return "0"
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:.{decimals}f}"
    return str(value)


def save_metrics(file: Path, metrics: dict[str, Any]) -> None:
    """Writes the figures of merit of a notebook, which `dpsims reproduce` collects; whole or not at all."""
    write_json(file, metrics)
