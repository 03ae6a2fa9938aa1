"""The land of a scene, each part one function that paints on a `Canvas`: sky, mountains, meadow, water, road.

Lengths are in image heights; see `painting` for the letters and for the arithmetic that is allowed here.
"""

import numpy as np

from dpsims.data.painting import TABLE, Canvas, Draws, fractal, ground_noise, noise, triangle
from dpsims.data.scene_palette import MATERIAL


def paint_sky(canvas: Canvas, draws: Draws, horizon: float, sun: tuple[float, float, float], clouds: float) -> None:
    """Gradient, stars, sun or moon with its glow, and clouds, from the top down to a little below the horizon.

    Args:
        sun: x, y and radius.
        clouds: threshold of the cloud noise; 0.4 covers most of the sky, 0.8 none of it.
    """
    box = canvas.box(0, horizon + 0.1, 0, 9)
    y, x = canvas.y[box[0]], canvas.x
    height = np.minimum(y * (1 / horizon), 1.0)[:, None]
    dither = noise(canvas.table, y * 61, x * 61) * 0.02
    distance = (y[:, None] - sun[1]) ** 2 + (x - sun[0]) ** 2
    glow = np.maximum(1.0 - distance * (1 / 0.45), 0.0)
    near = np.maximum(1.0 - distance * (1 / 0.035), 0.0)
    glow = 0.55 * glow * glow + 0.45 * near * near
    canvas.paint(box, True, MATERIAL["sky"], height * height * (0.35 + 0.6 * height) + 0.05 + dither, glow)
    _paint_stars(canvas, draws, horizon)
    radius = sun[2] * sun[2]
    spots = noise(canvas.table, (y - sun[1]) * (2.2 / sun[2]), (x - sun[0]) * (2.2 / sun[2]))
    disc = distance < radius
    canvas.paint(box, disc, MATERIAL["sun"], 1.05 - distance * (0.35 / radius) - 0.8 * np.maximum(spots - 0.5, 0.0))
    _paint_clouds(canvas, draws, box, clouds, glow)


