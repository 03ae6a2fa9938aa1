"""Every figure of the notebooks: plain functions that take arrays and return a matplotlib Figure.

Images are shown pixel by pixel, enlarged by a whole number, so that a reader sees what was drawn and not what was
interpolated. Colours of classes are those of their label space.

N images a row, H and W height and width, K classes.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dpsims.labels import LabelSpace
from dpsims.plotting_style import CYCLE, DPI, GREY, ORANGE, plain_log_ticks, sentence, styled


@styled
def image_grid(
    rows: Mapping[str, np.ndarray],
    columns: Sequence[str] = (),
    *,
    scale: int = 2,
    legend: LabelSpace | None = None,
    title: str = "",
) -> Figure:
    """Rows of images, named at the left, columns named above.

    Args:
        rows: name of a row -> (N, H, W, 3) uint8; rows may be of different length. A name may have line breaks; spaces
            at its ends, by which two rows may have one name, are not drawn.
        columns: names above the columns, at most N.
        scale: every pixel becomes a square of so many.
        legend: put the names and colours of these classes below.
        title: above everything.
    """
    gap, ink = 4, "#222"
    height, width = (scale * s for s in next(iter(rows.values())).shape[1:3])
    count = max(len(images) for images in rows.values())
    names = [name.strip() for name in rows]
    text = 12 + 7 * max(len(line) for name in names for line in name.split("\n"))  # pixels left of the rows
    above = (22 if columns else 0) + (24 if title else 0)
    entries = 6 if count * (width + gap) > 500 else 4
    below = 24 * -(-legend.num_classes // entries) if legend else 0
    canvas = np.full((len(rows) * (height + gap) - gap, count * (width + gap) - gap, 3), 255, np.uint8)
    for r, images in enumerate(rows.values()):
        for c, image in enumerate(images):
            y, x = r * (height + gap), c * (width + gap)
            canvas[y : y + height, x : x + width] = image.repeat(scale, 0).repeat(scale, 1)
    total = (canvas.shape[0] + above + below, canvas.shape[1] + text)
    figure = plt.figure(figsize=(total[1] / DPI, total[0] / DPI), dpi=DPI, layout="none")
    place = (text / total[1], below / total[0], canvas.shape[1] / total[1], canvas.shape[0] / total[0])
    axes = figure.add_axes(place)
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.axis("off")
    for r, name in enumerate(names):
        axes.text(-8, r * (height + gap) + height / 2, name, ha="right", va="center", fontsize=9, color=ink)
    for c, name in enumerate(columns):
        axes.text(c * (width + gap) + width / 2, -6, name, ha="center", va="bottom", fontsize=9, color=ink)
    if title:
        figure.text(0.0, 1.0, sentence(title), ha="left", va="top", fontsize=11, color=ink)
    if legend:
        _class_legend(figure, legend, entries)
    return figure


def _class_legend(figure: Figure, space: LabelSpace, columns: int) -> None:
    """Swatches of all classes at the foot of a figure."""
    handles = [
        Patch(facecolor=np.array(colour) / 255, edgecolor="#999", linewidth=0.5, label=name)
        for name, colour in zip(space.names[1:], space.colours[1:], strict=True)
    ]
    figure.legend(
        handles=handles, loc="lower center", ncols=columns, borderaxespad=0,
        handlelength=1.2, columnspacing=1.2, labelspacing=0.3,
    )  # fmt: skip


@styled
def class_frequencies(frequency: np.ndarray, space: LabelSpace) -> Figure:
    """Bars of the classes' shares of all pixels, most frequent first, on a log axis.

    Args:
        frequency: (K,) shares in [0, 1], without void.
        space: names and colours.
    """
    figure, axes = plt.subplots(figsize=(7, 3.6))
    order = np.argsort(frequency)
    colours = np.array(space.colours[1:])[order] / 255
    names = [space.names[i + 1] for i in order]
    percent = 100 * np.asarray(frequency)[order]
    axes.barh(names, percent, color=colours, edgecolor="#888", linewidth=0.6)
    for y, value in enumerate(percent):
        axes.text(value * 1.06, y, f"{value:.2g} %" if value else "absent", va="center", fontsize=9)
    axes.set(xscale="log", xlabel="share of all pixels, %", ylabel="class", title="Class frequencies")
    axes.set_xlim(0.5 * percent[percent > 0].min(), 2 * percent.max())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", visible=False)
    return figure


@styled
def paired_bars(
    names: Sequence[str],
    values: Mapping[str, Sequence[float]],
    ylabel: str,
    title: str = "",
    digits: int | None = None,
    xlabel: str = "",
    line: tuple[str, float] | None = None,
) -> Figure:
    """Groups of bars: one group a name, one bar a series.

    Args:
        names: of the groups.
        values: name of a series -> one number a group; NaN leaves a gap.
        ylabel: with the unit.
        title: of the figure.
        digits: write each bar's value above it, with so many decimals.
        xlabel: what the groups are.
        line: name and height of a line across.
    """
    room = 0.5 * len(values) * (digits is not None)  # inches a group, that the numbers above the bars need
    figure, axes = plt.subplots(figsize=(max(5.5, len(names) * max(0.68, room)), 3.6))
    if line:
        axes.axhline(line[1], color="#222", ls="--", lw=1.2, label=line[0])
    width = 0.8 / len(values)
    for s, (series, numbers) in enumerate(values.items()):
        x = np.arange(len(names)) + (s - (len(values) - 1) / 2) * width
        bars = axes.bar(x, numbers, width * 0.92, label=series, color=CYCLE[s])
        if digits is not None:
            paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.4}  # a line across leaves the numbers free
            axes.bar_label(bars, fmt=f"%.{digits}f", fontsize=8, padding=2, bbox=paper if line else None)
    axes.set_xticks(
        range(len(names)), names, rotation=30 if len(names) > 6 else 0, ha="right" if len(names) > 6 else "center"
    )
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.grid(axis="x", visible=False)
    axes.margins(x=0.02, y=0.12)
    figure.legend(loc="outside lower center", ncols=len(values) + bool(line))
    return figure


@styled
def class_weight_kinds(weights: Mapping[str, np.ndarray], space: LabelSpace) -> Figure:
    """alpha of every class, one line a kind of weights, on a log axis.

    Args:
        weights: kind -> (K+1,) weights, void first.
        space: names of the classes.
    """
    figure, axes = plt.subplots(figsize=(7.5, 3.4))
    first = np.asarray(next(iter(weights.values())))[1:]
    order = np.argsort(first)
    for (kind, alpha), colour, marker in zip(weights.items(), CYCLE, "osD^vP", strict=False):
        axes.plot([space.names[i + 1] for i in order], np.asarray(alpha)[1:][order], marker=marker, ms=5, color=colour,
                  label=kind)  # fmt: skip
    axes.set(yscale="log", xlabel="class", ylabel="weight of a pixel, $\\alpha_c$ (mean 1)")
    axes.set_title("Class weights, rarest class at the right")
    plain_log_ticks(axes)
    axes.tick_params(axis="x", rotation=30)
    figure.legend(title="kind", loc="outside right center")
    return figure


@styled
def distance_matrix(names: Sequence[str], distances: np.ndarray, title: str, axis: str, unit: str) -> Figure:
    """Distances between all pairs as a map, each with its number.

    Args:
        names: of the rows, which are those of the columns too.
        distances: (M, M).
        title: of the figure.
        axis: what the rows and the columns are.
        unit: what is measured, with its unit.
    """
    figure, axes = plt.subplots(figsize=(2.6 + 0.5 * len(names), 1.7 + 0.45 * len(names)))
    shown = axes.imshow(distances, cmap="Blues", vmin=0)
    for (row, column), value in np.ndenumerate(distances):
        dark = value > 0.6 * np.max(distances)
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color="white" if dark else "#222")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(title=title, xlabel=axis, ylabel=axis)
    axes.grid(visible=False)
    figure.colorbar(shown, shrink=0.8, label=unit)
    return figure


@styled
def channel_scales(raw: Sequence[np.ndarray], conditioned: Sequence[np.ndarray], strides: Sequence[int]) -> Figure:
    """Standard deviation of every channel, sorted, divided by the level's median, before and after conditioning.

    Args:
        raw, conditioned: for each level, (C_l,) standard deviations.
        strides: of the levels.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for panel, levels, title in zip(axes, (raw, conditioned), ("Raw features", "Conditioned features"), strict=True):
        for scales, stride, colour in zip(levels, strides, CYCLE, strict=False):
            scales = np.sort(np.asarray(scales))[::-1]
            rank = np.linspace(0, 100, len(scales))
            panel.plot(rank, np.maximum(scales / np.median(scales), 1e-3), color=colour, label=f"stride {stride}")
        panel.set(yscale="log", xlabel="rank of the channel, %", title=title)
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("")
    axes[0].set(ylabel="standard deviation / median", ylim=(0.03, 5))
    axes[1].legend(loc="lower left")
    return figure


