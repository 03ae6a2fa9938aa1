"""The texture world: random arrangements of textured regions and shapes under random lights.

It is what the shipped backbone is pre-trained on, in place of ImageNet, and it knows nothing of the Scenes data set: no
sky, tree or house, no class or mood of it, colours drawn at random. Each pixel carries one of 24 texture classes
(`textures.TEXTURES`), each image one of eight lights (`LIGHTS`).

Every image is a pure function of (seed, split, index): a counter-based generator (Philox) keyed by them gives a fixed
number of uniform draws, and everything after that is exact float32 arithmetic, so the bytes depend neither on the batch
an image is rendered in nor on the machine's vector unit.

Shapes: B images, H height, W width, R = 13 regions an image (8 of the background, 5 shapes on top), P = B*H*W pixels.
Lengths are in units of the shorter side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpsims.data.lattice_noise import F32, fractal_noise, mix, unit, value_noise
from dpsims.data.texture_layout import DRAWS_SHAPE, REGIONS, SHAPES, Draws, background, shapes, wide
from dpsims.data.textures import DIAGONAL, HORIZONTAL, TEXTURES, VERTICAL, edge, smoothstep
from dpsims.errors import InputError

LIGHTS = ("neutral", "warm", "cold", "dim", "bright", "hazy", "directional", "spot")
SPLITS = ("train", "val")
_DRAWS_IMAGE, _DRAWS_REGION = 64, 32  # uniform draws an image, and a region of it
_DRAWS = _DRAWS_IMAGE + REGIONS * _DRAWS_REGION + SHAPES * DRAWS_SHAPE
_CHUNK = 16  # images drawn together: small enough for the cache, without effect on the bytes
_KEY = 0x7E87 << 48  # keeps these streams apart from those of other data sets with the same seed
_f = np.float32

#              red   green blue   of each light; the rest of a light is drawn in `_illuminate`
_GAINS = np.array(
    [
        [1, 1, 1],
        [1.25, 1, 0.62],
        [0.66, 0.94, 1.3],
        [0.4, 0.4, 0.42],
        [1.6, 1.6, 1.55],
        [1, 1, 1],
        [1, 1, 1],
        [1.1, 1.1, 1.1],
    ],
    np.float32,
)


@dataclass(frozen=True)
class TextureBatch:
    """B rendered images with their two targets."""

    images: NDArray[np.uint8]  # (B, H, W, 3) RGB
    textures: NDArray[np.uint8]  # (B, H, W) index into TEXTURES
    lights: NDArray[np.uint8]  # (B,) index into LIGHTS


def _uniforms(indices: Sequence[int], seed: int, split: str) -> F32:
    """(B, _DRAWS) draws in [0, 1), a row a pure function of (seed, split, index)."""
    table = np.empty((len(indices), _DRAWS), np.float32)
    for row, index in enumerate(indices):
        key = np.array([seed, _KEY | SPLITS.index(split) << 40 | int(index)], np.uint64)
        raw = np.random.Philox(key=key).random_raw(_DRAWS // 2)  # raw words: guaranteed stable between numpy versions
        table[row, 0::2] = (raw >> np.uint64(40)).astype(np.float32) * _f(2.0**-24)
        table[row, 1::2] = ((raw >> np.uint64(8)) & np.uint64(0xFFFFFF)).astype(np.float32) * _f(2.0**-24)
    return table


def _turned(cls: NDArray[np.int64], d: Draws) -> tuple[F32, F32]:
    """The direction of each region's u axis, (N,) twice: free, or held near the class's own where it has one."""
    c, s = d.direction()
    steep = d.one() < 0.5
    small, small_s = d.direction(0.1)
    left = np.where(d.one() < 0.5, _f(-1), _f(1))
    root = _f(0.70710678)
    tilted = (root * (small - small_s), root * (small + small_s) * left)
    turns = np.array([(VERTICAL, HORIZONTAL, DIAGONAL).index(t.turn) if t.turn != "any" else 3 for t in TEXTURES])[cls]
    free = np.where(steep, -s, c), np.where(steep, c, s)
    picks = [turns == 0, turns == 1, turns == 2]
    return np.select(picks, [small, -small_s, tilted[0]], free[0]), np.select(
        picks, [small_s, small, tilted[1]], free[1]
    )


def _texture(d: Draws, x: F32, y: F32, owner: NDArray[np.int64]) -> tuple[F32, NDArray[np.uint8]]:
    """Mixing weight t and texture class of every pixel, both (P,). `x, y, owner` are flat; `owner` is the row of the
    region table.
    """
    cls = d.choice(len(TEXTURES))
    c, s = _turned(cls, d)
    low, high = (
        np.array([t.low for t in TEXTURES], np.float32)[cls],
        np.array([t.high for t in TEXTURES], np.float32)[cls],
    )
    reach = d.one()
    rate = low + (high - low) * reach * (_f(0.4) + _f(0.6) * reach)  # more of the coarse ones
    px, py, a, b, salt = d.one(), d.one(), d.one(), d.one(), d.salt()
    free = np.array([t.turn == "any" for t in TEXTURES])[cls]
    slant = np.where(free, np.maximum(d.one(-4.0, 2.2), _f(0)), _f(0))  # a third of them recede in perspective
    down = np.where(d.one() < 0.5, _f(1), _f(0))
    kinds = cls[owner]
    t = np.empty(x.shape, np.float32)
    for k, texture in enumerate(TEXTURES):
        at = np.flatnonzero(kinds == k)
        if not at.size:
            continue
        r = owner[at]
        dx, depth = x[at] - px[r], y[at]
        depth += down[r] * (_f(1) - _f(2) * depth)
        k_r = slant[r]
        near = (_f(1) + k_r) / (_f(1) + k_r * np.maximum(depth, _f(0)))
        dx *= near
        dy = depth * near - py[r]
        cr, sr, f = c[r], s[r], rate[r]
        t[at] = texture.draw((dx * cr + dy * sr) * f, (dy * cr - dx * sr) * f, a[r], b[r], salt[r])
    return t, kinds.astype(np.uint8)


def _palette(d: Draws, of_image: NDArray[np.int64], tint: F32, cohesion: F32) -> tuple[F32, F32, F32, F32]:
    """Three colours (N, 3) of each region in [0, 1] and two amounts (N,): of the third colour, and of relief."""
    first, other, third = d.several(3), d.several(3), d.several(3)
    grey, vivid = d.one(), d.one(0.15, 1.0)
    first = first + (grey[:, None] - first) * (_f(1) - vivid[:, None])
    first = first + (tint[of_image] - first) * cohesion[of_image][:, None]
    second = first + (other - first) * d.one(0.35, 1.0)[:, None]
    contrast = (second[:, 0] + second[:, 1] + second[:, 2]) - (first[:, 0] + first[:, 1] + first[:, 2])
    push = np.maximum(_f(0.6) - np.abs(contrast), _f(0)) * _f(
        1 / 3
    )  # two colours of one brightness would hide the texture
    total = first[:, 0] + first[:, 1] + first[:, 2]
    second = second + np.where(total > _f(1.5), -push, push)[:, None]
    return first, second, third, np.maximum(d.one(-0.6, 0.7), _f(0))


def _illuminate(d: Draws, rgb: list[F32], x: F32, y: F32) -> NDArray[np.int64]:
    """Apply one of the eight lights to the planes `rgb` (each (B, H, W), in place) and return which, (B,)."""
    light = d.choice(len(LIGHTS))
    (c, s), sign, cx, cy = d.direction(), np.where(d.one() < 0.5, _f(-1), _f(1)), d.one(0.2, 0.8), d.one(0.2, 0.8)
    strength, level, fog, tint, salt = (
        d.one(0.8, 1.2),
        d.one(0.9, 1.1),
        d.one(0.75, 0.95),
        d.several(3, -0.06, 0.06),
        d.salt(),
    )
    is_field, is_spot, is_haze = light == 6, light == 7, light == 5
    slope = np.where(is_field, strength * _f(1.15), (strength - _f(1)) * _f(0.6)) * sign
    field = _f(1) + wide(slope) * ((x - _f(0.5)) * wide(c) + (y - _f(0.5)) * wide(s))
    far = (x - wide(cx)) * (x - wide(cx)) + (y - wide(cy)) * (y - wide(cy))
    field *= _f(1) - wide(np.where(is_spot, _f(0.8), _f(0.1))) * smoothstep(far * wide(_f(4) * strength))
    field = np.maximum(field, _f(0.12)) * wide(level)
    veil = value_noise(x * _f(2), y * _f(2), np.broadcast_to(wide(salt), x.shape)) * _f(0.5) + _f(0.5)
    veil *= wide(np.where(is_haze, _f(0.75) * strength, _f(0)))
    veil = np.minimum(veil, _f(0.72))
    lift = wide(np.where(light == 4, _f(0.08), _f(0)))
    for channel, plane in enumerate(rgb):
        gain = _GAINS[light, channel]
        plane *= field * wide(_f(1) + (gain - _f(1)) * strength + tint[:, channel])
        plane += lift
        plane += (wide(fog + tint[:, channel]) - plane) * veil
    return light


def _paint(
    d: Draws, table: F32, t: F32, owner: NDArray[np.int64], shade: F32, x: F32, y: F32
) -> tuple[list[F32], Draws]:
    """Three planes (B, H, W) of surface colour before light; `table` is the region table from its colour columns on."""
    of_image = np.repeat(np.arange(len(shade)), REGIONS)
    tint, cohesion = d.several(3), np.maximum(d.one(-0.5, 0.75), _f(0))
    relief_x, relief_y = d.direction()
    salt, size = np.broadcast_to(wide(d.salt()), x.shape), wide(d.one(1.5, 5.0))
    r = Draws(table)
    first, second, third, amount = _palette(r, of_image, tint, cohesion)
    relief = np.maximum(r.one(-1.0, 1.5), _f(0))
    patches = fractal_noise(x * size, y * size, salt, octaves=2)
    bumps = np.zeros(t.shape, np.float32)  # the texture read as a height, lit along the image's relief direction
    same_x, same_y = owner[:, :, 1:] == owner[:, :, :-1], owner[:, 1:] == owner[:, :-1]
    bumps[:, :, 1:] += np.where(same_x, t[:, :, 1:] - t[:, :, :-1], _f(0)) * wide(relief_x)
    bumps[:, 1:] += np.where(same_y, t[:, 1:] - t[:, :-1], _f(0)) * wide(relief_y)
    shade = shade * (_f(1) + np.clip(bumps * relief[owner], _f(-0.45), _f(0.45))) * (_f(0.85) + _f(0.3) * patches)
    stain = edge(patches, _f(0.55), _f(0.3)) * amount[owner]
    planes = []
    for channel in range(3):
        plane = first[:, channel][owner]
        plane += (second[:, channel][owner] - plane) * t
        plane += (third[:, channel][owner] - plane) * stain
        plane *= shade
        planes.append(plane)
    return planes, d


def _focus(d: Draws, plane: F32, amount: F32) -> F32:
    """A little defocus: a 3-tap blur along each axis, weight `amount` (B,) in [0, 1/3]."""
    w = wide(amount)
    for axis in (1, 2):
        padded = np.concatenate([np.take(plane, [0], axis), plane, np.take(plane, [-1], axis)], axis)
        n = plane.shape[axis]
        before, after = np.take(padded, range(n), axis), np.take(padded, range(2, n + 2), axis)
        plane = plane + (before + after - plane * _f(2)) * w
    return plane


def _render_chunk(indices: Sequence[int], height: int, width: int, seed: int, split: str) -> TextureBatch:
    n, side = len(indices), _f(min(height, width))
    draws = _uniforms(indices, seed, split)
    d = Draws(draws[:, :_DRAWS_IMAGE])
    shape_table = draws[:, _DRAWS_IMAGE : _DRAWS_IMAGE + SHAPES * DRAWS_SHAPE]
    regions = draws[:, _DRAWS_IMAGE + SHAPES * DRAWS_SHAPE :].reshape(n * REGIONS, _DRAWS_REGION)
    ys = (np.arange(height, dtype=np.float32) + _f(0.5)) / side
    xs = (np.arange(width, dtype=np.float32) + _f(0.5)) / side
    x, y = (
        np.ascontiguousarray(np.broadcast_to(g, (n, height, width))) for g in (xs[None, None, :], ys[None, :, None])
    )

    bend, rate, salt = (
        np.maximum(d.one(-0.3, 0.45), _f(0)),
        wide(d.one(1.5, 6.0)),
        d.salt(),
    )  # bent borders in three of five
    salts = [np.broadcast_to(wide(mix(salt + np.uint32(k))), x.shape) for k in range(2)]
    warp_x, warp_y = (
        g + wide(bend) * (fractal_noise(x * rate, y * rate, key, octaves=2) - _f(0.5))
        for g, key in zip((x, y), salts, strict=True)
    )
    region = background(d, warp_x, warp_y)
    shade = shapes(d, shape_table, warp_x, warp_y, region)
    owner = region + wide(np.arange(n, dtype=np.int64)) * REGIONS
    t, kinds = _texture(Draws(regions[:, :16]), x.ravel(), y.ravel(), owner.ravel())
    planes, d = _paint(d, regions[:, 16:], t.reshape(x.shape), owner, shade, x, y)
    lights = _illuminate(d, planes, x, y)

    soft, rough = np.maximum(d.one(-0.1, 0.25), _f(0)), wide(d.one(0.0, 0.05))
    pixel = (np.arange(height * width, dtype=np.uint32).reshape(1, height, width)) ^ wide(d.salt())
    images = np.empty((n, height, width, 3), np.uint8)
    for channel, plane in enumerate(planes):
        plane = _focus(d, plane, soft) + (unit(mix(pixel + np.uint32(channel << 24))) - _f(0.5)) * rough
        images[..., channel] = (np.clip(plane, _f(0), _f(1)) * _f(255) + _f(0.5)).astype(np.uint8)
    return TextureBatch(images, kinds.reshape(x.shape), lights.astype(np.uint8))


def render(indices: Sequence[int], size: int | tuple[int, int], *, seed: int = 0, split: str = "train") -> TextureBatch:
    """Render images of the texture world.

    `indices`: which images, each in [0, 2^40). `size`: pixels, one number for a square or (H, W), each from 8 to 1024.
    `split`: "train" or "val", which never share an image. The result does not depend on how `indices` are cut into
    calls. Raises `InputError` for values outside these ranges.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if not (8 <= height <= 1024 and 8 <= width <= 1024):
        raise InputError(f"texture world: size {height}x{width} is outside 8..1024 pixels; choose another size")
    if split not in SPLITS:
        raise InputError(f"texture world: unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    if not 0 <= seed < 2**63 or any(not 0 <= int(i) < 2**40 for i in indices):
        raise InputError(
            f"texture world: seed {seed} or an index is negative or too large; use 0..2^63-1 and 0..2^40-1"
        )
    parts = [_render_chunk(indices[i : i + _CHUNK], height, width, seed, split) for i in range(0, len(indices), _CHUNK)]
    if not parts:
        return TextureBatch(
            np.empty((0, height, width, 3), np.uint8), np.empty((0, height, width), np.uint8), np.empty(0, np.uint8)
        )
    images, textures, lights = (
        np.concatenate([getattr(p, name) for p in parts]) for name in ("images", "textures", "lights")
    )
    return TextureBatch(images, textures, lights)
