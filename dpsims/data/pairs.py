"""One pair of files, checked and brought to size: an image and its label map, or a sentence that says what is wrong.

K classes, H and W height and width of the label map's file, h and w of the result.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dpsims.data.folders import Pair
from dpsims.encodings import Encoding, Palette
from dpsims.errors import InputError
from dpsims.label_files import load_image, load_png
from dpsims.labels import VOID, count_ids, resize_nearest

TURNS = {  # by the values of EXIF's orientation; 1 and those that nothing should write leave the picture as it is
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


class Converted(NamedTuple):
    """A checked pair. `image` and `ids` are None where no size was asked for."""

    image: np.ndarray | None  # (h, w, 3) uint8; also None of a label map alone
    ids: np.ndarray | None  # (h, w) uint8
    pixels: np.ndarray  # (K+1,) number of pixels of each id in the file
    shape: tuple[int, int]  # (H, W)
    source: tuple[str, ...]  # hash of the bytes of each file, in the order of `Pair.files`


def convert(pair: Pair, coding: Encoding | Palette, size: tuple[int, int] | None) -> Converted:
    """Reads and checks a pair.

    Args:
        pair: or a label map alone.
        coding: of the label map.
        size: (h, w); None to check alone. Images are resized bicubic with antialiasing, labels to the nearest
            pixel (`resize_nearest`).

    Raises:
        InputError: a file that cannot be read as what it is, sizes that disagree, an unknown class, nothing but void.
    """
    png = load_png(pair.labels)
    ids = coding.ids(png, pair.labels)  # (H, W)
    pixels = count_ids(ids, coding.space.num_classes)
    if pixels[VOID] == ids.size:
        raise InputError(f"{pair.labels}: every pixel is void, so nothing can be learnt from it; leave the pair out")
    image, contents = None, [png.content]
    if pair.image is not None:
        image, content = load_rgb(pair.image)
        image, contents = _upright(image, ids.shape, pair), [content, png.content]
    source = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    if size is None:
        return Converted(None, None, pixels, ids.shape, source)
    width_first = (size[1], size[0])  # as Pillow has it
    small = None if image is None else np.asarray(image.resize(width_first, Image.Resampling.BICUBIC))
    return Converted(small, resize_nearest(ids, size), pixels, ids.shape, source)


def load_rgb(path: Path) -> tuple[Image.Image, bytes]:
    """An image in RGB, and the bytes of its file; its EXIF data are kept, and not yet followed. Grey becomes
    red = green = blue.

    Raises:
        InputError: empty, truncated, huge or no image; transparent pixels; CMYK and others without an exact RGB.
    """
    image, content = load_image(path, "; make it smaller", "it may be truncated, copy it again")
    if image.format == "TIFF" and image.info["orientation"] in TURNS:
        raise InputError(f"{path}: a TIFF with an orientation tag; save it as it is to be shown, without that tag")
    if image.format == "PNG" and content[24] == 16:
        raise InputError(f"{path}: 16 bits a colour, which would be cut to 8; save it with 8 bits")
    if image.mode not in ("1", "L", "P", "RGB", "LA", "PA", "RGBA"):
        raise InputError(f"{path}: an image of mode {image.mode}; convert it to RGB with 8 bits, by its colour profile")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            raise InputError(
                f"{path}: has transparent pixels; put it on a background and save it without alpha channel"
            )
    return image if image.mode == "RGB" else image.convert("RGB"), content


def _upright(image: Image.Image, shape: tuple[int, int], pair: Pair) -> Image.Image:
    """The image, turned as its EXIF data say where only that agrees with its label map."""
    orientation = image.info.get("orientation")
    plain, turned = image, image.transpose(TURNS[orientation]) if orientation in TURNS else image
    fits = [_same_aspect(one.size[::-1], shape) for one in (plain, turned)]
    if not any(fits):
        there = f"{plain.height} x {plain.width}"
        raise InputError(
            f"{pair.labels}: {shape[0]} x {shape[1]} pixels (height x width), and {pair.image} is {there}: neither the "
            "same size nor the same aspect; is it the label map of another image?"
        )
    if all(fits) and turned is not plain:
        raise InputError(
            f"{pair.image}: EXIF orientation {orientation} asks to turn or mirror it, and the label map fits either "
            "way; save the image as the label map has it, without that tag"
        )
    return plain if fits[0] else turned


def _same_aspect(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """The same size, or one is the other reduced, up to a pixel of rounding."""
    (height, width), (less_high, less_wide) = sorted((one, other), reverse=True)
    if height == less_high or width == less_wide:
        return one == other
    return abs(less_wide - width * less_high / height) <= 1 and abs(less_high - height * less_wide / width) <= 1
