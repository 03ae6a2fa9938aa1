"""Figures of the parts of the method, for notebooks 1, 3 and 5; in the style of `plotting.py`.

h heads, H and W height and width, P patches.
"""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from dpsims.plotting_style import BLUE, CYCLE, GREY, ORANGE, sentence, styled

MOOD_COLOURS = ("#56B4E9", "#D55E00", "#2b3a67", "#8a8f98", "#E69F00", "#dfe7ee", "#009E73", "#CC79A7")


@styled
def draw_distances(equal: np.ndarray, different: np.ndarray, mean: float) -> Figure:
    """How far two draws of one label map are apart: a histogram of all pairs, in percent.

    Args:
        equal: distances of the pairs of the same mood, which are 0 where only the mood is drawn.
        different: distances of the others.
        mean: over all pairs, marked by a line.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.2))
    pairs = [np.ravel(equal), np.ravel(different)]
    shares = [np.full(len(distances), 100 / sum(map(len, pairs))) for distances in pairs]
    edges = np.linspace(0, 1.02 * max(float(distances.max()) for distances in pairs), 28)
    axes.hist(pairs, edges, weights=shares, stacked=True, color=[GREY, BLUE], label=["the same mood", "two moods"])
    axes.axvline(mean, color=ORANGE, lw=1.6, label=f"mean {mean:.2f}")
    axes.set(xlabel="mean L1 distance, images in [0, 1]", ylabel="pairs of draws, %", xlim=(0, edges[-1]))
    axes.set_title("Two draws of one label map: how far apart")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def attention_maps(label_map: np.ndarray, levels: Mapping[str, np.ndarray], tokens: Sequence[Sequence[int]]) -> Figure:
    """Which places listen to which noise token: one row a level, one map a head, all on one scale.

    Args:
        label_map: (H, W, 3) uint8, at the left of every row.
        levels: name -> (h, H_l, W_l) weights of one token of every head, as multiples of an even share, 1 / N.
        tokens: for each level, the numbers of those tokens.
    """
    heads = len(next(iter(levels.values())))
    size = (1.65 * (heads + 1) + 1.0, 1.85 * len(levels) + 0.15)
    figure, axes = plt.subplots(len(levels), heads + 1, squeeze=False, figsize=size)
    norm = TwoSlopeNorm(1.0, vmin=0.0, vmax=max(2.0, max(float(maps.max()) for maps in levels.values())))
    for row, (name, maps), chosen in zip(axes, levels.items(), tokens, strict=True):
        row[0].imshow(label_map, interpolation="nearest")
        row[0].set_ylabel(name, fontsize=9)
        for head, (panel, weights, token) in enumerate(zip(row[1:], maps, chosen, strict=True), start=1):
            shown = panel.imshow(weights, cmap="PuOr_r", norm=norm, interpolation="nearest")
            panel.set_title(f"Head {head}, token {token}", fontsize=9)
    axes[0, 0].set_title("Label map", fontsize=9)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(False)
    bar = figure.colorbar(shown, ax=axes, shrink=0.85, label="weight / even share")
    bar.set_ticks([0, 0.5, 1, *np.linspace(1, norm.vmax, 3)[1:]])
    bar.ax.yaxis.set_major_formatter("{x:.1f}")
    return figure


@styled
def noise_levels(gaps: np.ndarray, targets: np.ndarray, histories: Mapping[str, Sequence[float]]) -> Figure:
    """The dynamic feature noise: where it is drawn to by each gap, and how fast it gets there.

    Args:
        gaps, targets: (M,) how far D is ahead, and the level that this leads to in the end.
        histories: name of a constant gap -> sigma_t over the steps.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.1), sharey=True)
    left.plot(gaps, targets, color="#222")
    left.axvline(0, color=GREY, lw=1)
    left.set(xlabel="gap: how far D is ahead, nats", ylabel="feature noise $\\sigma$")
    left.set_title("The level a gap leads to")
    for (name, sigma), colour in zip(histories.items(), CYCLE, strict=False):
        right.plot(np.arange(1, len(sigma) + 1), sigma, color=colour, label=name)
    right.set(xlabel="step", title="On the way, from $\\sigma_0 = 0$", ylim=(0, None))
    figure.legend(loc="outside right center")
    return figure


