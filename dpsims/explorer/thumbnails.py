"""Small pictures of label maps and photographs, and the cell of a grid that shows one of each over a button.

H and W height and width.
"""

import html
from collections.abc import Callable

import ipywidgets as W
import numpy as np
from PIL import Image

from dpsims.explorer.pictures import png
from dpsims.labels import LabelSpace, resize_nearest

TALL, WIDE = 80, 160  # pixels on the screen that no thumbnail exceeds


def thumbnail_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a thumbnail: whole multiples of those given where they fit into 80 x 160 pixels, else the
    largest that does and has about their proportions."""
    scale = min(TALL // height, WIDE // width)
    if scale:
        return scale * height, scale * width
    if height * WIDE >= width * TALL:
        return TALL, max(1, width * TALL // height)
    return max(1, height * WIDE // width), WIDE


def map_thumbnail(labels: np.ndarray, space: LabelSpace) -> bytes:
    """A PNG of a label map (H, W) in the colours of its classes. Pixels are repeated or left out, never blended: the
    mean of two classes would be the colour of a third."""
    return png(space.colourise(resize_nearest(labels, thumbnail_size(*labels.shape))), 1)


def photo_thumbnail(image: np.ndarray) -> bytes:
    """A PNG of a photograph (H, W, 3) uint8; where it is made smaller, pixels are means."""
    height, width = thumbnail_size(*image.shape[:2])
    return png(np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX)), 1)


class Cell(W.VBox):
    """A label map, its photograph beneath where there is one, a caption, and a button.

    It is filled again for every map that it shows: new widgets would flicker.

    Args:
        size: (H, W) of the thumbnails.
        photographs: whether there are any.
        clicked: called without arguments when the button is.
    """

    def __init__(self, size: tuple[int, int], photographs: bool, clicked: Callable[[], None]) -> None:
        height, width = size
        fixed = {"height": f"{height}px", "width": f"{width}px"}
        self.map = W.Image(format="png", layout=W.Layout(margin="0", **fixed))
        self.photo = W.Image(format="png", layout=W.Layout(margin="2px 0 0 0", **fixed)) if photographs else None
        self.caption = W.HTML(layout=W.Layout(margin="0", width=f"{max(width, 90)}px"))
        self.button = W.Button(layout=W.Layout(width="auto", margin="0", padding="0 6px"))
        self.button.on_click(lambda button: clicked())
        pictures = [self.map] if self.photo is None else [self.map, self.photo]
        layout = W.Layout(align_items="center", margin="0 8px 12px 0")
        super().__init__([*pictures, self.caption, self.button], layout=layout)

    def fill(self, labels: np.ndarray, space: LabelSpace, photo: np.ndarray | None, caption: str, button: str) -> None:
        """Shows another map (H, W) with its photograph (H, W, 3) uint8; the caption is cut where it is too long."""
        self.map.value = map_thumbnail(labels, space)
        if self.photo is not None:
            self.photo.value = photo_thumbnail(photo)
        style = "line-height: 1.3; text-align: center; overflow: hidden; text-overflow: ellipsis; white-space: nowrap"
        text = html.escape(caption)
        self.caption.value = f'<div style="{style}" title="{text}">{text}</div>' if text else ""
        self.caption.layout.display = "" if text else "none"
        self.button.description = button
