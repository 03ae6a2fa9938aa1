"""Pictures as bytes, for widgets and for files.

H and W height and width, T frames.
"""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

SHOWN = 384  # pixels on the screen, the longer side of an image


def enlarged(image: np.ndarray, longest: int = SHOWN) -> np.ndarray:
    """(H, W, ...) pixels repeated by the whole number that brings the longer side nearest below `longest`."""
    scale = max(1, longest // max(image.shape[:2]))
    return image.repeat(scale, 0).repeat(scale, 1)


def png(image: np.ndarray, longest: int = SHOWN) -> bytes:
    """An image (H, W, 3) uint8, `enlarged`, as a PNG."""
    file = io.BytesIO()
    Image.fromarray(enlarged(image, longest)).save(file, format="PNG", compress_level=1)  # 9 takes ten times as long
    return file.getvalue()


def gif(frames: Sequence[np.ndarray], milliseconds: int = 80, longest: int = 256) -> bytes:
    """An animation that goes through the frames and back, for ever, as a GIF.

    Args:
        frames: T images (H, W, 3) uint8, at least 2; `enlarged`. A GIF has 256 colours a frame.
        milliseconds: that each is shown; a GIF counts in steps of 10.
        longest: as in `enlarged`.
    """
    pictures = [Image.fromarray(enlarged(frame, longest)).quantize(256) for frame in frames]
    following = [*pictures[1:], *pictures[-2:0:-1]]
    file = io.BytesIO()
    pictures[0].save(file, format="GIF", save_all=True, append_images=following, duration=milliseconds, loop=0)
    return file.getvalue()


def strip(images: Sequence[np.ndarray], columns: int, longest: int = SHOWN, gap: int = 4) -> np.ndarray:
    """Images (H, W, 3) uint8 side by side on white, `columns` in a row, each `enlarged` to `longest`."""
    large = [enlarged(image, longest) for image in images]
    height, width = (side + gap for side in large[0].shape[:2])
    rows = -(-len(large) // columns)
    canvas = np.full((rows * height - gap, min(columns, len(large)) * width - gap, 3), 255, np.uint8)
    for number, image in enumerate(large):
        y, x = number // columns * height, number % columns * width
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas


def tinted(image: np.ndarray, over: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """`over` (H, W, 3) laid on `image` (H, W, 3), both uint8, with opacity `share`, a number or (H, W), in 0..1."""
    share = np.asarray(share, np.float32)[..., None]
    return np.round(image * (1 - share) + over * share).astype(np.uint8)


def link(content: bytes, name: str, text: str) -> str:
    """HTML of a link that saves `content`, without a server: the link holds it. The name's ending is its kind."""
    kind = f"image/{name.rsplit('.', 1)[-1]}"
    data = base64.b64encode(content).decode()
    style = "color: #1565c0; text-decoration: underline"  # as links look; voila's theme has them look like text
    return f'<a style="{style}" download="{html.escape(name)}" href="data:{kind};base64,{data}">{html.escape(text)}</a>'