def _paint_stars(canvas: Canvas, draws: Draws, horizon: float) -> None:
    """Small squares in the sky, visible at night only (by day their colours are those of the sky)."""
    side = max(1, canvas.height // 128)
    for _ in range(45):
        row, column = int(draws.uniform(0, horizon) * canvas.height), int(draws.uniform() * canvas.width)
        box = slice(row, row + side), slice(column, column + side)
        canvas.material[box][canvas.material[box] == MATERIAL["sky"]] = MATERIAL["star"]


def _paint_clouds(canvas: Canvas, draws: Draws, box: tuple, threshold: float, glow: np.ndarray) -> None:
    y, x = canvas.y[box[0]], canvas.x
    offset, width = draws.uniform(0, 64), draws.uniform(0.3, 0.55)
    cell = width * 0.45, width
    density = fractal(canvas.table, y + offset, x + offset, cell, 5, canvas.pixel)
    above = max(1, canvas.height // 40)  # light falls from above: compare with the density a little higher up
    higher = np.concatenate((density[:1].repeat(above, 0), density[:-above]))
    bound = threshold + 0.1 * (y * y)[:, None]
    excess = density - bound
    tone = 0.42 + 3.0 * (density - higher) + 1.3 * np.minimum(excess, 0.3)
    canvas.paint(box, excess > 0, MATERIAL["cloud"], tone, glow * 0.8)


def paint_mountains(
    canvas: Canvas, draws: Draws, horizon: float, height: float, material: str, veil: float, light: float
) -> None:
    """One range along the horizon, lit from one side, with snow on high peaks.

    Args:
        height: of the highest peak possible.
        material: "rock" or "far_rock".
        veil: haze over it.
        light: -1 light from the left to 1 from the right.
    """
    offset = draws.uniform(0, 64)
    x = canvas.x + np.float32(offset)
    profile = _ridge(canvas, draws, height, offset)
    box = canvas.box(horizon - height, horizon + 0.03, 0, 9)
    y = canvas.y[box[0]]
    depth = y[:, None] - (np.float32(horizon) - profile)  # below the ridge
    rough = fractal(canvas.table, y + offset, x, (0.12, 0.06), 4, canvas.pixel)
    # Facets: the slope of the ridge is read a little aside, more so further down.
    aside = ((rough - 0.5) * (0.05 + depth * 0.9) * canvas.height).astype(np.int32)
    step = max(2, canvas.height // 48)
    slope = np.concatenate((profile[step:], profile[-1:].repeat(step))) - profile
    slope *= np.float32(1 / (step * canvas.pixel))
    column = np.minimum(np.maximum(np.arange(canvas.width, dtype=np.int32) + aside, 0), canvas.width - 1)
    tone = 0.5 - light * 0.55 * slope[column] + 0.7 * (rough - 0.5) - 0.5 * depth
    mask = depth > 0
    canvas.paint(box, mask, MATERIAL[material], tone, veil + np.maximum(y - (horizon - 0.08), 0.0)[:, None] * 4.0)
    line = horizon - height * draws.uniform(0.35, 1.0)
    if height > 0.15:
        snow = mask & (y[:, None] + (rough - 0.5) * 0.22 + depth * 0.35 < line)
        canvas.paint(box, snow, MATERIAL["snow"], tone + 0.2, veil)


def _ridge(canvas: Canvas, draws: Draws, height: float, offset: float) -> np.ndarray:
    """(W,) height of a mountain range above the horizon: the highest of a few tents, with jags."""
    aspect, x = canvas.width * canvas.pixel, canvas.x
    crest = np.full_like(x, 0.12 * height)
    for number in range(draws.integer(3, 7)):
        peak, foot = height * (1.0 if number == 0 else draws.uniform(0.35, 0.9)), aspect * draws.uniform(-0.05, 1.05)
        tent = peak - np.abs(x - np.float32(foot)) * np.float32(draws.uniform(0.5, 1.0))
        crest = np.maximum(crest, tent)
    cell, amplitude = 0.16, 0.3 * height
    for octave in range(5):
        if cell < 2 * canvas.pixel:
            break
        line = noise(canvas.table, np.array([3.5 * octave + offset], np.float32), x * (1 / cell))[0]
        crest = crest + np.float32(amplitude) * (line - np.float32(0.7))
        amplitude, cell = amplitude * 0.5, cell * 0.45
    return np.minimum(np.maximum(crest, 0.004), height)


def paint_grass(canvas: Canvas, draws: Draws, horizon: float, vanishing: float) -> None:
    """Hills on the horizon and the meadow in front of them."""
    x = canvas.x
    offset, rise = draws.uniform(0, 64), draws.uniform(0.0, 0.07)
    line = noise(canvas.table, np.array([offset], np.float32), x * 2.1 + np.float32(offset))[0]
    box = canvas.box(horizon - rise, horizon + 0.06, 0, 9)
    y = canvas.y[box[0]]
    texture = fractal(canvas.table, y * 2 + offset, x, (0.08, 0.08), 3, canvas.pixel)
    above = y[:, None] - (horizon - rise * line)
    canvas.paint(box, above > 0, MATERIAL["hill"], texture * 0.9 - 3.0 * above + 0.1, 0.5)
    edge = noise(canvas.table, np.array([offset + 9.5], np.float32), x * 3.3)[0] * 0.03
    box = canvas.box(horizon, 1, 0, 9)
    below = canvas.y[box[0]][:, None] - np.float32(horizon)
    tone, veil = meadow_tone(canvas, horizon, vanishing, box)
    canvas.paint(box, below > edge, MATERIAL["grass"], tone, veil)


def meadow_tone(canvas: Canvas, horizon: float, vanishing: float, box: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Tone of grass in perspective (h, w), and the haze by distance (h, 1)."""
    depth = np.maximum(canvas.y[box[0]] - np.float32(horizon), 0.0)
    tufts = ground_noise(canvas.table, depth, canvas.x - vanishing, 4.0, 3.3)
    blades = fractal(canvas.table, canvas.y[box[0]] + 3, canvas.x, (1 / 40, 1 / 64), 4, canvas.pixel)
    patches = ground_noise(canvas.table, depth, canvas.x - vanishing, 1.1, 31.7)
    swing = (0.5 + depth)[:, None]
    tone = 0.12 + 0.28 * patches + 0.42 * swing * tufts + 0.62 * swing * (blades - 0.3) - 0.12 * depth[:, None]
    haze = np.maximum(1.0 - depth * 4.0, 0.0)[:, None]
    return tone, haze * haze * 0.9


def paint_flowers(canvas: Canvas, draws: Draws, horizon: float, vanishing: float) -> None:
    """Fields of flowers on the grass."""
    box = canvas.box(horizon + 0.05, 1, 0, 9)
    depth = canvas.y[box[0]] - np.float32(horizon)
    offset, threshold = draws.uniform(0, 64), draws.uniform(0.48, 0.58)
    y, x = canvas.y[box[0]], canvas.x
    region = fractal(canvas.table, y + offset, x + offset, (0.26, 0.42), 3, canvas.pixel)
    field = (region > threshold) & (canvas.material[box] == MATERIAL["grass"])
    share = draws.uniform(0.65, 0.95)
    # One head a cell of the ground, its size drawn from the lattice; far cells are less than a pixel and blend.
    across = (1.0 / (depth + np.float32(0.18)))[:, None] * (x - vanishing) * 15.0 + offset
    along = (np.sqrt(depth) * np.float32(34.0))[:, None] + np.float32(0.35) * triangle(across * 0.37)
    column, row = np.floor(across), np.floor(along)
    middle = (across - column - 0.5) ** 2 + (along - row - 0.5) ** 2
    place = (row.astype(np.int32) & (TABLE - 1)) * TABLE + (column.astype(np.int32) & (TABLE - 1))
    lot = np.take(canvas.table, place)
    heads = (lot < share) & (middle < 0.1 + 0.22 * lot)
    kind = ground_noise(canvas.table, depth, x - vanishing, 3.0, 0.7 * offset) + 0.5 * (lot - share * 0.5)
    petals = np.where(kind > 0.5, np.uint8(MATERIAL["petal"]), np.uint8(MATERIAL["petal_2"]))
    tone, veil = meadow_tone(canvas, horizon, vanishing, box)
    canvas.paint(box, field, MATERIAL["leaf"], tone, veil)
    canvas.paint(box, field & heads, petals, 0.72 - 1.6 * middle + 0.25 * lot, veil * 0.8)


def paint_water(canvas: Canvas, draws: Draws, box: tuple, mask: np.ndarray, horizon: float, sun_x: float) -> None:
    """Ripples, narrower towards the horizon, with the light of the sun in a column below it."""
    y, x = canvas.y[box[0]], canvas.x
    depth = np.maximum(y - np.float32(horizon), 0.0)[:, None]
    offset = draws.uniform(0, 64)
    sway = noise(canvas.table, y * 14 + offset, x * 5)
    phase = draws.uniform(15, 20) * np.sqrt(depth + np.float32(0.01)) + 1.6 * sway
    wave = triangle(phase)
    wave = wave * wave * (3.0 - 2.0 * wave)
    broken = fractal(canvas.table, y * 4 + offset, x, (0.14, 0.11), 3, canvas.pixel)
    column = np.maximum(1.0 - np.abs(x - sun_x) * (1 / 0.22), 0.0)
    far = np.maximum(1.0 - depth * 3.0, 0.0)
    tone = 0.20 + 0.30 * wave + 0.30 * (broken - 0.4) + 0.18 * far + column * column * (0.10 + 0.75 * wave * broken)
    canvas.paint(box, mask, MATERIAL["water"], tone, 0.7 * far * far * far)


def paint_lake(canvas: Canvas, draws: Draws, horizon: float, sun_x: float) -> None:
    """A lake with a sandy shore in the middle of the meadow."""
    aspect = canvas.width * canvas.pixel
    centre_y = draws.uniform(horizon + 0.17, 0.82)
    centre_x = aspect * draws.uniform(0.25, 0.75)
    radius_y = min(centre_y - horizon - 0.03, draws.uniform(0.13, 0.22))
    radius_x = draws.uniform(0.38, 0.62)
    box = canvas.box(centre_y - 1.5 * radius_y, centre_y + 1.5 * radius_y, 0, 9)
    y, x = canvas.y[box[0]], canvas.x
    offset = draws.uniform(0, 64)
    level = ((y - centre_y) * (1 / radius_y))[:, None] ** 2 + ((x - centre_x) * (1 / radius_x)) ** 2
    level = level + 0.8 * (fractal(canvas.table, y + offset, x, (0.09, 0.16), 4, canvas.pixel) - 0.5)
    grain = fractal(canvas.table, y * 3, x * 3 + offset, (0.1, 0.1), 4, canvas.pixel)
    shore = level < 1.0 + draws.uniform(0.15, 0.4)
    shore &= y[:, None] > horizon + 0.03
    wet = np.minimum(np.maximum(level - 1.0, 0.0) * 4.0, 0.5)
    canvas.paint(box, shore, MATERIAL["sand"], wet + grain * 0.6 - 0.1)
    paint_water(canvas, draws, box, shore & (level < 1.0), horizon, sun_x)


def paint_sea(canvas: Canvas, draws: Draws, horizon: float, sun_x: float) -> None:
    """The sea from the horizon to a beach with a line of foam."""
    x = canvas.x
    offset, shore = draws.uniform(0, 64), draws.uniform(horizon + 0.14, 0.84)
    bend = noise(canvas.table, np.array([offset], np.float32), x * 1.6)[0] * draws.uniform(0.05, 0.16)
    bend += noise(canvas.table, np.array([offset + 5], np.float32), x * 7)[0] * 0.02
    box = canvas.box(horizon, 1, 0, 9)
    y = canvas.y[box[0]]
    inland = y[:, None] - (bend + np.float32(shore - 0.08))
    depth = y - np.float32(horizon)
    grain = fractal(canvas.table, y + offset, x, (1 / 24, 1 / 24), 5, canvas.pixel)
    dunes = ground_noise(canvas.table, depth, x - 0.5, 1.6, offset)
    dry = np.minimum(np.maximum(inland * 9.0, 0.0), 0.45)
    canvas.paint(box, True, MATERIAL["sand"], dry + 0.35 * dunes + 0.75 * (grain - 0.4))
    paint_water(canvas, draws, box, inland < 0, horizon, sun_x)
    foam = (inland < 0) & (inland > -0.012 - 0.03 * noise(canvas.table, y * 5, x * 9 + offset))
    canvas.paint(box, foam, MATERIAL["foam"], 0.2 + grain)


def paint_road(canvas: Canvas, draws: Draws, horizon: float, vanishing: float, curved: bool) -> None:
    """A road from the vanishing point to the lower edge, with edge lines and a broken middle line."""
    start = horizon + draws.uniform(0.01, 0.04)
    box = canvas.box(start, 1, 0, 9)
    y, x = canvas.y[box[0]], canvas.x
    near = np.maximum((y - start) * (1 / (1 - start)), 0.0)[:, None]  # 0 far to 1 at the lower edge
    aspect = canvas.width * canvas.pixel
    width = draws.uniform(0.15, 0.25) * near + 0.008  # half of it
    end = aspect * draws.uniform(0.2, 0.8)
    centre = vanishing + (end - vanishing) * near
    if curved:
        swing = draws.uniform(0.12, 0.3) * (1 if draws.chance(0.5) else -1)
        turn = triangle(np.sqrt(near) * draws.uniform(0.9, 1.5))
        centre = centre + swing * (turn * turn * (3.0 - 2.0 * turn)) * (0.25 + near)
    across = np.abs(x - centre) / width
    offset = draws.uniform(0, 64)
    grain = fractal(canvas.table, y + offset, x, (1 / 48, 1 / 48), 4, canvas.pixel)
    haze = np.maximum(1.0 - near * 4.0, 0.0)
    canvas.paint(box, across < 1, MATERIAL["road"], 0.35 + 0.6 * (grain - 0.4) - 0.12 * across, haze * 0.7)
    dash = triangle(draws.uniform(4.0, 5.5) * np.sqrt(near) + draws.uniform()) > 0.45
    line = (np.abs(across - 0.9) < 0.055) | ((across < 0.055) & dash)
    canvas.paint(box, line & (near > 0.03), MATERIAL["marking"], 0.4 + 0.6 * grain, haze * 0.7)
