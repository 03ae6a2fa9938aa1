"""The figures of the ablation notebook, in the style of `dpsims.plotting`.

C channels, L levels, P measured points of a run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from dpsims.ablation_statistics import CLOCKS, MEASURES, curve, spread
from dpsims.plotting_style import CYCLE, sentence, styled

MARKERS = "osD^vP"
BETTER = {-1: "lower is better", 0: "", 1: "higher is better"}


@styled
def eigenvalue_spectra(
    spectra: Mapping[str, Mapping[str, Sequence[np.ndarray]]], strides: Sequence[int], floor: float = 1e-3
) -> Figure:
    """Eigenvalues of the channels' covariance in units of their mean, sorted, on a log axis: a row a network, a panel
    a level, a line a stage of conditioning. Independent channels of equal loudness would lie on the line at 1.

    Args:
        spectra: network -> stage -> for each level (C_l,) eigenvalues as shares of their sum, largest first.
        strides: of the levels.
        floor: lower end of the axis; smaller values are not shown.
    """
    figure, axes = plt.subplots(
        len(spectra), len(strides), figsize=(2.45 * len(strides), 2.3 * len(spectra) + 0.5), sharex=True, sharey=True,
        squeeze=False,
    )  # fmt: skip
    for r, (row, (network, stages)) in enumerate(zip(axes, spectra.items(), strict=True)):
        for level, (panel, stride) in enumerate(zip(row, strides, strict=True)):
            panel.axhline(1, color="#777", lw=0.8, ls=":", label="all channels alike and independent")
            for (stage, levels), colour in zip(stages.items(), CYCLE, strict=False):
                values = np.asarray(levels[level], dtype=float)
                values = values * len(values)
                rank = np.linspace(0, 100, len(values))
                panel.plot(rank, np.where(values < floor, np.nan, values), color=colour, lw=1.6, label=stage)
            panel.set_yscale("log")
            panel.yaxis.set_minor_formatter("")
            panel.set_title("" if r else f"Stride {stride}, {len(values)} channels", fontsize=10)
        row[0].set_ylabel(f"{network}\neigenvalue / mean")
    axes[0, 0].set_ylim(bottom=floor)  # of all panels
    for panel in axes[-1]:
        panel.set_xlabel("rank of the eigenvalue, %")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names))
    return figure


@styled
def correlation_grid(matrices: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """|correlation| between channels on one scale, 0 to 1: a row a network, a column a stage.

    Args:
        matrices: network -> stage -> (C, C) correlations; "" for a network that needs no name.
    """
    columns = len(next(iter(matrices.values())))
    figure, axes = plt.subplots(
        len(matrices), columns, squeeze=False, figsize=(2.4 * columns + 0.9, 2.35 * len(matrices) + 0.3)
    )
    for r, (row, (network, stages)) in enumerate(zip(axes, matrices.items(), strict=True)):
        for panel, (stage, matrix) in zip(row, stages.items(), strict=True):
            shown = panel.imshow(np.abs(matrix), vmin=0, vmax=1, cmap="magma_r", interpolation="nearest")
            panel.set(title="" if r else sentence(stage), xticks=[], yticks=[])
            panel.grid(visible=False)
        row[0].set_ylabel(f"{network}\nchannel".lstrip())
    for panel in axes[-1]:
        panel.set_xlabel("channel")
    figure.colorbar(shown, ax=axes.ravel().tolist(), label="|correlation| of two channels", shrink=0.7)
    return figure


@styled
def study_curves(
    results: Mapping[str, Any],
    measures: Sequence[str] = ("frechet", "miou"),
    targets: Mapping[str, float] | None = None,
) -> Figure:
    """What was measured as the trainings went on: a row a measure, over steps and over time.

    Every seed is a thin line with its measured points; over the steps, where all runs are measured at the same places,
    the mean over the seeds is a thick line beneath.

    Args:
        results: of `dpsims.ablation`.
        measures: keys of `dpsims.ablation_statistics.MEASURES`.
        targets: measure -> the value that a perfect sampler has, as a dotted line.
    """
    figure, axes = plt.subplots(
        len(measures), 2, figsize=(8.5, 2.5 * len(measures) + 0.5), sharex="col", sharey="row", squeeze=False
    )
    clocks = {"step": "step", results["clock"]: CLOCKS[results["clock"]]}
    for row, measure in zip(axes, measures, strict=True):
        name, sign = MEASURES[measure]
        row[0].set_ylabel(f"{name}\n({BETTER[sign]})" if sign else name)
        for panel, x in zip(row, clocks, strict=True):
            _target_line(panel, (targets or {}).get(measure))
            for arm, colour, marker in zip(results["arms"], CYCLE, MARKERS, strict=False):
                runs = [curve(results, arm, seed, x, measure) for seed in results["study"]["seeds"]]
                for places, values in runs:
                    panel.plot(places, values, color=colour, marker=marker, ms=4, lw=0.9, alpha=0.85)
                if x == "step" and len(runs) > 1:
                    _mean_line(panel, runs, colour)
    for panel, (x, label) in zip(axes[-1], clocks.items(), strict=True):
        panel.set_xlabel(label)
        panel.set_xlim(left=0)
        if x == "step":
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _arm_legend(figure, results)
    return figure


def _target_line(panel: plt.Axes, value: float | None) -> None:
    if value is not None:
        panel.axhline(value, color="#555", lw=1.2, ls=":", zorder=1)


def _mean_line(panel: plt.Axes, runs: Sequence[tuple[np.ndarray, np.ndarray]], colour: str) -> None:
    """The mean over the seeds at the steps that all of them have."""
    steps = sorted(set.intersection(*({float(x) for x in places} for places, _ in runs)))
    means = [np.mean([values[list(places).index(step)] for places, values in runs]) for step in steps]
    panel.plot(steps, means, color=colour, lw=5, alpha=0.25, solid_capstyle="round", zorder=1)


@styled
def seed_pairs(
    results: Mapping[str, Any],
    values: Mapping[str, Mapping[str, Mapping[int, float]]],
    targets: Mapping[str, float] | None = None,
) -> Figure:
    """A panel a measure: a dot a run, a grey line joins the runs of one seed, a bar is the mean over the seeds.

    Args:
        results: of `dpsims.ablation`; gives the arms' names.
        values: measure -> arm -> seed -> value; NaN is left out.
        targets: as of `study_curves`.
    """
    figure, (axes,) = plt.subplots(1, len(values), squeeze=False, figsize=(2.9 * len(values), 3.1))
    arms = list(results["arms"])
    for panel, (measure, by_arm) in zip(axes, values.items(), strict=True):
        name, sign = MEASURES[measure]
        _target_line(panel, (targets or {}).get(measure))
        for seed in results["study"]["seeds"]:
            panel.plot(range(len(arms)), [by_arm[arm][seed] for arm in arms], color="#b9bec6", lw=1, zorder=1)
        for i, (arm, colour, marker) in enumerate(zip(arms, CYCLE, MARKERS, strict=False)):
            dots = list(by_arm[arm].values())
            panel.plot([i] * len(dots), dots, ls="", marker=marker, ms=6, color=colour, zorder=3)
            mean = spread(dots).mean
            panel.plot([i - 0.22, i + 0.22], [mean, mean], color=colour, lw=2, zorder=2)
        panel.set(xlabel="arm of the study", ylabel=f"{name} ({BETTER[sign]})" if sign else name)
        panel.set(xticks=[], xlim=(-0.5, len(arms) - 0.5))
        shown = [v for by_seed in by_arm.values() for v in by_seed.values() if v == v]
        top = max([*shown, (targets or {}).get(measure, 0.0)])
        panel.set_ylim(0, 1.12 * top or 1.0)
    _arm_legend(figure, results)
    return figure


def _arm_legend(figure: Figure, results: Mapping[str, Any]) -> None:
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=5, label=about["name"])
        for about, colour, marker in zip(results["arms"].values(), CYCLE, MARKERS, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
