"""Where the regions of a texture-world image lie: its background and the shapes on top.

B images, H height, W width, N rows of a table of draws. Lengths are in units of the shorter side of the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpsims.data.lattice_noise import F32, U32, fractal_noise, mix, voronoi
from dpsims.data.textures import smoothstep

BACKGROUNDS, SHAPES = 8, 5
REGIONS = BACKGROUNDS + SHAPES
DRAWS_SHAPE = 12  # uniform draws a shape
_f = np.float32


class Draws:
    """Hands out the columns of a table (N, n) of uniform draws in [0, 1), one name after the other."""

    def __init__(self, table: F32) -> None:
        self._table, self._next = table, 0

    def one(self, low: float = 0.0, high: float = 1.0) -> F32:
        """(N,) uniform in [low, high)."""
        column = self._table[:, self._next]
        self._next += 1
        return _f(low) + _f(high - low) * column

    def several(self, n: int, low: float = 0.0, high: float = 1.0) -> F32:
        """(N, n) uniform in [low, high)."""
        columns = self._table[:, self._next : self._next + n]
        self._next += n
        return _f(low) + _f(high - low) * columns

    def choice(self, n: int) -> NDArray[np.int64]:
        """(N,) uniform in 0..n-1."""
        return (self.one() * _f(n)).astype(np.int64)

    def salt(self) -> U32:
        """(N,) hash keys."""
        return mix((self.one() * _f(2**24)).astype(np.uint32))

    def direction(self, reach: float = 1.0) -> tuple[F32, F32]:
        """Two (N,), a unit vector off the x axis by at most 2 * arctan(reach): the rational points of the circle."""
        q = self.one(-reach, reach)
        return (_f(1) - q * q) / (_f(1) + q * q), _f(2) * q / (_f(1) + q * q)


def wide(column: NDArray) -> NDArray:
    """(B,) -> (B, 1, 1)."""
    return column[:, None, None]


def background(d: Draws, x: F32, y: F32) -> NDArray[np.int64]:
    """Regions 0..7 of each image, (B, H, W): one surface, crossing half-planes, bands, or Voronoi cells."""
    kind, salt, count = d.choice(4), d.salt(), d.one(2.0, 4.0)
    (c, s), (c2, s2), scale = d.direction(), d.direction(), d.one(1.2, 2.6)
    at, at2, px, py = d.one(0.25, 0.75), d.one(0.25, 0.75), d.one(), d.one()
    upright = np.where(d.one() < 0.5, _f(1), _f(0))  # a quarter turn, as a direction covers only half of the circle
    c, s = c + upright * (-s - c), s + upright * (c - s)
    region = np.zeros(x.shape, np.int64)
    for k in range(1, 4):
        m = np.flatnonzero(kind == k)
        xm, ym = x[m] - _f(0.5), y[m] - _f(0.5)
        along = xm * wide(c[m]) + ym * wide(s[m])
        if k == 1:  # two lines: up to four regions
            across = xm * wide(c2[m]) + ym * wide(s2[m])
            region[m] = (along > wide(at[m] - _f(0.5))) * 1 + (across > wide(at2[m] - _f(0.5))) * 2
        elif k == 2:  # bands, up to six
            region[m] = np.clip(np.floor((along + _f(0.6)) * wide(count[m]) + wide(at[m])), 0, 5).astype(np.int64)
        else:
            size = wide(scale[m])
            owner = voronoi(
                xm * size + wide(px[m]) * _f(9),
                ym * size + wide(py[m]) * _f(9),
                np.broadcast_to(wide(salt[m]), xm.shape),
            )[2]
            region[m] = (mix(owner) >> np.uint32(29)).astype(np.int64)
    return region


def _shape_norm(kind: int, x: F32, y: F32, salt: U32) -> F32:
    """A distance that is 1 on the border of a shape and below 1 inside.

    Kinds: 0 disc or ellipse, 1 box, 2 triangle, 3 hexagon, 4 ring, 5 bar, 6 blob.
    """
    ax, ay = np.abs(x), np.abs(y)
    if kind == 1:
        return np.maximum(ax, ay) * _f(1.15)
    if kind == 2:
        return np.maximum(-y, ax * _f(0.866) + y * _f(0.5)) * _f(1.5)
    if kind == 3:
        return np.maximum(ax, ax * _f(0.5) + ay * _f(0.866)) * _f(1.1)
    if kind == 5:
        return np.maximum(ax * _f(0.35), ay * _f(3.5))
    radius = np.sqrt(x * x + y * y)
    if kind == 4:
        return np.abs(radius - _f(0.8)) * _f(4)
    if kind == 6:
        return radius * (_f(0.55) + fractal_noise(x * _f(1.3), y * _f(1.3), np.broadcast_to(salt, x.shape), octaves=2))
    return radius


def shapes(d: Draws, table: F32, x: F32, y: F32, region: NDArray[np.int64]) -> F32:
    """Draw up to five shapes over `region`, in place.

    Returns the shading (B, H, W) of their bodies and of the ground beside them.
    """
    shade = np.ones(x.shape, np.float32)
    crowd, light_x, light_y = d.one(0.25, 0.95), *d.direction()
    for slot in range(SHAPES):
        s = Draws(table[:, slot * DRAWS_SHAPE : (slot + 1) * DRAWS_SHAPE])
        shown, kind, cx, cy, salt = s.one() < crowd, s.choice(7), s.one(), s.one(), s.salt()
        size = s.one()
        radius, aspect, (c, sn) = _f(0.1) + _f(0.32) * size * size, s.one(0.45, 1.0), s.direction()
        aspect = np.where(aspect > _f(0.75), _f(1), aspect)  # half of them round
        bulge, contact = np.maximum(s.one(-0.8, 0.8), _f(0)), np.maximum(s.one(-0.5, 0.5), _f(0))
        for k in range(7):
            m = np.flatnonzero(shown & (kind == k))
            if not m.size:
                continue
            dx, dy = x[m] - wide(cx[m]), y[m] - wide(cy[m])
            lx = (dx * wide(c[m]) + dy * wide(sn[m])) / wide(radius[m])
            ly = (dy * wide(c[m]) - dx * wide(sn[m])) / wide(radius[m] * aspect[m])
            norm = _shape_norm(k, lx, ly, wide(salt[m]))
            inside = norm < _f(1)
            region[m] = np.where(inside, BACKGROUNDS + slot, region[m])
            height = np.sqrt(np.maximum(_f(1) - norm * norm, _f(0)))
            lit = (dx * wide(light_x[m]) + dy * wide(light_y[m])) / wide(radius[m]) * _f(0.5) + height * _f(0.75)
            body = _f(1) + wide(bulge[m]) * (lit * _f(1.3) - _f(0.75))
            ground = shade[m] * (_f(1) - wide(contact[m]) * smoothstep((_f(1.5) - norm) * _f(2)))
            shade[m] = np.where(inside, body, ground)
    return shade
