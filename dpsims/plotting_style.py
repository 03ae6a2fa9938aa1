"""The style of all figures: colours that the colour-blind can tell apart (Okabe and Ito's), sizes, titles, ticks."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a8f98"
CYCLE = (BLUE, ORANGE, GREEN, PINK, "#E69F00", "#56B4E9")
DPI = 100
STYLE = {
    "figure.dpi": DPI,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e6ea",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draws in the house style and leaves the reader's own settings alone."""

    @wraps(draw)
    def styled(*args: Any, **options: Any) -> Figure:
        with plt.rc_context(STYLE):
            return draw(*args, **options)

    return styled


def plain_log_ticks(axes: plt.Axes) -> None:
    """Ticks at 1, 2, 5, 10, ... on a logarithmic y axis, without powers."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")


def sentence(title: str) -> str:
    """A title that begins with a capital letter."""
    return title[:1].upper() + title[1:]
