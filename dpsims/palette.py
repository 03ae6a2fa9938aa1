"""Figures as palette PNGs: a quarter of the bytes of full colour, no artefacts at edges or in text, and the colours of
classes as the class tables have them, or a label map would not match its legend.

P pixels, H and W height and width.
"""

import numpy as np
from PIL import Image

from dpsims.labels import colour_code, label_space
from dpsims.paths import LABELS


def with_palette(image: Image.Image, size: int = 256) -> Image.Image:
    """An image of few colours: white and those of classes exactly, the others as near as clusters come.

    Args:
        image: (W, H), of any mode that has an RGB form.
        size: colours at most, up to 256; three quarters of them may be exact, and the rest of the image shares the
            others.

    Returns:
        The same size, mode P.
    """
    pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)  # (P, 3)
    colours, first, which, counts = np.unique(
        colour_code(pixels), return_index=True, return_inverse=True, return_counts=True
    )
    exact = np.flatnonzero(np.isin(colours, _class_colours()))
    exact = exact[np.argsort(-counts[exact], kind="stable")][: 3 * size // 4]
    number = np.full(len(colours), -1)
    number[exact] = np.arange(len(exact))
    indices = number[which.ravel()]  # (P,)
    palette = pixels[first[exact]].ravel().tolist()
    if (rest := indices < 0).any():
        clusters = Image.fromarray(pixels[rest][None]).quantize(
            size - len(exact), kmeans=4, dither=Image.Dither.NONE
        )  # one row
        indices[rest] = len(exact) + np.asarray(clusters)[0]
        palette += clusters.getpalette() or []
    packed = Image.fromarray(indices.reshape(image.height, image.width).astype(np.uint8))
    packed.putpalette(palette)
    return packed


def _class_colours() -> np.ndarray:
    """White and the colours of all class tables, as numbers."""
    spaces = [label_space(file.stem) for file in sorted(LABELS.glob("*.csv"))]
    return colour_code([(255, 255, 255), *(colour for space in spaces for colour in space.colours)])
