"""Colours of the procedural scenes: what each material looks like in each of the six moods.

A material has a ramp of three colours, dark, middle and light. Sky, cloud, water and the lights have a ramp for each
mood. All other materials have one for each season, and the mood lights it: multiplied, lifted, and drawn towards
grey.
"""

from functools import cache

import numpy as np

from dpsims.data.painting import TONES, Draws

MOODS = ("day", "sunset", "night", "overcast", "autumn", "winter")
CLASSES = (
    "sky", "cloud", "sun", "mountain", "grass", "tree", "water", "sand", "road", "building", "window", "flower",
)  # fmt: skip

# material: class. Several materials share a class: the label map does not tell them apart.
_CLASS_OF = {
    "sky": "sky", "star": "sky", "cloud": "cloud", "sun": "sun", "far_rock": "mountain", "rock": "mountain",
    "snow": "mountain", "grass": "grass", "hill": "grass", "round_tree": "tree", "round_tree_2": "tree",
    "conifer": "tree", "trunk": "tree", "water": "water", "foam": "water", "sand": "sand", "road": "road",
    "marking": "road", "wall": "building", "wall_2": "building", "wall_3": "building", "roof": "building",
    "pane": "window", "lamp": "window", "petal": "flower", "petal_2": "flower", "leaf": "flower",
}  # fmt: skip
MATERIAL = {name: number for number, name in enumerate(_CLASS_OF)}
LABEL_OF = np.array([1 + CLASSES.index(name) for name in _CLASS_OF.values()], dtype=np.uint8)  # material -> class id

_AIR = {  # one ramp for each mood: day, sunset, night, overcast, autumn, winter
    "sky": ("1e56c8 5c9cf0 c4e2fc", "3a2470 c4545c ffb04c", "0c1034 1c2560 46528e",
            "7a828e 9ca2aa bcbec0", "4c7cbc a6bece f6deae", "84aedc b0d0ee e6f0fa"),
    "star": ("1e56c8 5c9cf0 c4e2fc", "3a2470 c4545c ffb04c", "fffff4 e6eaff aab4e0",
             "7a828e 9ca2aa bcbec0", "4c7cbc a6bece f6deae", "84aedc b0d0ee e6f0fa"),
    "cloud": ("8a9fba dce6f2 ffffff", "582c5c dc6850 ffcc88", "1c2248 3c4476 7c84b4",
              "4a4e58 787c86 a8aab0", "b08c6c e8cca2 fff6da", "a6b6cc d6e0ec fcfeff"),
    "sun": ("ffd83c fff08c fffce0", "ff7c28 ffb848 ffea9c", "868ca8 ced2dc fffff0",
            "c0c2c0 dadad6 f0f0ea", "ffb43c ffd878 fff2c0", "f0e4b4 fff8dc fffffa"),
    "water": ("103c86 2c70c0 c4e6fc", "3a2048 a2504c ffcc7c", "0a1238 1c2c62 a4b2de",
              "3c4a52 6a7a82 aab4b8", "2a4a62 6290a0 f2e2b8", "4a80a8 8ab6d2 f0faff"),
    "foam": ("8cc0dc d8f0f8 ffffff", "b86858 f6ae80 ffe4b0", "4a5a90 8896c4 c8d0ee",
             "7c888c a8b2b4 ccd2d2", "a8b4b0 e2dcc4 fff8e0", "a8cade daecf6 ffffff"),
    "pane": ("1c3450 4c7cac c8e4f8", "2c1c34 8c4850 f0a06c", "10163a 1c2450 38426e",
             "343c48 5a646e 98a0a8", "2c3c4c 6c8898 e8dcb8", "3c5878 86acc8 eaf6ff"),
    "lamp": ("2c4c6c 6c9cc4 d8eefc", "c87828 ffb648 ffe090", "d88c2c ffc858 fff0a4",
             "98865c d0b878 ecdca4", "4c5048 a09c7c f0e4bc", "86764c e4cc88 fff2c4"),
}  # fmt: skip
_LAND = {  # one ramp for each season: summer, autumn, winter
    "far_rock": ("5a6480 8490a8 b4bcc8", "6a5e64 9c8c84 ccb8a0", "7e8eac a8b6ce d8e2f0"),
    "rock": ("34302e 766c66 b8aca0", "3c2c20 8a6a4c d8b084", "4c5872 8694b0 dce8f6"),
    "snow": ("8c98b4 dce4f0 ffffff", "a08c74 e2ceac fff2d8", "98aacc dce8f6 ffffff"),
    "grass": ("1a4a12 3f8a26 98c850", "5e440e a47a24 dcb04c", "98a0c4 ccd2e8 f8faff"),
    "hill": ("2c5c34 4c8c48 8cba70", "6c5424 a08440 d0b068", "a4b0cc ccd6e6 f0f6fc"),
    "round_tree": ("0c2c0e 256a1e 74b43c", "6a2008 d06014 ffa838", "38424c a8b4c8 ffffff"),
    "round_tree_2": ("142e08 46761a a8c044", "701408 b83c14 f08440", "303a40 94a6b8 f8fcff"),
    "conifer": ("061e14 124630 3e845c", "221c08 58501c a08c3c", "0e2826 466c70 f4faff"),
    "trunk": ("20120a 4c3018 7c5430", "1e120a 4a2c16 80522c", "1c1614 40342e 746862"),
    "sand": ("a47c48 dcb880 f8e4b8", "946830 d0a060 f4d498", "a49c98 d0ccc8 f0f0f0"),
    "road": ("2c2c30 4c4c52 76767e", "302a26 54483e 80705e", "44484f 6c727c 9aa2ae"),
    "marking": ("c0bca4 e8e4d0 fffff4", "c0aa84 e8d4a8 fff4d4", "b4bccc dce4ee fcffff"),
    "roof": ("4c1c14 843428 b45c48", "542414 8c4428 bc704c", "9ca8bc d8e2ee fafcff"),
    "leaf": ("143c10 327422 6ca83c", "503c0c 8c6c20 c09840", "8c98b4 bcc8dc ecf2fa"),
}  # fmt: skip
_WALLS = ("b85c40", "8c929c", "d0b894", "7488a4", "e0dcd0", "9c7060", "c89c58", "a8a4a0")
_PETALS = ("ffd818", "f02828", "a840e8", "ff74bc", "fafaf0", "ff8c1c", "5868f8")

