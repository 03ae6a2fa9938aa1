"""Noise from integer hashes: the same bytes on every machine.

Coordinates may have any one shape; `salt` (uint32, broadcastable) names the field. Only float32 + - * / floor sqrt and
uint32 arithmetic are used: each is exact by IEEE 754, so results depend neither on how a batch is cut up nor on the
vector unit. numpy's exp, sin or pow would depend on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U32 = NDArray[np.uint32]
_UNIT = np.float32(2.0**-24)


def mix(h: U32) -> U32:
    """Scramble uint32 by multiplying and xor-shifting: neighbouring inputs give unrelated outputs."""
    h = h ^ (h >> np.uint32(16))
    h *= np.uint32(0x7FEB352D)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0x846CA68B)
    h ^= h >> np.uint32(16)
    return h


def unit(h: U32) -> F32:
    """uint32 -> float32 in [0, 1), exactly (24 bits)."""
    return (h >> np.uint32(8)).astype(np.float32) * _UNIT


def split_units(h: U32) -> tuple[F32, F32]:
    """uint32 -> two float32 in [0, 1) of 16 bits each."""
    step = np.float32(2.0**-16)
    return (h >> np.uint32(16)).astype(np.float32) * step, (h & np.uint32(0xFFFF)).astype(np.float32) * step


def _cells(x: F32) -> tuple[U32, F32]:
    """Lattice index (negative ones wrap) and the fraction in [0, 1)."""
    low = np.floor(x)
    return low.astype(np.int32).view(np.uint32), x - low


def _row(iy: U32, salt: U32) -> U32:
    return (iy * np.uint32(0x9E3779B1)) ^ salt


def cell_hash(x: F32, y: F32, salt: U32) -> U32:
    """One uint32 for each unit cell of the plane."""
    ix, iy = _cells(x)[0], _cells(y)[0]
    return mix(ix * np.uint32(0x85EBCA77) ^ _row(iy, salt))


def value_noise(x: F32, y: F32, salt: U32) -> F32:
    """Smoothly interpolated lattice values in [0, 1]; one cell a unit."""
    ix, fx = _cells(x)
    iy, fy = _cells(y)
    three, two, one = np.float32(3), np.float32(2), np.uint32(1)
    fx = fx * fx * (three - two * fx)
    fy = fy * fy * (three - two * fy)
    x0, x1 = ix * np.uint32(0x85EBCA77), (ix + one) * np.uint32(0x85EBCA77)
    y0, y1 = _row(iy, salt), _row(iy + one, salt)
    top = unit(mix(x0 ^ y0))
    top += (unit(mix(x1 ^ y0)) - top) * fx
    low = unit(mix(x0 ^ y1))
    low += (unit(mix(x1 ^ y1)) - low) * fx
    low -= top
    low *= fy
    low += top
    return low


def fractal_noise(x: F32, y: F32, salt: U32, octaves: int = 4, gain: float = 0.5, ridged: bool = False) -> F32:
    """Octaves of value noise in [0, 1], frequency doubled and amplitude times `gain` each.

    `ridged` folds each octave into creases.
    """
    total = np.zeros(np.broadcast(x, y).shape, np.float32)
    amplitude, weight = np.float32(1), 0.0
    for octave in range(octaves):
        factor = np.float32(2**octave)
        layer = value_noise(x * factor, y * factor, salt + np.uint32(0x632BE5AB * octave & 0xFFFFFFFF))
        if ridged:
            layer = np.float32(1) - np.abs(layer * np.float32(2) - np.float32(1))
        total += layer * amplitude
        weight += float(amplitude)
        amplitude = np.float32(amplitude * np.float32(gain))
    return total * np.float32(1.0 / weight)


def voronoi(x: F32, y: F32, salt: U32) -> tuple[F32, F32, U32]:
    """Distances to the nearest and second nearest of one random point a cell, and the nearest point's hash.

    Points of the 3x3 cells around are looked at, so that in rare places the second distance is too long.
    """
    ix, fx = _cells(x)
    iy, fy = _cells(y)
    first = np.full(fx.shape, 9.0, np.float32)
    second = first.copy()
    owner = np.zeros(fx.shape, np.uint32)
    for dy in (-1, 0, 1):
        row = _row(iy + np.uint32(dy & 0xFFFFFFFF), salt)
        for dx in (-1, 0, 1):
            h = mix((ix + np.uint32(dx & 0xFFFFFFFF)) * np.uint32(0x85EBCA77) ^ row)
            px, py = split_units(h)
            px += np.float32(dx)
            px -= fx
            py += np.float32(dy)
            py -= fy
            d = px * px + py * py
            nearer = d < first
            second = np.minimum(second, np.maximum(first, d))
            first = np.minimum(first, d)
            owner = np.where(nearer, h, owner)
    return np.sqrt(first), np.sqrt(second), owner
