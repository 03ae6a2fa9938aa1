"""What stands on the land of a procedural scene, each one function that paints on a `Canvas`: buildings and trees.

Lengths are in image heights unless a name says pixels; see `painting` for the letters and the arithmetic allowed
here.
"""

import numpy as np

from dpsims.data.painting import Canvas, Draws, fractal, noise, triangle
from dpsims.data.scene_palette import MATERIAL

GROUND = tuple(MATERIAL[name] for name in ("grass", "hill", "sand", "leaf", "petal", "petal_2"))


def paint_building(
    canvas: Canvas, draws: Draws, left: int, base: int, size: tuple[int, int], pitch: tuple[int, int], house: bool
) -> int:
    """A block with a grid of windows; everything in canvas pixels, so that windows keep whole pixels at 64 px.

    Args:
        left, base: left edge and lower edge.
        size: windows across and up.
        pitch: side of a window, and of the wall between two.
        house: put a gable roof on it.

    Returns:
        Its right edge.
    """
    side, gap = pitch
    width, height = size[0] * (side + gap) + gap, size[1] * (side + gap) + 2 * gap
    top = base - height
    rows, columns = slice(max(top, 0), min(base, canvas.height)), slice(max(left, 0), min(left + width, canvas.width))
    wall = MATERIAL[("wall", "wall_2", "wall_3")[draws.integer(0, 3)]]
    veil = 0.0 if house else draws.uniform(0.1, 0.4)
    lit_share, offset = draws.uniform(0.3, 0.8), draws.integer(0, canvas.table.size)
    if rows.start < rows.stop and columns.start < columns.stop:
        y, x = canvas.y[rows], canvas.x[columns]
        grain = fractal(canvas.table, y * 2, x * 2, (1 / 20, 1 / 20), 3, canvas.pixel)
        shade = ((x - left * canvas.pixel) * np.float32(0.35 / (width * canvas.pixel)))[None]
        canvas.paint((rows, columns), True, wall, 0.62 - shade + 0.35 * (grain - 0.5), veil)
        ledge = slice(rows.start, min(max(top + max(1, gap // 2), 0), canvas.height)), columns
        canvas.paint(ledge, True, MATERIAL["roof"] if house else wall, 0.12, veil)
    for number in range(size[0] * size[1]):
        row = top + gap + gap // 2 + (number // size[0]) * (side + gap)
        column = left + gap + (number % size[0]) * (side + gap)
        window = slice(max(row, 0), max(row + side, 0)), slice(max(column, 0), max(column + side, 0))
        lot, shine = canvas.table.ravel()[(offset + 2 * number) % (canvas.table.size - 1) :][:2].tolist()
        glass = MATERIAL["lamp"] if lot < lit_share else MATERIAL["pane"]
        fall = (np.arange(window[0].stop - window[0].start, dtype=np.float32) * np.float32(0.5 / side))[:, None]
        tone = 0.55 + 0.4 * shine - fall[: canvas.material[window].shape[0]]
        canvas.paint(window, True, glass, tone, veil)
    if house:
        _paint_gable(canvas, left - gap, left + width + gap, top + gap // 2, int(width * draws.uniform(0.3, 0.5)))
    return left + width


def _paint_gable(canvas: Canvas, left: int, right: int, base: int, height: int) -> None:
    rows, columns = slice(max(base - height, 0), max(base, 0)), slice(max(left, 0), max(right, 0))
    y, x = canvas.y[rows], canvas.x[columns]
    if not (len(y) and len(x)):
        return
    middle, half = (left + right) * 0.5 * canvas.pixel, (right - left) * 0.5 * canvas.pixel
    rise = (base * canvas.pixel - y)[:, None] * (1 / (height * canvas.pixel))
    side = (x - middle) * np.float32(1 / half)
    tiles = triangle(rise * 5.0)
    canvas.paint((rows, columns), np.abs(side) < 1.0 - 0.75 * rise, MATERIAL["roof"], 0.6 - 0.2 * side + 0.25 * tiles)


def paint_tree(canvas: Canvas, draws: Draws, x: float, y: float, height: float, kind: str, light: float) -> None:
    """A tree with its shadow and trunk.

    Args:
        x, y: foot of the trunk.
        kind: "round_tree", "round_tree_2" or "conifer".
        light: -1 light from the left to 1 from the right.
    """
    _paint_shadow(canvas, x - light * 0.16 * height, y, 0.34 * height)
    trunk = height * draws.uniform(0.035, 0.05) + 0.3 * canvas.pixel
    box = canvas.box(y - 0.45 * height, y, x - 2 * trunk, x + 2 * trunk)
    if box is not None:
        rise, across = (y - canvas.y[box[0]])[:, None], canvas.x[box[1]] - np.float32(x)
        flare = trunk * (1.25 - rise * (0.8 / height))
        bark = noise(canvas.table, canvas.y[box[0]] * 30, canvas.x[box[1]] * 80)
        tone = 0.35 + light * 0.3 * across * (1 / trunk) + 0.4 * bark
        canvas.paint(box, (np.abs(across) < flare) & (rise > 0), MATERIAL["trunk"], tone)
    (_paint_conifer if kind == "conifer" else _paint_crown)(canvas, draws, x, y, height, kind, light)


def _paint_shadow(canvas: Canvas, x: float, y: float, radius: float) -> None:
    """Darken the ground under a tree."""
    box = canvas.box(y - 0.2 * radius, y + 0.2 * radius, x - radius, x + radius)
    if box is None:
        return
    level = (canvas.y[box[0]] - y)[:, None] ** 2 * (1 / (0.2 * radius) ** 2) + (canvas.x[box[1]] - x) ** 2 * (
        1 / radius**2
    )
    ground = (level < 1) & np.isin(canvas.material[box], GROUND)
    np.copyto(canvas.tone[box], canvas.tone[box] // 2, where=ground)


def _paint_crown(canvas: Canvas, draws: Draws, x: float, y: float, height: float, kind: str, light: float) -> None:
    wide, tall = height * draws.uniform(0.30, 0.40), height * draws.uniform(0.30, 0.36)
    centre = y - height + tall * 1.05
    box = canvas.box(centre - 1.35 * tall, centre + 1.35 * tall, x - 1.35 * wide, x + 1.35 * wide)
    if box is None:
        return
    offset = draws.uniform(0, 64)
    rows, columns = canvas.y[box[0]], canvas.x[box[1]]
    down, across = (rows - centre)[:, None] * (1 / tall), (columns - x) * np.float32(1 / wide)
    lobes = fractal(canvas.table, rows + offset, columns + offset, (0.24 * height, 0.24 * height), 5, canvas.pixel)
    clumps = fractal(canvas.table, rows * 2 - offset, columns * 2, (0.2 * height, 0.2 * height), 6, canvas.pixel, 0.7)
    level = down * down + across * across + 1.5 * (lobes - 0.5)
    tone = 0.47 + 0.24 * light * across - 0.30 * down + 1.25 * (clumps - 0.5) - 0.2 * np.maximum(level - 0.5, 0.0)
    canvas.paint(box, level < 0.82, MATERIAL[kind], tone)


def _paint_conifer(canvas: Canvas, draws: Draws, x: float, y: float, height: float, kind: str, light: float) -> None:
    wide, tall = height * draws.uniform(0.20, 0.27), height * 0.88
    top = y - height
    box = canvas.box(top, top + tall, x - 1.2 * wide, x + 1.2 * wide)
    if box is None:
        return
    rows, columns = canvas.y[box[0]], canvas.x[box[1]]
    down = (rows - top)[:, None] * (1 / tall)
    tiers = draws.integer(4, 7)
    tier = down * tiers - np.floor(down * tiers)
    across = np.abs(columns - x) * (1 / wide)
    rough = fractal(
        canvas.table, rows * 2, columns * 2 + draws.uniform(0, 64), (0.1 * height, 0.07 * height), 3, canvas.pixel
    )
    edge = (0.10 + 0.90 * down) * (0.58 + 0.42 * tier) + 0.35 * (rough - 0.5)
    tone = 0.12 + 0.42 * tier + 0.25 * light * (columns - x) * (1 / wide) + 0.8 * (rough - 0.45) + 0.1 * across
    canvas.paint(box, (across < edge) & (down < 1), MATERIAL[kind], tone)