_SEASON = {"day": 0, "sunset": 0, "night": 0, "overcast": 0, "autumn": 1, "winter": 2}
_LIGHT = {  # multiply (red, green, blue), add (0..255), saturation
    "day": ((1.0, 1.0, 0.98), (4.0, 6.0, 10.0), 1.05),
    "sunset": ((0.88, 0.58, 0.46), (28.0, 6.0, 14.0), 0.95),
    "night": ((0.28, 0.36, 0.54), (10.0, 14.0, 34.0), 0.85),
    "overcast": ((0.66, 0.68, 0.70), (14.0, 16.0, 20.0), 0.5),
    "autumn": ((1.06, 0.98, 0.80), (8.0, 2.0, 0.0), 1.0),
    "winter": ((0.97, 1.0, 1.05), (10.0, 12.0, 16.0), 0.85),
}
_HAZE = {  # colour over land, most of it that can lie there
    "day": ("b4d4f4", 0.42), "sunset": ("e88454", 0.50), "night": ("2c3872", 0.55),
    "overcast": ("a4a8ae", 0.80), "autumn": ("f0d4a0", 0.48), "winter": ("e4eef8", 0.62),
}  # fmt: skip
_GLOW = {  # the same around the sun or moon, over sky and clouds
    "day": ("fff8dc", 0.70), "sunset": ("ffd070", 0.85), "night": ("8c9cd8", 0.55),
    "overcast": ("dcdcd8", 0.40), "autumn": ("ffeeb0", 0.85), "winter": ("fffdf0", 0.75),
}  # fmt: skip


def _colour(code: str) -> list[float]:
    return [float(int(code[i : i + 2], 16)) for i in (0, 2, 4)]


def _ramp(codes: str) -> np.ndarray:
    return np.array([_colour(code) for code in codes.split()], dtype=np.float32)


def _around(code: str) -> np.ndarray:
    """The ramp of a plain colour: darker, itself, lighter."""
    middle = np.array(_colour(code), dtype=np.float32)
    return np.stack((middle * np.float32(0.52), middle, middle * np.float32(0.55) + np.float32(115.0)))


