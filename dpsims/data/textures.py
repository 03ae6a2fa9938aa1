"""The 24 texture classes of the texture world, each a function of texture coordinates.

Every function takes flat arrays of the pixels that show it: `u, v` texture coordinates (one cell a unit), `a, b` two
shape parameters in [0, 1) (constant in a region), `salt` a hash key; it returns the mixing weight t in [0, 1] between
the region's two colours. Exact arithmetic only (see `lattice_noise`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dpsims.data.lattice_noise import F32, U32, cell_hash, fractal_noise, mix, split_units, unit, value_noise, voronoi

ANY, VERTICAL, HORIZONTAL, DIAGONAL = "any", "vertical", "horizontal", "diagonal"
_f = np.float32


def triangle(x: F32) -> F32:
    """Triangle wave of period 1 in [0, 1]: 1 at integers, 0 half way. The exact stand-in for a cosine."""
    return np.abs(x - np.floor(x) - _f(0.5)) * _f(2)


def smoothstep(x: F32) -> F32:
    """3x^2 - 2x^3 on [0, 1], clamped outside."""
    x = np.minimum(np.maximum(x, _f(0)), _f(1))
    return x * x * (_f(3) - _f(2) * x)


def edge(x: F32, at: F32 | np.float32, width: F32 | np.float32) -> F32:
    """A soft step from 0 to 1 centred `at`, `width` wide."""
    return smoothstep((x - at) / width + _f(0.5))


def flat(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """One tone."""
    return a * _f(0.999)


def gradient(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """A slow ramp, there and back."""
    return triangle(u)


def stripes(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Lines across u; a: share of the line, b: softness."""
    return edge(triangle(u), _f(0.35) + _f(0.3) * a, _f(0.25) + _f(0.7) * b)


