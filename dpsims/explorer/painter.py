"""Painting label maps in the browser: `LabelPainter`, for JupyterLab and voila; its other half is painter.js.

Integers end to end. The browser holds the ids as bytes, draws them in the colours of the classes, and sends all of
them when the pen is lifted: H * W bytes a stroke. No colour is ever read back, so no class can come out as another.
A stroke shows at once, however busy the kernel is. Whatever comes from the browser is checked before it is believed.

H and W height and width, K classes.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from ipywidgets.widgets.trait_types import CByteMemoryView

from dpsims.encodings import ENCODINGS, Encoding, Palette, encoding
from dpsims.errors import InputError
from dpsims.label_files import load_png
from dpsims.labels import VOID, LabelSpace, check_size

SCRIPTS = ("painter_pixels.js", "painter.js")  # one module for the browser
IDS = "ids"  # grey values that are our own ids
ASK = ""  # nobody has said yet what grey values are
MODES = ("paint", "region", "pick")
NOWHERE = -1  # picked, before anything was


class LabelPainter(anywidget.AnyWidget):
    """A label map to paint on, with tools, the classes as a legend, and a mask to paint beside it.

    Args:
        labels: (H, W) ids, 0 = void, 1..K.
        space: the classes.

    Attributes:
        image: bytes of a PNG or JPEG that is shown under the label map; ``b""`` for none.
        opacity: of the label map over that image when it first shows, 0 to 1; the user then has a slider.
        message: what the status line says.
        mode: what the pen does: "paint" classes, mark a "region", or "pick" the class under it.
        picked: the class that was last picked, -1 before; `picked_at` its row and column.

    Raises:
        InputError: `labels` of another shape or with ids outside 0..K.
    """

    _esm = "\n".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in SCRIPTS)
    _css = Path(__file__).with_name("painter.css")
    _setup = traitlets.Dict().tag(sync=True)
    # traitlets.Bytes would drop what the browser sends without a word; an echo would send every stroke back
    _labels = CByteMemoryView(b"").tag(sync=True, echo_update=False)
    _region = CByteMemoryView(b"").tag(sync=True, echo_update=False)
    image = CByteMemoryView(b"").tag(sync=True)
    opacity = traitlets.Float(0.6, min=0.0, max=1.0).tag(sync=True)
    message = traitlets.Unicode("").tag(sync=True)
    mode = traitlets.Enum(MODES, "paint").tag(sync=True)
    picked = traitlets.Int(NOWHERE).tag(sync=True)
    picked_at = traitlets.List(traitlets.Int(), [NOWHERE, NOWHERE]).tag(sync=True)

    def __init__(self, labels: np.ndarray, space: LabelSpace) -> None:
        labels = np.asarray(labels)
        if labels.ndim != 2 or not labels.size:
            raise InputError(f"labels of shape {labels.shape}; give one label map, (H, W)")
        self.space, self.size = space, labels.shape
        self._listeners: dict[str, list[Callable[[np.ndarray], None]]] = {"_labels": [], "_region": []}
        height, width = labels.shape
        setup = {
            "dataset": space.name,
            "height": height,
            "width": width,
            "names": list(space.names),
            "colours": [list(colour) for colour in space.colours],
            "readings": readings(space),
        }
        super().__init__(_setup=setup, _labels=self._ids(labels), _region=bytes(labels.size))
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        return f"LabelPainter({self.size[0]} x {self.size[1]}, {self.space.num_classes} classes)"

    @property
    def labels(self) -> np.ndarray:
        """The label map as it is now, (H, W) uint8, a copy. What is set replaces the user's painting, who can undo
        it in one step; raises InputError for another size and for ids outside 0..K."""
        return np.frombuffer(self._labels, np.uint8).reshape(self.size).copy()

    @labels.setter
    def labels(self, labels: np.ndarray) -> None:
        self._labels = self._ids(np.asarray(labels))

    @property
    def region(self) -> np.ndarray:
        """The painted mask, (H, W) bool, a copy; raises InputError where what is set has another shape or type."""
        return np.frombuffer(self._region, np.uint8).reshape(self.size).astype(bool)

    @region.setter
    def region(self, region: np.ndarray) -> None:
        region = np.asarray(region)
        if region.dtype != bool or region.shape != self.size:
            raise InputError(f"region: {region.dtype} of shape {region.shape}; give bool of shape {self.size}")
        self._region = region.tobytes()

    def on_paint(self, callback: Callable[[np.ndarray], None]) -> None:
        """Calls ``callback(labels)`` whenever the user has painted: at pen-up, and after undo, import and restore.

        An InputError of the callback is shown in the status line; other errors are raised.
        """
        self._listeners["_labels"].append(callback)

    def on_region(self, callback: Callable[[np.ndarray], None]) -> None:
        """As `on_paint`, of the mask: ``callback(region)``."""
        self._listeners["_region"].append(callback)

    def tell(self, text: str) -> None:
        """Shows a message in the status line, also when it is the one that was shown last."""
        if self.message == text:
            self.message = ""  # a trait that does not change sends nothing
        self.message = text

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What the browser says its state is. It may be anything: what is wrong is refused with a message, and the
        browser is told the state that stands; what is not the browser's to change is passed over."""
        accepted = {}
        for name in sync_data.keys() & {"_labels", "_region", "mode", "picked", "picked_at"}:
            problem = self._problem(name, sync_data[name])
            if problem:
                self.tell(f"The browser sent {problem}: not taken.")
                self.send_state(name)
            else:
                accepted[name] = sync_data[name]
        super().set_state(accepted)
        try:
            for name in accepted.keys() & self._listeners.keys():
                for callback in self._listeners[name]:
                    callback(self.labels if name == "_labels" else self.region)
        except InputError as error:
            self.tell(str(error))

    def _ids(self, labels: np.ndarray) -> bytes:
        if labels.shape != self.size:
            height, width = self.size
            raise InputError(f"labels of shape {labels.shape}; this painter holds ({height}, {width})")
        self.space.check(labels, "labels")
        return labels.astype(np.uint8).tobytes()

    def _problem(self, name: str, value: Any) -> str | None:
        """What is wrong with a value from the browser, in words."""
        height, width = self.size
        if name in ("_labels", "_region"):
            what, largest = ("labels", self.space.num_classes) if name == "_labels" else ("a region", 1)
            if not isinstance(value, bytes | bytearray | memoryview):
                return f"{what} that are no bytes"
            if len(value) != height * width:
                return f"{what} of {len(value)} bytes instead of {height * width}"
            found = int(np.frombuffer(value, np.uint8).max())
            return f"{what} with the value {found}, above {largest}" if found > largest else None
        if name == "mode":
            return None if value in MODES else "an unknown mode"
        numbers, limits = ([value], [self.space.num_classes + 1]) if name == "picked" else (value, self.size)
        right = isinstance(numbers, list) and len(numbers) == len(limits) and all(type(n) is int for n in numbers)
        if right and all(0 <= number < limit for number, limit in zip(numbers, limits, strict=True)):
            return None
        return "a place outside the map"

    def _receive(self, widget: Any, content: Any, buffers: Sequence[Any]) -> None:
        """A file from the browser; the answer carries its ids, which the browser takes as one step of painting."""
        try:
            file, name, reading = bytes(buffers[0]), str(content["name"]), str(content["reading"])
            number = int(content["import"])
        except (TypeError, ValueError, KeyError, IndexError):
            self.tell("The browser sent a message that is not understood.")
            return
        try:
            ids = read_upload(file, name, reading, self.space, self.size)
        except InputError as error:
            self.tell(str(error))
            return
        shares = np.bincount(ids.ravel(), minlength=len(self.space.names)) / ids.size
        found, most = np.count_nonzero(shares[1:]), int(shares.argmax())
        text = f"{name}: {found} classes, {shares[VOID]:.0%} void; most is {self.space.names[most]}."
        self.send({"imported": number, "text": text}, [ids.tobytes()])