@styled
def focal_curves(gammas: Sequence[float], point: tuple[float, float], loss: object) -> Figure:
    """The focal loss of one pixel over the probability of its target, and one pixel worked by hand.

    Args:
        gammas: one curve each.
        point: (probability, loss) of the pixel.
        loss: function (probabilities (P,), gamma) -> (P,).
    """
    figure, axes = plt.subplots(figsize=(6, 3.2))
    p = np.linspace(0.01, 1, 200)
    for gamma, colour in zip(gammas, CYCLE, strict=False):
        axes.plot(p, loss(p, gamma), color=colour, label=f"$\\gamma$ = {gamma:g}")
    axes.plot(*point, "o", color="#222", ms=8, label="the pixel worked by hand", clip_on=False, zorder=3)
    axes.set(xlabel="probability that D gives the target, $p_t$", ylabel="loss of the pixel", ylim=(0, 3.5),
             title="Focusing: pixels that are right weigh little")  # fmt: skip
    axes.legend(loc="upper right")
    return figure


@styled
def training_curves(metrics: Mapping[str, Sequence[float]]) -> Figure:
    """Four panels over the steps: losses of D, losses of G, share of fakes found and feature noise, gradient norms.

    Args:
        metrics: columns of metrics.csv, from `dpsims.run_folder.read_metrics`; NaN where a term was not measured.
    """
    panels = (
        ("Losses of the discriminator", "loss",
         {"loss_d_real": "real pixels", "loss_d_fake": "generated pixels"}),
        ("Terms of the generator's loss, weighted", "loss",
         {"loss_g_pixel": "pixel", "loss_g_contrastive": "contrastive", "loss_g_diversity": "diversity"}),
        ("Who is ahead", "share, standard deviation",
         {"fakes_found": "share of fakes found", "sigma": "feature noise $\\sigma_k$"}),
        ("Gradient of each term in G", "L2 norm",
         {"grad_pixel": "pixel", "grad_contrastive": "contrastive", "grad_diversity": "diversity"}),
    )  # fmt: skip
    figure, axes = plt.subplots(2, 2, figsize=(8.5, 6), sharex=True)
    steps = np.asarray(metrics["step"])
    for panel, (title, unit, series) in zip(axes.flat, panels, strict=True):
        for (column, name), colour in zip(series.items(), CYCLE, strict=False):
            values = np.asarray(metrics[column])
            seen = np.isfinite(values)
            if seen.any():
                marker = "o" if seen.sum() < 30 else None
                panel.plot(steps[seen], values[seen], color=colour, marker=marker, ms=3.5, lw=1.4, label=name)
        panel.set_title(title, pad=24)
        panel.set_ylabel(unit)
        if unit == "L2 norm":
            panel.set_yscale("log", nonpositive="mask")
            plain_log_ticks(panel)
        else:
            panel.set_ylim(bottom=0)
        # between title and panel, where no line can be
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), borderaxespad=0.2, borderpad=0)
    for panel in axes[1]:
        panel.set_xlabel("step")
        panel.xaxis.get_major_locator().set_params(integer=True)
    return figure


