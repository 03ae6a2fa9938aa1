"""The two networks as box drawings, made from the networks themselves: what is drawn is what is built.

Scales run from coarse (left) to fine (right). A box says its size in places, height x width, and its channels.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn

from dpsims.models.discriminator import Discriminator
from dpsims.models.generator import Generator
from dpsims.plotting_style import GREY, styled

LABELS, NOISE, IMAGE, FROZEN = "#cfe3f3", "#f6d9c6", "#d5ecdf", "#e3e4e8"
ENDS, SIZE = "#ffffff", (1.16, 0.62)  # width and height of a box, in units of its column and row

Place = tuple[float, float]


@styled
def generator_schematic(generator: Generator) -> Figure:
    """Both pyramids of a generator, and the scales at which the noise enters the features of the label map."""
    levels = len(generator.heights)
    figure, axes = _sheet(levels + 1, 4.1, ["label encoder", "noise", "image network"], levels)
    end = levels * 1.5
    _box(axes, (end, 3), "label map $t$\n" + _size(generator.height, generator.width), ENDS)
    _box(axes, (end, 2), f"noise $z$, {generator.noise_tokens} tokens\nmapping $M$", NOISE)
    _box(axes, (end, 1), "image $x$\n" + _size(generator.height, generator.width), ENDS)
    for level, height in enumerate(generator.heights):
        x, last = level * 1.5, level == levels - 1
        size = _size(height, generator.width * height // generator.height)
        attends = "\nself-attention" if hasattr(generator.label_encoder.attention[level], "to_qkv") else ""
        _box(axes, (x, 3), f"$f_s$: {size}{attends}", LABELS)
        _box(axes, (x, 1), f"block: {size}\n{_width(generator.blocks[level].conv2)} channels", IMAGE)
        hears = generator.noise[level] is not None
        if hears:
            _box(axes, (x, 2), "cross-attention\n$f_s + n_s$", NOISE)
        _arrow(axes, (x, 3), (x, 2 if hears else 1))
        if hears:
            _arrow(axes, (x, 2), (x, 1))
        if not last:
            _arrow(axes, (x, 1), (x + 1.5, 1))
            _arrow(axes, (x + 1.5, 3), (x, 3), both=True)
    _arrow(axes, (end, 3), (end - 1.5, 3))
    _arrow(axes, (end - 1.5, 1), (end, 1))
    hearing = [level * 1.5 for level, attend in enumerate(generator.noise) if attend is not None]
    for x, source in zip(hearing, [*hearing[1:], end], strict=True):  # from box to box: z reaches all of them
        axes.annotate("", _edge((x, 2), right=True), _edge((source, 2), right=False), arrowprops=ARROW | {"ls": "--"})
    _foot(
        axes,
        "label encoder: down, and up again; image network: from the shares of the classes in each coarse place, up",
    )
    return figure


@styled
def discriminator_schematic(discriminator: Discriminator, size: int) -> Figure:
    """Encoder, conditioning and decoder of a discriminator for images of `size` x `size` pixels."""
    strides = [32, 16, 8, 4, 2, 1]
    figure, axes = _sheet(7, 4.1, ["encoder", "conditioning", "decoder, trained"], 6)
    levels = zip(discriminator.strides, discriminator.conditioning.levels, strict=True)
    seen = {2 if stride == 1 else stride: level.mean.numel() for stride, level in levels}
    trained = any(p.requires_grad for p in discriminator.backbone.parameters())
    _box(axes, (9, 3), f"image\n{_size(size, size)}", ENDS)
    _box(axes, (9, 1), f"{discriminator.num_classes} classes + fake\nfor every pixel", ENDS)
    finest = min(discriminator.backbone.strides)
    for column, stride in enumerate(strides):
        x, block = 1.5 * column, discriminator.blocks[column]
        places = _size(-(-size // stride), -(-size // stride))
        if stride in seen:
            pixels = stride < finest  # the image itself, its pixels put into channels
            text = f"pixels: {places}" if pixels else f"stride {stride}: {places}"
            _box(axes, (x, 3), f"{text}\n{seen[stride]} channels", ENDS if pixels else (IMAGE if trained else FROZEN))
            _box(axes, (x, 2), "squash, normalise\ndecorrelate + noise", NOISE)
            _arrow(axes, (x, 3), (x, 2))
            _arrow(axes, (x, 2), (x if stride == 32 else x + 1.5, 1))
            if stride >= finest and column:
                _arrow(axes, (x, 3), (x - 1.5, 3))
        _box(axes, (x, 1), f"{places}\n{_width(block.conv2)} channels", IMAGE)
        _arrow(axes, (x, 1), (x + 1.5, 1))
    _arrow(axes, (9, 3), (strides.index(min(seen)) * 1.5, 3))
    if min(seen) < finest:  # the backbone has the image too: around the box of the pixels
        start, stop = (9, 3.31), (strides.index(finest) * 1.5, 3.31)
        axes.annotate("", stop, start, arrowprops=ARROW | {"connectionstyle": "arc3,rad=0.18", "shrinkA": 0})
    frozen = "trained with the rest" if trained else "grey: pre-trained elsewhere and frozen"
    _foot(axes, f"{frozen}; each conditioned level joins the decoder one scale finer, as more channels")
    return figure


ARROW = {"arrowstyle": "-|>", "color": GREY, "lw": 1.1, "mutation_scale": 9}


def _width(convolution: nn.Conv2d) -> int:
    return convolution.weight.shape[0]


def _size(height: int, width: int) -> str:
    return f"{height}$\\times${width}"


def _sheet(columns: int, rows: float, names: list[str], right: int) -> tuple[Figure, Axes]:
    """Empty axes with the names of the three rows, top to bottom, at the left."""
    figure, axes = plt.subplots(figsize=(1.37 * columns + 0.9, 0.74 * rows))
    axes.set(xlim=(-1.75, right * 1.5 + 0.68), ylim=(0.1, 3.95))
    axes.axis("off")
    for row, name in zip((3, 2, 1), names, strict=True):
        axes.text(-0.72, row, name.replace(" ", "\n").replace(",\n", ",\n"), ha="right", va="center", fontsize=9)
    return figure, axes


def _foot(axes: Axes, text: str) -> None:
    axes.text(-SIZE[0] / 2, 0.33, text, fontsize=9, color="#444")


def _box(axes: Axes, centre: Place, text: str, colour: str) -> None:
    width, height = SIZE
    corner = (centre[0] - width / 2, centre[1] - height / 2)
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=colour, edgecolor="#777", lw=0.8))
    axes.text(*centre, text, ha="center", va="center", fontsize=7.5, color="#222")


def _edge(centre: Place, right: bool) -> Place:
    return centre[0] + (SIZE[0] / 2 if right else -SIZE[0] / 2), centre[1]


def _arrow(axes: Axes, start: Place, stop: Place, both: bool = False) -> None:
    """From box to box, side to side in a row, else from the foot of one to the head of the other."""
    if start[1] == stop[1]:
        right = stop[0] > start[0]
        ends = _edge(start, right), _edge(stop, not right)
    else:
        ends = (start[0], start[1] - SIZE[1] / 2), (stop[0], stop[1] + SIZE[1] / 2)
    style = ARROW | ({"arrowstyle": "<|-|>"} if both else {})
    axes.annotate("", ends[1], ends[0], arrowprops=style | {"shrinkA": 0, "shrinkB": 0})
