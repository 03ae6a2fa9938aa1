"""The explorer: paint a label map, and watch the images that a trained generator draws for it.

The painter holds the label map; the controls hold the noise. Whatever changes, an image is drawn in a thread, the
newest wish first, so that neither painting nor a slider ever waits for the generator. Every control is an attribute:
``panel.controls.seed.value = 3`` does what a hand does.

H and W height and width, N maps.
"""

import html
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ipywidgets as W
import numpy as np

from dpsims.errors import InputError
from dpsims.explorer.browser import DataBrowser
from dpsims.explorer.controls import BUTTON, NoiseControls, share_slider, wide
from dpsims.explorer.drawing import Kept
from dpsims.explorer.latest import LatestWins
from dpsims.explorer.maps import Maps
from dpsims.explorer.painter import LabelPainter
from dpsims.explorer.pictures import png
from dpsims.explorer.tabs import Samples, Scene, Walks
from dpsims.explorer.views import IMAGE, VIEWS, view
from dpsims.labels import resize_nearest
from dpsims.models import Discriminator
from dpsims.synthesis import Synthesizer, load_discriminator, load_generator

NONE = ""  # no second checkpoint
FAILURES = (InputError, RuntimeError, MemoryError)  # torch says of memory that it is a RuntimeError


@dataclass(frozen=True)
class Wish:
    """An image that is asked for, and what it is to be compared with."""

    scene: Scene
    name: str  # of the checkpoint
    second: str = NONE
    kind: str = IMAGE  # of view
    share: float = 0.6  # its opacity


@dataclass(frozen=True)
class Drawn:
    """What came of a wish."""

    wish: Wish
    image: np.ndarray | None = None  # (H, W, 3) uint8; None where it could not be drawn
    pictures: dict[str, bytes] = field(default_factory=dict)  # PNGs by their captions
    text: str = ""


