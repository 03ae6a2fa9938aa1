"""PNG files of labels, read as they are: no value is scaled, no palette applied, no bit dropped.

Pillow alone would turn 2- and 4-bit grey values into grey levels and cut 16-bit colours down to 8 bits without a word.
H and W height and width.
"""

import io
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from dpsims.errors import InputError

MAX_BYTES = 1 << 30  # of a file that is read at once
ORIENTATION = 0x0112  # the EXIF tag that says how a picture is to be turned when it is shown
# the seven passes of an interlaced PNG: first column and row, and their steps
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class LabelPNG(NamedTuple):
    """What a PNG holds. `kind` says what `array` is: "values" (H, W) of greyscale, "indices" (H, W) into `palette`
    (n, 3), or "colours" (H, W, 3); writable, uint8, or uint16 where `depth`, the bits of a value in the file, is 16.
    `content` are the bytes of the file."""

    kind: str
    array: np.ndarray
    palette: np.ndarray | None
    mode: str  # Pillow's word
    depth: int
    content: bytes


def load_png(path: str | Path) -> LabelPNG:
    """Reads a PNG of labels.

    Raises:
        InputError: missing, empty, truncated or huge file, another format, half transparent pixels, or values that
            Pillow would change (greyscale of 1, 2 or 4 bits, grey with alpha, colours of 16 bits).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a PNG of class ids")
    image, content = load_image(
        path,
        ", too many for a label map; resize it with nearest-neighbour interpolation",
        "the file may be truncated, write it again",
    )
    if image.format != "PNG":
        raise InputError(f"{path}: a {image.format} file; give a PNG of class ids (lossy formats change them)")
    depth = content[24]  # in the header, which comes first in every PNG
    kind, palette = "values", None
    match image.mode, depth:
        case "L", 8:
            array = np.array(image)
        case (("I;16" | "I"), 16):
            array = np.asarray(image).astype(np.uint16)
        case "P", _:
            kind, array = "indices", np.array(image)
            palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        case "RGB", 8:
            kind, array = "colours", np.array(image)
        case "RGBA", 8:
            kind, array = "colours", _opaque(np.asarray(image), path)
        case _:
            raise InputError(
                f"{path}: image mode {image.mode!r} of {depth} bits; label maps are greyscale of 8 or 16 bits, "
                "palettes, or RGB of 8 bits: save it as one of these"
            )
    return LabelPNG(kind, array, palette, image.mode, depth, content)


def load_image(path: Path, smaller: str, anew: str) -> tuple[Image.Image, bytes]:
    """An image of any format, all of it read, and the bytes of its file; `smaller` and `anew` end the errors of a huge
    and an unreadable file.

    Raises:
        InputError: empty, truncated, damaged, huge or no image.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is no file, but a folder, a pipe or a device; remove it")
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            if path.stat().st_size > MAX_BYTES:
                raise Image.DecompressionBombError
            content = path.read_bytes()  # once, since it is checked, decoded and hashed
            check_png(content)
            with Image.open(io.BytesIO(content)) as image:
                # before `load`, which turns a TIFF and forgets what it was asked to
                image.info["orientation"] = image.getexif().get(ORIENTATION)
                image.load()
                if image.format == "PNG" and _last_rows_empty(image):
                    check_rows(content)
                return image, content
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"{path}: has more than {Image.MAX_IMAGE_PIXELS} pixels or 1 GiB{smaller}") from None
    except PermissionError:
        raise InputError(f"{path}: is closed to you; ask for the right to read it") from None
    except UnidentifiedImageError:
        reason = "it is empty" if path.stat().st_size == 0 else "it begins as no known format does"
        raise InputError(f"{path}: not a readable image ({reason}); {anew}") from None
    except (OSError, SyntaxError, ValueError, zlib.error) as reason:
        raise InputError(f"{path}: not a readable image ({reason}); {anew}") from None


def check_png(content: bytes) -> None:
    """Raises ValueError for a PNG with bytes that are not what was written, by the sums that guard its chunks: Pillow
    reads most of these as other pixels, without a word."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return
    for _, start, end in _chunks(content):
        if zlib.crc32(memoryview(content)[start - 4 : end]) != int.from_bytes(content[end : end + 4]):
            raise ValueError(f"bytes {start - 8} to {min(end + 4, len(content))} are damaged")


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the data of every chunk of a PNG, up to the one that ends it."""
    start, name = 8, b""
    while name != b"IEND" and start < len(content):
        length, name = int.from_bytes(content[start : start + 4]), content[start + 4 : start + 8]
        yield name, start + 8, start + 8 + length
        start += 12 + length


def _last_rows_empty(image: Image.Image) -> bool:
    """Whether one of the last two is 0 all over: an interlaced PNG may end with either."""
    rows = range(max(image.height - 2, 0), image.height)
    return not all(image.crop((0, row, image.width, row + 1)).getbbox(alpha_only=False) for row in rows)


def check_rows(content: bytes) -> None:
    """Raises ValueError for a PNG that holds fewer rows than it says: Pillow leaves the others 0, without a word. Its
    last rows being 0 is what asks for this check, which costs as much as decoding."""
    width, height = (int.from_bytes(content[start : start + 4]) for start in (16, 20))
    depth, colour, interlaced = content[24], content[25], content[28]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    expected = 0
    for left, top, right, down in passes:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + -(-columns * bits // 8))
    data, stream = 0, zlib.decompressobj()
    for name, start, end in _chunks(content):
        if name == b"IDAT" and data < expected:  # never more than is asked for: a few bytes may stand for gigabytes
            data += len(stream.decompress(content[start:end], expected - data))
    if data < expected:
        raise ValueError(f"holds {data} of {expected} bytes of pixels")


def _opaque(pixels: np.ndarray, path: Path) -> np.ndarray:
    """(H, W, 4) -> (H, W, 3), where every pixel is opaque."""
    clear = pixels[..., 3] != 255
    if clear.any():
        row, column = (int(i) for i in np.argwhere(clear)[0])
        raise InputError(
            f"{path}: the pixel at row {row}, column {column} is transparent; save the label map without an alpha "
            "channel"
        )
    return pixels[..., :3]