@styled
def reference_lines(
    rows: Mapping[str, Mapping[str, float]], highlighted: Sequence[str], measures: Mapping[str, str]
) -> Figure:
    """One panel a measure, one line a row: where generated images stand between references.

    Args:
        rows: name of a row -> {measure: value}.
        highlighted: rows that are generators; the others are references.
        measures: key of a measure -> label of its axis, with the better direction.
    """
    names = list(rows)
    figure, (axes,) = plt.subplots(
        1, len(measures), squeeze=False, figsize=(3.1 * len(measures) + 1.2, 0.32 * len(names) + 1.1), sharey=True
    )
    for panel, (measure, label) in zip(axes, measures.items(), strict=True):
        for y, name in enumerate(names):
            value = rows[name][measure]
            if value is None or not np.isfinite(value):
                continue
            ours = name in highlighted
            panel.plot([0, value], [y, y], color=ORANGE if ours else "#c3c7ce", lw=2.4)
            panel.plot(value, y, "o", ms=7, color=ORANGE if ours else GREY)
            panel.annotate(
                f"{value:.0f}" if value >= 10 else f"{value:#.2g}",
                (value, y),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        panel.margins(x=0.22)  # for the numbers
        panel.set(xlabel=label, xlim=(0, None))
        panel.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylabel("images")
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    for tick, name in zip(axes[0].get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name in highlighted else "normal")
    return figure