def _lit(ramps: np.ndarray, mood: str) -> np.ndarray:
    """Ramps (..., 3 colours, RGB) in the light of a mood."""
    multiply, add, saturation = _LIGHT[mood]
    grey = ramps[..., :1] * 0.3 + ramps[..., 1:2] * 0.59 + ramps[..., 2:] * 0.11
    ramps = grey + (ramps - grey) * np.float32(saturation)
    return ramps * np.array(multiply, np.float32) + np.array(add, np.float32)


@cache
def _base_ramps(mood: str) -> np.ndarray:
    """(materials, 3 colours, RGB) float32 of a mood, before the draws of an image."""
    ramps = np.zeros((len(MATERIAL), 3, 3), np.float32)
    for name, codes in _AIR.items():
        ramps[MATERIAL[name]] = _ramp(codes[MOODS.index(mood)])
    for name, codes in _LAND.items():
        ramps[MATERIAL[name]] = _lit(_ramp(codes[_SEASON[mood]]), mood)
    return ramps


def _blend_weights() -> np.ndarray:
    """(3, TONES) float32: how much of each of the three colours a tone holds."""
    place = np.arange(TONES, dtype=np.float32) * np.float32(2 / (TONES - 1))
    return np.stack((np.maximum(1.0 - place, 0.0), 1.0 - np.abs(place - 1.0), np.maximum(place - 1.0, 0.0)))


_BLEND = _blend_weights()
_VEILED_BY_GLOW = np.array([name in ("sky", "star", "cloud", "sun") for name in MATERIAL])


class Style:
    """Random colours of one scene that stay the same in every mood: walls, flowers, a tint of the whole.

    Args:
        draws: of this image.
    """

    def __init__(self, draws: Draws) -> None:
        self.walls = [_WALLS[draws.integer(0, len(_WALLS))] for _ in range(3)]
        petal = draws.integer(0, len(_PETALS))
        self.petals = [_PETALS[petal], _PETALS[draws.integer(0, len(_PETALS))] if draws.chance(0.4) else _PETALS[petal]]
        self.tint = [draws.uniform(0.95, 1.05) for _ in range(3)]  # of the light, red green blue
        self.foliage = [draws.uniform(0.92, 1.08) for _ in range(3)]


def colour_table(style: Style, mood: int) -> np.ndarray:
    """Colours of every material and tone in one mood.

    Args:
        style: of this scene.
        mood: number in `MOODS`.

    Returns:
        (3, materials * TONES) uint16 in 0..255, one row a channel; entry `material * TONES + tone`.
    """
    name = MOODS[mood]
    ramps = _base_ramps(name).copy()
    for material, code in zip(("wall", "wall_2", "wall_3"), style.walls, strict=True):
        ramps[MATERIAL[material]] = _lit(_around(code), name)
    for material, code in zip(("petal", "petal_2"), style.petals, strict=True):
        ramps[MATERIAL[material]] = _lit(_around(code), name)
    for material in ("round_tree", "round_tree_2", "conifer"):
        ramps[MATERIAL[material]] *= np.array(style.foliage, np.float32)
    ramps *= np.array(style.tint, np.float32)
    ramps = ramps.transpose(2, 0, 1)[..., None]  # (RGB, materials, 3 colours, 1)
    table = ramps[:, :, 0] * _BLEND[0] + ramps[:, :, 1] * _BLEND[1] + ramps[:, :, 2] * _BLEND[2]
    return np.minimum(np.maximum(table + np.float32(0.5), 0.0), 255.0).astype(np.uint16).reshape(3, -1)


def veil_tables(mood: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour of the veil over each material, and its strength.

    Returns:
        (3, materials) uint16 in 0..255 and (materials,) uint16 in 0..256.
    """
    name = MOODS[mood]
    colours = np.empty((3, len(MATERIAL)), np.uint16)
    strength = np.empty(len(MATERIAL), np.uint16)
    for where, (code, most) in ((_VEILED_BY_GLOW, _GLOW[name]), (~_VEILED_BY_GLOW, _HAZE[name])):
        colours[:, where] = np.array(_colour(code), np.uint16)[:, None]
        strength[where] = int(256 * most)
    strength[[MATERIAL["lamp"], MATERIAL["sun"]]] //= 4  # lights shine through haze
    return colours, strength
