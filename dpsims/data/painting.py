"""Brushes of the procedural scenes: random draws, lattice noise and a canvas of materials.

A scene is painted in two steps. Every pixel gets a *material* (grass, trunk, lit window, ...), a *tone* (0 dark
to 127 light along the colour ramp of its material) and a *veil* (0 to 255, how much haze or glow lies over it). Then
the colours are looked up (`scenes`). Materials decide the label map, colours only depend on the mood, so that one
layout can be shown in any mood with the same labels.

The same bytes on every machine: only + - * / floor, comparisons and square roots touch an array before it is rounded
to an integer. IEEE 754 rounds these exactly, whatever the vector instructions; exp, sin or a float sum would not be.

Letters: H, W height and width of the canvas in pixels (twice the image), h, w those of a part of it. Lengths are in
units of the image height: y runs from 0 (top) to 1, x from 0 to W / H.
"""

import numpy as np

TONES = 128  # levels of a colour ramp
TABLE = 64  # side of the wrapping lattice that all noise of one image is read from
SCALARS = 1024  # 64-bit words kept for scalar draws, far more than a scene uses


class Draws:
    """Uniform draws of one image, a pure function of its key.

    They are cut from the raw words of Philox, whose stream NumPy promises to keep; the distributions on top of it
    carry no such promise.

    Args:
        key: two unsigned 64-bit words, as `numpy.random.Philox(key=...)` takes them.
    """

    def __init__(self, key: tuple[int, int]) -> None:
        words = np.random.Philox(key=np.array(key, dtype=np.uint64)).random_raw(SCALARS + TABLE * TABLE // 4)
        self._scalars = ((words[:SCALARS] >> np.uint64(11)).astype(np.float64) * 2.0**-53).tolist()
        shorts = words[SCALARS:].astype("<u8").view("<u2").astype(np.float32)
        self.table = (shorts * np.float32(2.0**-16)).reshape(TABLE, TABLE)  # [0, 1)
        self._next = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number in [low, high)."""
        self._next += 1
        return low + (high - low) * self._scalars[self._next - 1]

    def integer(self, low: int, high: int) -> int:
        """One integer in [low, high), the upper bound excluded."""
        return low + int((high - low) * self.uniform())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability


def _lattice_axis(position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the two lattice points around each position, and the smooth weight of the second."""
    floor = np.floor(position)
    part = position - floor
    low = floor.astype(np.int32) & (TABLE - 1)
    return low, (low + 1) & (TABLE - 1), part * part * (3.0 - 2.0 * part)


def noise(table: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Smooth value noise in [0, 1) on the grid of two coordinate vectors, lattice points at the integers.

    Args:
        table: (TABLE, TABLE) float32 in [0, 1), wrapped around.
        y: (h,) float32, in lattice cells.
        x: (w,) float32, in lattice cells.

    Returns:
        (h, w) float32.
    """
    top, bottom, weight = _lattice_axis(y)
    rows = table[top]
    rows += (table[bottom] - rows) * weight[:, None]  # (h, TABLE)
    left, right, weight = _lattice_axis(x)
    steps = rows[:, right] - rows[:, left] if len(x) < TABLE else np.take(np.roll(rows, -1, 1) - rows, left, axis=1)
    steps *= weight
    steps += np.take(rows, left, axis=1)
    return steps


def fractal(
    table: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    cell: tuple[float, float],
    octaves: int,
    pixel: float,
    roughness: float = 0.5,
) -> np.ndarray:
    """Octaves of `noise`, each half as wide as the one before, in [0, 1) with mean 1/2.

    Args:
        y, x: (h,) and (w,) float32 coordinates in image heights.
        cell: height and width of the widest lattice cell, in image heights.
        octaves: how many at most; those with cells under 1.5 canvas pixels are left out.
        pixel: size of a canvas pixel, in image heights.
        roughness: strength of each octave over that of the one before.

    Returns:
        (h, w) float32.
    """
    total, norm, amplitude = None, 0.0, 1.0
    for octave in range(octaves):
        scale = 0.5**octave
        if octave and min(cell) * scale < 1.5 * pixel:
            break
        layer = noise(table, y * (1 / (cell[0] * scale)) + 7.3 * octave, x * (1 / (cell[1] * scale)) + 19.7 * octave)
        if total is None:
            total = layer
        else:
            layer *= amplitude
            total += layer
        norm += amplitude
        amplitude *= roughness
    total *= 1 / norm
    return total


def ground_noise(
    table: np.ndarray, depth: np.ndarray, x: np.ndarray, frequency: float, offset: float, flatness: float = 1.5
) -> np.ndarray:
    """Value noise lying on the ground: cells get smaller towards the horizon.

    Width goes by the distance 1 / (depth + 0.18), height by the root of the depth, so that cells keep their shape;
    in true perspective far ones would be thin stripes.

    Args:
        depth: (h,) float32, heights below the horizon (0 where above).
        x: (w,) float32, from the vanishing point.
        frequency: cells per image height at distance 1.
        offset: in cells, to tell noises apart.
        flatness: width of a cell over its height, about.

    Returns:
        (h, w) float32 in [0, 1).
    """
    depth = np.maximum(depth, 0.0)
    top, bottom, weight = _lattice_axis(np.sqrt(depth) * np.float32(2.3 * flatness * frequency) + np.float32(offset))
    rows = table[top]
    rows += (table[bottom] - rows) * weight[:, None]  # (h, TABLE)
    distance = np.float32(frequency) / (depth + np.float32(0.18))
    left, _, weight = _lattice_axis(distance[:, None] * x + np.float32(offset))  # (h, w)
    left += (np.arange(len(depth), dtype=np.int32) * TABLE)[:, None]
    steps = np.take(np.roll(rows, -1, 1) - rows, left)
    steps *= weight
    steps += np.take(rows, left)
    return steps


def triangle(phase: np.ndarray) -> np.ndarray:
    """Triangle wave of period 1 between 0 and 1, 0 at the integers."""
    return 1.0 - np.abs(2.0 * (phase - np.floor(phase)) - 1.0)


class Canvas:
    """The materials, tones and veils of one scene.

    Args:
        height, width: in canvas pixels.
        table: lattice of this image, see `Draws`.
    """

    def __init__(self, height: int, width: int, table: np.ndarray) -> None:
        self.height, self.width, self.table = height, width, table
        self.pixel = 1 / height
        self.y = (np.arange(height, dtype=np.float32) + np.float32(0.5)) * np.float32(self.pixel)
        self.x = (np.arange(width, dtype=np.float32) + np.float32(0.5)) * np.float32(self.pixel)
        self.material = np.zeros((height, width), np.uint8)
        self.tone = np.zeros((height, width), np.uint8)
        self.veil = np.zeros((height, width), np.uint8)

    def box(self, top: float, bottom: float, left: float, right: float) -> tuple[slice, slice] | None:
        """Slices of the canvas that hold a rectangle in image heights; None when it lies outside."""
        rows = max(0, int(top * self.height)), min(self.height, int(bottom * self.height) + 1)
        columns = max(0, int(left * self.height)), min(self.width, int(right * self.height) + 1)
        if bottom < 0 or right < 0 or rows[0] >= rows[1] or columns[0] >= columns[1]:
            return None
        return slice(*rows), slice(*columns)

    def paint(
        self,
        box: tuple[slice, slice],
        mask: np.ndarray | bool,
        material: np.ndarray | int,
        tone: np.ndarray | float,
        veil: np.ndarray | float = 0.0,
    ) -> None:
        """Cover the pixels of `box` where `mask` holds.

        Args:
            box: rows and columns.
            mask: (h, w) bool, or True.
            material: one, or (h, w) uint8.
            tone: [0, 1] (clipped), broadcast to (h, w).
            veil: [0, 1] (clipped), broadcast to (h, w).
        """
        np.copyto(self.material[box], material, where=mask, casting="unsafe")
        np.copyto(self.tone[box], quantise(tone, TONES - 1), where=mask)
        np.copyto(self.veil[box], quantise(veil, 255), where=mask)


def quantise(value: np.ndarray | float, top: int) -> np.ndarray | np.uint8:
    """Clip to [0, 1] and round to the integers 0..top."""
    if not isinstance(value, np.ndarray):
        return np.uint8(int(min(max(value, 0.0), 1.0) * top + 0.5))
    scaled = value * np.float32(top)
    scaled += np.float32(0.5)
    np.maximum(scaled, 0.0, out=scaled)
    np.minimum(scaled, np.float32(top), out=scaled)
    return scaled.astype(np.uint8)