@styled
def patch_similarities(similarities: Mapping[str, np.ndarray]) -> Figure:
    """The share that the softmax of each generated patch gives to every real patch; rings mark the same place, the
    true pair.

    Args:
        similarities: title -> (P, P), rows of which sum to 1.
    """
    size = (2.9 * len(similarities) + 0.8, 3.5)
    figure, (axes,) = plt.subplots(1, len(similarities), squeeze=False, figsize=size, sharey=True)
    most = max(float(matrix.max()) for matrix in similarities.values())
    for panel, (title, matrix) in zip(axes, similarities.items(), strict=True):
        shown = panel.imshow(matrix, vmin=0, vmax=most, cmap="magma_r", interpolation="nearest")
        places = np.arange(len(matrix))
        rings = panel.plot(places, places, "o", ms=5, mfc="none", mec="#56B4E9", label="true pair: the same place")
        panel.set(title=sentence(title), xlabel="patch of the real image, number")
        panel.grid(visible=False)
    axes[0].set_ylabel("patch of the generated image, number")
    figure.legend(handles=rings, loc="outside lower center")
    figure.colorbar(shown, ax=axes.tolist(), label="share of the softmax", shrink=0.85)
    return figure


@styled
def diversity_hinge(
    threshold: float, loss: Callable[[np.ndarray], np.ndarray], ratios: Mapping[str, Sequence[float]]
) -> Figure:
    """The diversity constraint over the ratio of distances, and where pairs of images lie on it.

    Args:
        threshold: tau, where the loss ends.
        loss: function (ratios (M,)) -> (M,).
        ratios: name -> one ratio a pair of images.
    """
    figure, axes = plt.subplots(figsize=(6.4, 3.2))
    most = max(1.6 * threshold, *(1.05 * max(values) for values in ratios.values()))
    line = np.linspace(0, most, 200)
    axes.plot(line, loss(line), color="#222", label="$[\\tau - $ratio$]_+$")
    axes.axvline(threshold, color=GREY, lw=1, ls="--", label=f"threshold $\\tau$ = {threshold:g}")
    for (name, values), colour in zip(ratios.items(), CYCLE, strict=False):
        values = np.asarray(values)
        axes.plot(values, loss(values), "o", ms=6, alpha=0.7, color=colour, label=name, clip_on=False, zorder=3)
    axes.set(xlabel="distance of the images / distance of the noises", ylabel="loss of a pair")
    axes.set(title="No loss once two noises give two images", xlim=(0, most), ylim=(0, 1.15 * threshold))
    axes.legend(loc="upper right")
    return figure


@styled
def mood_walks(walks: Mapping[str, np.ndarray], moods: Sequence[str], xlabel: str) -> Figure:
    """How sure the evaluator is of each mood along a walk between two noises: one panel a walk, areas that sum to 1.

    Where one mood is likelier than all others together for long enough, its name stands in its area.

    Args:
        walks: title -> (steps, moods) probabilities, from share 0 to share 1.
        moods: their names.
        xlabel: what the share is.
    """
    figure, (axes,) = plt.subplots(1, len(walks), squeeze=False, figsize=(3.9 * len(walks) + 1.2, 2.9), sharey=True)
    for panel, (title, probabilities) in zip(axes, walks.items(), strict=True):
        share = np.linspace(0, 1, len(probabilities))
        panel.stackplot(
            share, np.transpose(probabilities), colors=MOOD_COLOURS, labels=moods, edgecolor="white", lw=0.4
        )
        _name_areas(panel, share, probabilities, moods)
        panel.set(title=sentence(title), xlabel=xlabel, xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("probability of each mood")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], title="mood", loc="outside right center")
    return figure


def _name_areas(panel: plt.Axes, share: np.ndarray, probabilities: np.ndarray, moods: Sequence[str]) -> None:
    """The name of a mood in the middle of every stretch, of a fifteenth of the walk at least, that it has to itself."""
    for m, name in enumerate(moods):
        likely = probabilities[:, m] > 0.5
        for stretch in np.split(np.arange(len(share)), np.flatnonzero(np.diff(likely)) + 1):
            if likely[stretch[0]] and len(stretch) >= len(share) / 15:
                middle = stretch[len(stretch) // 2]
                y = probabilities[middle, :m].sum() + probabilities[middle, m] / 2
                halo = [withStroke(linewidth=2.5, foreground="white")]
                panel.text(share[stretch].mean(), y, name, ha="center", va="center", rotation=90, fontsize=9,
                           path_effects=halo)  # fmt: skip
