"""A first explorer of plain ipywidgets: choose a scene and a seed, turn a class into another, change the noise.

Every control is an attribute, so that scripts and tests move it as a browser does: ``panel.seed.value = 3``.
Images are written into `ipywidgets.Image` values: nothing is printed, which headless runs could not compare.

H and W height and width, K classes.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import ipywidgets as W
import numpy as np
import torch
from PIL import Image

from dpsims.errors import InputError
from dpsims.images import to_uint8
from dpsims.labels import LabelSpace
from dpsims.noise import class_region
from dpsims.synthesis import Synthesizer

SHOWN = 320  # pixels on the screen, the longer side of an image
KEEP = 0  # value of "recolour" and "vary": no class


@contextmanager
def noise_strength(generator: Synthesizer, strength: float) -> Iterator[None]:
    """Inside the block, what the noise adds to the features of every scale is multiplied by `strength`.

    0 draws without noise, 1 as trained, more exaggerates. Multiplying z itself would do next to nothing: the
    cross-attention normalises its values.
    """
    handles = [
        attention.register_forward_hook(lambda module, inputs, output: output * strength)
        for attention in generator.generator.noise
        if attention is not None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def recoloured(labels: np.ndarray, old: int, new: int) -> np.ndarray:
    """A copy of label ids (H, W) in which class `old` has become `new`."""
    return np.where(labels == old, new, labels).astype(labels.dtype)


def png(image: np.ndarray, longest: int = SHOWN) -> bytes:
    """An image (H, W, 3) uint8 as a PNG, enlarged by the whole number that brings it nearest below `longest` pixels."""
    scale = max(1, longest // max(image.shape[:2]))
    file = io.BytesIO()
    Image.fromarray(image.repeat(scale, 0).repeat(scale, 1)).save(file, format="PNG")
    return file.getvalue()


class ExplorerPanel(W.VBox):
    """Controls and two pictures: the label map, and the image that is drawn from it.

    Args:
        generator: from `dpsims.load_generator`.
        labels: (N, H, W) ids, the scenes to choose from, of the generator's size.
        names: of the scenes; their numbers if None.
        seed: of the first image.

    Raises:
        InputError: no scene, wrong size or unknown ids.
    """

    def __init__(
        self, generator: Synthesizer, labels: np.ndarray, names: Sequence[str] | None = None, seed: int = 0
    ) -> None:
        labels = np.array(labels)
        if labels.ndim != 3 or not len(labels) or tuple(labels.shape[1:]) != tuple(generator.size):
            raise InputError(f"labels of shape {labels.shape}: need (N, {generator.size[0]}, {generator.size[1]})")
        generator.space.check(labels, "labels")
        self.generator, self.scenes = generator, labels
        space = generator.space
        titles = list(names) if names is not None else [f"scene {i}" for i in range(len(labels))]
        classes = [(name, i) for i, name in enumerate(space.names) if i]
        wide = {"style": {"description_width": "90px"}, "layout": W.Layout(width="330px")}
        self.scene = W.Dropdown(options=[(t, i) for i, t in enumerate(titles)], value=0, description="scene", **wide)
        self.seed = W.BoundedIntText(value=seed, min=0, max=2**31 - 1, description="seed", **wide)
        self.strength = W.FloatSlider(
            value=1.0,
            min=0.0,
            max=2.0,
            step=0.05,
            description="noise",
            readout_format=".2f",
            continuous_update=False,
            **wide,
        )
        self.recolour = W.Dropdown(options=[("nothing", KEEP), *classes], value=KEEP, description="turn", **wide)
        self.into = W.Dropdown(options=classes, value=1, description="into", **wide)
        self.vary = W.Dropdown(options=[("nothing", KEEP), *classes], value=KEEP, description="vary", **wide)
        self.inside = W.BoundedIntText(value=seed + 1, min=0, max=2**31 - 1, description="its seed", **wide)
        self.lock = W.Checkbox(value=False, description="lock the rest", **wide)
        self.next_seed = W.Button(description="another seed", icon="refresh", layout=W.Layout(margin="0 0 0 94px"))
        self.map = W.Image(format="png")
        self.image = W.Image(format="png")
        self.key = W.HTML(_key(space))
        super().__init__(
            [
                W.HBox(
                    [
                        W.VBox([self.scene, self.seed, self.next_seed, *self._others()]),
                        W.VBox([W.Label("label map"), self.map]),
                        W.VBox([W.Label("generated"), self.image]),
                    ]
                ),
                self.key,
            ]
        )
        for control in (self.scene, self.seed, *self._others()):
            control.observe(self._update, "value")
        self.next_seed.on_click(self._advance)
        self._update()

    def _others(self) -> tuple[W.Widget, ...]:
        return self.strength, self.recolour, self.into, self.vary, self.inside, self.lock

    def __repr__(self) -> str:
        height, width = self.generator.size
        return f"ExplorerPanel({len(self.scenes)} scenes of {height} x {width})"

    @property
    def labels(self) -> np.ndarray:
        """(H, W) ids as they are now: the chosen scene, recoloured."""
        scene = self.scenes[self.scene.value]
        return scene if self.recolour.value == KEEP else recoloured(scene, self.recolour.value, self.into.value)

    def draw(self) -> np.ndarray:
        """The image (H, W, 3) uint8 of what is chosen now."""
        labels = torch.from_numpy(self.labels)[None]
        with noise_strength(self.generator, self.strength.value):
            if self.vary.value == KEEP:
                return to_uint8(self.generator(labels, seed=self.seed.value))[0]
            region = class_region(labels, [self.vary.value])
            return to_uint8(self.generator.vary(labels, region, self.seed.value, self.inside.value, self.lock.value))[0]

    def _advance(self, button: W.Button) -> None:
        self.seed.value += 1

    def _update(self, change: dict | None = None) -> None:
        self.map.value = png(self.generator.space.colourise(self.labels))
        self.image.value = png(self.draw())


def _key(space: LabelSpace) -> str:
    """Swatches with the names of the classes, as HTML."""
    swatch = '<span style="display:inline-block;width:12px;height:12px;border:1px solid #999;background:rgb{}"></span>'
    entries = (
        f"{swatch.format(colour)}&nbsp;{name}" for name, colour in zip(space.names[1:], space.colours[1:], strict=True)
    )
    return '<span style="line-height:1.6">' + " &emsp; ".join(entries) + "</span>"