def checks(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """A chessboard."""
    product = (triangle(u) - _f(0.5)) * (triangle(v) - _f(0.5))
    return edge(product, _f(0), _f(0.08) + _f(0.1) * b)


def _staggered(u: F32, v: F32, a: F32) -> tuple[F32, F32, F32, F32]:
    """Cell fractions and indices, every second row shifted by half a cell where a > 0.5."""
    row = np.floor(v)
    odd = row - _f(2) * np.floor(row * _f(0.5))
    u = u + np.where(a > _f(0.5), odd * _f(0.5), _f(0))
    column = np.floor(u)
    return u - column, v - row, column, row


def dots(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Discs on a lattice, staggered where a > 0.5."""
    fu, fv, _, _ = _staggered(u, v, a)
    fu, fv = fu - _f(0.5), fv - _f(0.5)
    return _f(1) - edge(np.sqrt(fu * fu + fv * fv), _f(0.22) + _f(0.16) * b, _f(0.14))


def rings(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Circles around the region's origin."""
    return edge(triangle(np.sqrt(u * u + v * v)), _f(0.35) + _f(0.3) * a, _f(0.25) + _f(0.7) * b)


def mottle(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """One octave of noise: soft spots of one size."""
    return edge(value_noise(u, v, salt), _f(0.35) + _f(0.3) * a, _f(0.5) + _f(0.5) * b)


def fractal(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Four octaves of noise."""
    return edge(fractal_noise(u, v, salt, octaves=4, gain=0.6), _f(0.5), _f(0.45) + _f(0.3) * b)


def ridged(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Noise folded into creases."""
    return edge(fractal_noise(u, v, salt, octaves=3, ridged=True), _f(0.72), _f(0.35) + _f(0.2) * b)


def marble(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Lines bent far by noise."""
    return smoothstep(triangle(u + fractal_noise(u * _f(0.7), v * _f(0.7), salt, octaves=3) * (_f(1.5) + _f(2) * a)))


def bricks(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """A staggered wall with joints, each brick of its own tone."""
    fu, fv, column, row = _staggered(u * _f(0.5), v, np.full_like(a, 1))
    joint = np.minimum(np.minimum(fu, _f(1) - fu) * _f(2), np.minimum(fv, _f(1) - fv))
    tone = unit(cell_hash(column, row, salt)) * (_f(0.1) + _f(0.4) * b)
    return np.maximum(edge(joint, _f(0.1) + _f(0.06) * a, _f(0.08)) - tone, _f(0))


def waves(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Smooth lines that sway."""
    sway = smoothstep(triangle(u * _f(0.35))) * (_f(0.8) + _f(0.9) * a)
    return smoothstep(triangle(v + sway))


def zigzag(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Sharp lines that turn at corners."""
    return edge(triangle(v + triangle(u * _f(0.6)) * (_f(0.6) + _f(0.6) * a)), _f(0.4) + _f(0.2) * b, _f(0.3))


def speckle(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """At most one spot a cell, wholly inside it, at a random place and of a random size."""
    h = cell_hash(u, v, salt)
    px, py = split_units(h)
    radius = _f(0.12) + _f(0.2) * unit(mix(h))
    du = u - np.floor(u) - radius - px * (_f(1) - _f(2) * radius)
    dv = v - np.floor(v) - radius - py * (_f(1) - _f(2) * radius)
    spot = _f(1) - edge(np.sqrt(du * du + dv * dv), radius, _f(0.12))
    return np.where(unit(mix(h ^ np.uint32(0x5BD1E995))) < _f(0.45) + _f(0.4) * a, spot, _f(0))


def grain(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """One tone a cell, without interpolation: pixel noise when fine, blocks when coarse."""
    return unit(cell_hash(u, v, salt))


def cracks(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Dark borders between Voronoi cells."""
    near, far, _ = voronoi(u, v, salt)
    return edge(far - near, _f(0.08) + _f(0.08) * a, _f(0.1))


def cells(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Voronoi cells, each of one tone."""
    return unit(mix(voronoi(u, v, salt)[2]))


def bubbles(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Distance to the nearest of scattered points."""
    near = voronoi(u, v, salt)[0]
    return edge(near, _f(0.45), _f(0.5) + _f(0.4) * b)


def plaid(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Two sets of lines crossing, with three tones."""
    return edge(triangle(u), _f(0.55), _f(0.3)) * (_f(0.3) + _f(0.4) * a) + edge(triangle(v), _f(0.5), _f(0.3)) * (
        _f(0.7) - _f(0.4) * a
    )


def fibres(u: F32, v: F32, a: F32, b: F32, salt: U32) -> F32:
    """Noise drawn out along v, slightly bent."""
    bent = u + triangle(v * _f(0.03)) * (_f(4) * b)
    return edge(fractal_noise(bent, v * (_f(0.08) + _f(0.1) * a), salt, octaves=2), _f(0.5), _f(0.55))


@dataclass(frozen=True)
class Texture:
    """One class: its function, its range of cells an image side, and which way its u axis points."""

    name: str
    draw: Callable[[F32, F32, F32, F32, U32], F32]
    low: float  # cells an image side
    high: float  # cells an image side; at 64 px, 20 cells are 3 pixels each
    turn: str = ANY  # direction of u: any, vertical (lines upright), horizontal, diagonal


TEXTURES: tuple[Texture, ...] = (
    Texture("flat", flat, 1, 2),
    Texture("gradient", gradient, 0.3, 0.9),
    Texture("stripes_upright", stripes, 7, 18, VERTICAL),
    Texture("stripes_level", stripes, 7, 18, HORIZONTAL),
    Texture("stripes_diagonal", stripes, 7, 18, DIAGONAL),
    Texture("stripes_broad", stripes, 2.5, 5),
    Texture("checks", checks, 3, 10),
    Texture("dots", dots, 5, 14),
    Texture("rings", rings, 4, 13),
    Texture("mottle", mottle, 7, 18),
    Texture("fractal", fractal, 2.5, 7),
    Texture("ridged", ridged, 2.5, 7),
    Texture("marble", marble, 2, 6),
    Texture("bricks", bricks, 5, 13),
    Texture("waves", waves, 5, 12),
    Texture("zigzag", zigzag, 5, 12),
    Texture("speckle", speckle, 7, 16),
    Texture("grain", grain, 32, 64),
    Texture("blocks", grain, 5, 14),
    Texture("cracks", cracks, 4, 10),
    Texture("cells", cells, 4, 12),
    Texture("bubbles", bubbles, 4, 11),
    Texture("plaid", plaid, 4, 11),
    Texture("fibres", fibres, 14, 28),
)
TEXTURE_NAMES: tuple[str, ...] = tuple(texture.name for texture in TEXTURES)