class ExplorerPanel(W.VBox):
    """Painter, controls and images.

    Args:
        checkpoints: folders of checkpoints by the names to choose from, the first is shown first; or generators that
            are loaded already.
        maps: the label maps to start from.
        seed: of the first image.

    Attributes:
        painter: with the label map; a new one whenever the size of the images changes.
        controls: of the noise.
        latest: draws; ``await panel.latest.idle()`` waits for it.

    Raises:
        InputError: the first checkpoint cannot be loaded or is for other classes than `maps`.
    """

    def __init__(self, checkpoints: Mapping[str, str | Path | Synthesizer], maps: Maps, seed: int = 0) -> None:
        self.maps, self._paths = maps, dict(checkpoints)
        self._generators: dict[str, Synthesizer] = {}
        self._discriminators: dict[str, Discriminator] = {}
        self.shown: Drawn | None = None  # the newest image
        self._kept: Kept | None = None
        first = next(iter(self._paths))
        self.generator = self._loaded(first)
        self.latest: LatestWins[Wish, Drawn] = LatestWins(self._work, self._done)
        self._make_sources(first)
        self._make_pictures()
        self.controls = NoiseControls(maps.space, seed, self.ask, self._keep)
        self.samples = Samples(self.scene, self._moods, self._take_seed)
        self.walks = Walks(self.scene, seed)
        self.data = W.VBox()  # its thumbnails are made when somebody looks
        self.tabs = W.Tab([self.controls, self.samples, self.walks, self.data])
        self.tabs.titles = ("Noise", "Samples", "Walk", "Data")
        self.tabs.observe(self._open_data, "selected_index")
        self._stage = W.VBox(layout=W.Layout(flex="1 1 700px", min_width="0"))  # beside the image from 1,130 pixels on
        main = W.HBox([self._stage, self._results], layout=W.Layout(flex_flow="row wrap", align_items="flex-start"))
        super().__init__([self._sources, main, self.tabs])
        self.choose(0)

    def __repr__(self) -> str:
        height, width = self.generator.size
        return f"ExplorerPanel({len(self.maps)} maps, {', '.join(self._paths)}, {height} x {width})"

    # -- parts

    def _make_sources(self, first: str) -> None:
        self.map = W.BoundedIntText(value=0, min=0, max=len(self.maps) - 1, description="map", **wide())
        self.map_name = W.Label()
        self.again = W.Button(description="As it was", icon="undo", layout=BUTTON)
        self.again.tooltip = "The label map as it was before it was painted on"
        names = list(self._paths)
        self.checkpoint = W.Dropdown(options=names, value=first, description="checkpoint", **wide())
        self.second = W.Dropdown(
            options=[("nothing", NONE), *((n, n) for n in names)], description="beside it", **wide()
        )
        self._sources = W.HBox(
            [self.map, self.map_name, self.again, self.checkpoint, self.second],
            layout=W.Layout(flex_flow="row wrap", align_items="center"),
        )
        self.map.observe(lambda change: self.choose(change["new"]), "value")
        self.again.on_click(lambda button: self.choose(self.map.value))
        self.checkpoint.observe(self._change_checkpoint, "value")
        self.second.observe(lambda change: self.ask(), "value")

    def _make_pictures(self) -> None:
        self.kind = W.Dropdown(options=VIEWS, value=IMAGE, description="show", **wide())
        self.share = share_slider("its opacity", value=0.6)
        self.real = W.Checkbox(description="the real image beside it", indent=False, layout=W.Layout(width="auto"))
        self.status = W.HTML()
        self.pictures = W.Box(layout=W.Layout(flex_flow="row wrap"))
        choices = W.HBox([self.kind, self.real, self.share], layout=W.Layout(flex_flow="row wrap"))
        self._results = W.VBox([choices, self.pictures, self.status], layout=W.Layout(flex="1 1 400px", min_width="0"))
        self.share.layout.visibility = "hidden"
        for control in (self.kind, self.share, self.real):
            control.observe(self._change_view, "value")

    def _change_view(self, change: dict[str, Any]) -> None:
        self.share.layout.visibility = "hidden" if self.kind.value == IMAGE else "visible"
        self.ask()

    # -- what the user does

    def choose(self, number: int) -> None:
        """Starts from a map of the collection; what was painted before can be had back by undo."""
        labels = self.maps.labels(number, self.generator.size)
        self.map.value, self.map_name.value = number, self.maps.name(number)
        self._kept = None
        if not self._stage.children or self.painter.size != labels.shape:
            self._set_painter(labels)
        else:
            self.painter.labels = labels
        self.ask()

    def _set_painter(self, labels: np.ndarray) -> None:
        self.painter = LabelPainter(labels, self.maps.space)
        self.painter.on_paint(lambda labels: self.ask())
        self.painter.on_region(lambda region: self.ask())
        self.painter.observe(self._picked, "picked_at")
        self._stage.children = [self.painter]

    def _picked(self, change: dict[str, Any]) -> None:
        """A click in the mode "pick" chooses the class whose noise is changed."""
        self.controls.own_class.value = self.painter.picked
        self.painter.tell(f"The noise of {self.maps.space.names[self.painter.picked]} can be changed below.")

    def _change_checkpoint(self, change: dict[str, Any]) -> None:
        try:
            generator = self._loaded(change["new"])
        except FAILURES as error:
            self.checkpoint.value = change["old"]
            self._say(str(error))
            return
        if generator is self.generator:
            return  # back from one that could not be loaded, whose message is to stay
        self.generator = generator
        if self.painter.size != self.generator.size:
            self._kept = None
            self._set_painter(resize_nearest(self.painter.labels, self.generator.size))
        self.ask()

    def _take_seed(self, seed: int) -> None:
        self.controls.seed.value = seed

    def _moods(self) -> dict[str, np.ndarray]:
        return self.maps.moods(self.map.value, self.generator.size)

    def _keep(self) -> None:
        """What is locked is what is shown now."""
        controls = self.controls
        classes = frozenset(self.maps.space.id_of(name) for name in controls.locked.value)
        kept = Kept(self.shown.image, self.shown.wish.scene.labels, classes, controls.outside.value)
        self._kept = kept if kept.image.shape[:2] == self.painter.size else None  # else of another checkpoint
        self.ask()

    def _open_data(self, change: dict[str, Any]) -> None:
        if change["new"] == len(self.tabs.children) - 1 and not self.data.children:
            labels, images = self.maps.everything(self.generator.size)
            names = [self.maps.name(number) for number in range(len(self.maps))]
            self.data.children = [DataBrowser(labels, self.maps.space, images, names, on_choose=self.choose)]

    # -- drawing

    def scene(self) -> Scene:
        """All that the image is made of, as it is now."""
        painter = self.painter
        return Scene(self.generator, painter.labels, painter.region, self.controls.noise(), self._kept)

    def ask(self) -> None:
        """Draws soon; at once where no event loop runs, and for the first image."""
        wish = Wish(self.scene(), self.checkpoint.value, self.second.value, self.kind.value, self.share.value)
        if self.shown is None:
            self._done(self._work(wish))
        else:
            self.latest.ask(wish)

    def _loaded(self, name: str) -> Synthesizer:
        """The generator of a checkpoint, loaded once."""
        if name not in self._generators:
            given = self._paths[name]
            generator = given if isinstance(given, Synthesizer) else load_generator(given)
            if generator.space.names != self.maps.space.names:
                raise InputError(
                    f"{name}: draws {generator.space.num_classes} classes of {generator.space.name}, and the maps have "
                    f"{self.maps.space.num_classes} of {self.maps.space.name}; give maps or a checkpoint that fit"
                )
            self._generators[name] = generator
        return self._generators[name]

    def _discriminator(self, name: str) -> Discriminator:
        if name not in self._discriminators:
            if isinstance(self._paths[name], Synthesizer):
                raise InputError(f"{name}: was given without its discriminator; give the folder of a checkpoint")
            self._discriminators[name] = load_discriminator(self._paths[name])
        return self._discriminators[name]

    def _work(self, wish: Wish) -> Drawn:
        """In a thread: touches no widget."""
        try:
            start = time.perf_counter()
            image = wish.scene.image()
            milliseconds = 1000 * (time.perf_counter() - start)
            pictures, words = self._viewed(wish, wish.name, wish.scene.labels, image)
            if wish.second not in (NONE, wish.name):
                other = self._loaded(wish.second)
                labels, region = (resize_nearest(a, other.size) for a in (wish.scene.labels, wish.scene.region))
                beside = Scene(other, labels, region, wish.scene.noise).image()
                pictures |= self._viewed(wish, wish.second, labels, beside)[0]
            return Drawn(wish, image, pictures, f"{milliseconds:.0f} ms an image{words}")
        except FAILURES as error:
            return Drawn(wish, text=str(error) or type(error).__name__)

    def _viewed(self, wish: Wish, name: str, labels: np.ndarray, image: np.ndarray) -> tuple[dict[str, bytes], str]:
        words = ""
        if wish.kind != IMAGE:
            image, said = view(wish.kind, image, labels, self._discriminator(name), self.maps.space, wish.share)
            words = f"; {said}"
        return {f"{name}, seed {wish.scene.noise.seed}": png(image)}, words

    def _done(self, drawn: Drawn) -> None:
        if drawn.image is None:
            self._say(drawn.text)
            return
        if drawn.wish.scene.generator is not self.generator:
            return  # asked before another checkpoint was chosen
        self.shown = drawn
        self.painter.image = png(drawn.image, 1)
        pictures = dict(drawn.pictures)
        photo = self.maps.photo(self.map.value, self.generator.size) if self.real.value else None
        if photo is not None:
            pictures["real, of the map before it was painted on"] = png(photo)
        self._put(pictures)
        self._say(drawn.text + ("; there is no real image of this size" if self.real.value and photo is None else ""))

    def _put(self, pictures: dict[str, bytes]) -> None:
        """Into the image widgets that are there: new ones would flicker."""
        if len(self.pictures.children) != len(pictures):
            self.pictures.children = [W.VBox([W.Label(), W.Image(format="png")]) for _ in pictures]
        for box, (caption, content) in zip(self.pictures.children, pictures.items(), strict=True):
            label, image = box.children
            label.value, image.value = caption, content

    def _say(self, text: str) -> None:
        self.status.value = html.escape(text)
