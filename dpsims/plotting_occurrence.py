"""The figure of classes that are seen together, in the style of `dpsims.plotting`.

K classes.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from dpsims.errors import InputError
from dpsims.labels import LabelSpace
from dpsims.plotting_style import styled

WRITTEN = 15  # classes up to which each cell has its number
SELF = "#d5d8dd"  # a class with itself: 100 % that say nothing


@styled
def co_occurrence_matrix(share: np.ndarray, space: LabelSpace, most: int = 20) -> Figure:
    """Which classes are seen together: of the maps with a row's class, the share that hold the column's too.

    The classes most often seen beside others stand first; void and those that never occur are left out. Cells have
    their numbers where there are 15 classes or fewer.

    Args:
        share: (K+1, K+1), of `dpsims.data.occurrence.co_occurrence`.
        space: names of the classes.
        most: classes to show.

    Raises:
        InputError: another shape, or no class occurs.
    """
    expected = (space.num_classes + 1,) * 2
    if np.shape(share) != expected:
        raise InputError(f"share: of shape {np.shape(share)}, and {space.name} needs {expected}")
    there = 1 + np.flatnonzero(share.diagonal()[1:])
    if not there.size:
        raise InputError("share: no class occurs in these maps, so there is nothing to show")
    shown = there[np.argsort(-share[1:, there].sum(0), kind="stable")][:most]
    percent = 100 * share[np.ix_(shown, shown)]
    count, names = len(shown), [space.names[i] for i in shown]
    cell = 0.42 if count <= WRITTEN else max(0.14, min(0.3, 8 / count))  # inches; below, names would meet
    figure, axes = plt.subplots(figsize=(max(5.5, 3.4 + cell * count), max(4.2, 1.9 + cell * count)))
    colours = plt.get_cmap("Blues").with_extremes(bad=SELF)
    image = axes.imshow(np.ma.masked_array(percent, np.eye(count, dtype=bool)), cmap=colours, vmin=0, vmax=100)
    if count <= WRITTEN:
        _write(axes, percent)
    axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.tick_params(labelsize=10 if cell > 0.2 else 8)
    left_out = f", {count} of {len(there)}" if count < len(there) else ""
    axes.set(title=f"Classes seen together{left_out}", xlabel="also hold", ylabel="maps with")
    axes.grid(visible=False)
    figure.colorbar(image, shrink=0.8, label="share of the row's maps\nthat hold the column's class, %")
    return figure


def _write(axes: plt.Axes, percent: np.ndarray) -> None:
    """The number of each cell, but for those of a class with itself."""
    for (row, column), value in np.ndenumerate(percent):
        if row != column:
            ink = "white" if value > 60 else "#222"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=9, color=ink)
