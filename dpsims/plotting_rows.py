"""The figure of notebook 4 that shows distances beside their reference rows; in the style of `plotting.py`."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from dpsims.evaluation.intervals import LEVEL
from dpsims.plotting_style import GREY, ORANGE, styled

ZERO = 1e-3  # a distance that is only rounding


@styled
def distance_dots(
    rows: Mapping[str, Mapping[str, Any]], highlighted: Sequence[str], measures: Mapping[str, str]
) -> Figure:
    """One panel a distance, one dot a row on a logarithmic axis, with its interval where there is one.

    Args:
        rows: name of a row -> {measure: value, measure_interval: [low, high] or None}; a distance of 0, which a
            logarithmic axis lacks, is written at the left, and a missing value is left out. Intervals end at half
            of the smallest distance, or one that reaches 0 would take the whole axis.
        highlighted: rows that are generators; the others are references.
        measures: key of a measure -> label of its axis.
    """
    names = list(rows)
    figure, (axes,) = plt.subplots(
        1, len(measures), squeeze=False, figsize=(3.1 * len(measures) + 1.2, 0.32 * len(names) + 1.6), sharey=True
    )
    for panel, (measure, label) in zip(axes, measures.items(), strict=True):
        found = [rows[name].get(measure) or 0.0 for name in names]
        floor = 0.5 * min((value for value in found if value > ZERO), default=1.0)
        for y, (name, row) in enumerate(rows.items()):
            _dot(panel, y, row.get(measure), row.get(f"{measure}_interval"), floor, name in highlighted)
        panel.set(xlabel=label, xscale="log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.margins(x=0.12)
        panel.grid(axis="y", visible=False)
    figure.supxlabel(f"dot: of all maps; bar: interval of {LEVEL:.0%} over label maps", fontsize=9)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylabel("images")
    axes[0].set_ylim(len(names) - 0.5, -0.5)  # also where a row has no dot
    for tick, name in zip(axes[0].get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name in highlighted else "normal")
    return figure


def _dot(
    panel: plt.Axes, y: int, value: float | None, bounds: Sequence[float] | None, floor: float, ours: bool
) -> None:
    """One row of one panel; an interval that reaches below `floor`, perhaps to 0, ends there."""
    colour = ORANGE if ours else GREY
    if value is None:
        return
    if value <= ZERO:
        panel.annotate("0", (0.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=colour)
        return
    if bounds is not None:
        panel.plot([max(bounds[0], floor), bounds[1]], [y, y], color=colour, lw=2.4, alpha=0.55, solid_capstyle="butt")
    panel.plot(value, y, "o", ms=6, color=colour)