def readings(space: LabelSpace) -> list[str]:
    """What grey values in PNGs may stand for: the first is taken unless the user chooses another, and where it is
    `ASK`, the user must.

    Files of COCO-Stuff as published hold other numbers than our ids but look the same, and what the files of a custom
    data set hold, nobody knows.
    """
    known = ENCODINGS.get(space.name, {})
    others = [name for name, first_and_void in known.items() if first_and_void != (1, VOID)]
    return [IDS, *others] if known and "raw" not in others else [ASK, IDS, *others]


def read_upload(content: bytes, name: str, reading: str, space: LabelSpace, size: tuple[int, int]) -> np.ndarray:
    """The label map in the bytes of a PNG: colours of the classes, exactly, or grey values.

    Args:
        content: of the file.
        name: of the file, for errors.
        reading: what grey values stand for, one of `readings`. A palette is read by its colours, never its indices.
        space: the classes.
        size: (H, W) that it must have.

    Returns:
        (H, W) uint8 ids.

    Raises:
        InputError: no PNG, damaged, of another size, mode or values.
    """
    if reading not in readings(space):
        raise InputError(f"{name}: grey values read as {reading!r}; choose one of {', '.join(readings(space))}")
    with tempfile.TemporaryDirectory() as folder:  # the readers of label files take paths, and check a good deal
        path = Path(folder) / "upload.png"
        path.write_bytes(content)
        try:
            png = load_png(path)
            check_size(f"{name}:", png.array.shape[:2], size, "resize the map with nearest-neighbour interpolation")
            if png.kind != "values":
                return Palette(space).ids(png, path)
            if reading == ASK:
                raise InputError(
                    f"{name}: grey values, which in {space.name} are not always ids; choose what they are beside Import"
                )
            ids = tuple(range(space.num_classes + 1))
            coding = Encoding(space, IDS, ids) if reading == IDS else encoding(space.name, reading)
            return coding.ids(png, path)
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from None
