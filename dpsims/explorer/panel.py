"""The explorer: paint a label map, and watch the images that a trained generator draws for it.

The painter holds the label map; the controls hold the noise; the studio draws, in a thread, the newest wish first, so
that neither painting nor a slider ever waits for it. Every control is an attribute: ``panel.controls.seed.value = 3``
does what a hand does.

H and W height and width, N maps.
"""

import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ipywidgets as W
import numpy as np

from dpsims.explorer.controls import NoiseControls, push_button, row, share_slider, wide
from dpsims.explorer.drawing import Kept, Scene
from dpsims.explorer.latest import LatestWins, in_words
from dpsims.explorer.maps import Maps
from dpsims.explorer.painter import NOWHERE, LabelPainter
from dpsims.explorer.pictures import png
from dpsims.explorer.studio import NONE, Drawn, Studio, Wish
from dpsims.explorer.tabs import DataPart, Samples, Walks
from dpsims.explorer.views import IMAGE, VIEWS
from dpsims.labels import resize_nearest
from dpsims.synthesis import Synthesizer

TABS = ("Noise", "Samples", "Walk", "Data")


class Picture(W.VBox):
    """An image under its caption."""

    def __init__(self) -> None:
        self.caption, self.image = W.Label(), W.Image(format="png")
        super().__init__([self.caption, self.image])


class ExplorerPanel(W.VBox):
    """Painter, controls and images.

    Args:
        checkpoints: folders of checkpoints by the names to choose from, the first is shown first; or generators that
            are loaded already.
        maps: the label maps to start from.
        seed: of the first image.

    Attributes:
        painter: with the label map; there is one for every size of images, and this is the one that is shown.
        controls: of the noise.
        shown: the newest image.
        latest: draws; ``await panel.latest.idle()`` waits for it.

    Raises:
        InputError: the first checkpoint cannot be loaded or is for other classes than `maps`.
    """

    painter: LabelPainter

    def __init__(self, checkpoints: Mapping[str, str | Path | Synthesizer], maps: Maps, seed: int = 0) -> None:
        self.maps, self.studio = maps, Studio(checkpoints, maps.space)
        first = next(iter(checkpoints))
        self.generator = self.studio.generator(first)
        self.shown: Drawn | None = None
        self._kept: Kept | None = None
        self._of_image = True  # whether `problem` is about the image that is shown
        self._painters: dict[tuple[int, int], LabelPainter] = {}
        self._left: tuple[np.ndarray, np.ndarray] | None = None  # labels of another size, and what they became in this
        self.latest: LatestWins[Wish, Drawn] = LatestWins(self.studio.draw, self._show, self._failed)
        self._loading: LatestWins[str, tuple[str, Synthesizer]] = LatestWins(self._load, self._use, self._not_loaded)
        self._make_sources(first)
        self._make_pictures()
        self.controls = NoiseControls(maps.space, seed, self.ask, self._keep)
        self.samples = Samples(self.scene, self._moods, self._take_seed)
        self.walks = Walks(self.scene, seed)
        self.data = DataPart(maps, self.choose)
        self.tabs = W.Tab([self.controls, self.samples, self.walks, self.data], titles=TABS)
        self.tabs.observe(self._open_tab, "selected_index")
        self._stage = W.VBox(layout=W.Layout(flex="1 1 700px", min_width="0"))  # beside the image from 1,130 pixels on
        main = W.HBox([self._stage, self._results], layout=W.Layout(flex_flow="row wrap", align_items="flex-start"))
        super().__init__([self._sources, main, self.tabs])
        self._start()
        self.latest.now(self._wish())

    def __repr__(self) -> str:
        height, width = self.generator.size
        return f"ExplorerPanel({len(self.maps)} maps, {', '.join(self.studio.given)}, {height} x {width})"

    # -- parts

    def _make_sources(self, first: str) -> None:
        self.map = W.BoundedIntText(value=0, min=0, max=len(self.maps) - 1, **wide("map"))
        self.map_name = W.Label()
        self.again = push_button("As it was", "undo", "The label map as it was before it was painted on")
        names = list(self.studio.given)
        self.checkpoint = W.Dropdown(options=names, value=first, **wide("checkpoint"))
        second = [("nothing", NONE), *((name, name) for name in names)]
        self.second = W.Dropdown(options=second, **wide("beside it"))
        self._sources = row(self.map, self.map_name, self.again, self.checkpoint, self.second)
        self.map.observe(lambda change: self._restart(), "value")
        self.again.on_click(lambda button: self._restart())
        self.checkpoint.observe(lambda change: self._loading.ask(change["new"]), "value")
        self.second.observe(lambda change: self.ask(), "value")

    def _make_pictures(self) -> None:
        self.kind = W.Dropdown(options=VIEWS, value=IMAGE, **wide("show"))
        self.share = share_slider("its opacity", value=0.6)
        self.share.layout.visibility = "hidden"
        self.real = W.Checkbox(description="the real image beside it", indent=False, layout=W.Layout(width="auto"))
        self.status, self.problem = W.HTML(), W.HTML()
        self._boxes: list[Picture] = []
        self.pictures = W.Box(layout=W.Layout(flex_flow="row wrap"))
        parts = [row(self.kind, self.real, self.share), self.pictures, self.status, self.problem]
        self._results = W.VBox(parts, layout=W.Layout(flex="1 1 400px", min_width="0"))
        for control in (self.kind, self.share, self.real):
            control.observe(self._change_view, "value")

    # -- what the user does

    def choose(self, number: int) -> None:
        """Starts from a map of the collection; one step of undo brings back what was painted before."""
        if number == self.map.value:
            self._restart()
        else:
            self.map.value = number

    def _restart(self) -> None:
        self._start()
        self.ask()

    def _start(self) -> None:
        self._release()
        self.samples.clear()
        self._left = None
        self.map_name.value = self.maps.name(self.map.value)
        self._set_labels(self.maps.labels(self.map.value, self.generator.size))

    def _set_labels(self, labels: np.ndarray) -> None:
        """Into the painter of their size, which is then the one that is shown."""
        if labels.shape not in self._painters:
            painter = LabelPainter(labels, self.maps.space)
            painter.on_paint(lambda labels: self.ask())
            painter.on_region(lambda region: self.ask())
            painter.observe(self._picked, "picked_at")
            self._painters[labels.shape] = painter
        self.painter = self._painters[labels.shape]
        self.painter.labels = labels
        self._stage.children = [self.painter]

    def _picked(self, change: dict[str, Any]) -> None:
        """A click in the mode "pick" chooses the class whose noise is changed."""
        if self.painter.picked == NOWHERE or NOWHERE in change["new"]:
            return
        self.controls.own_class.value = self.painter.picked
        self.painter.tell(f"The noise of {self.maps.space.names[self.painter.picked]} can be changed below.")
        self.painter.picked_at = [NOWHERE, NOWHERE]  # so that the same place can be clicked again

    def _change_view(self, change: dict[str, Any]) -> None:
        self.share.layout.visibility = "hidden" if self.kind.value == IMAGE else "visible"
        self.ask()

    def _load(self, name: str) -> tuple[str, Synthesizer]:
        return name, self.studio.generator(name)

    def _use(self, loaded: tuple[str, Synthesizer]) -> None:
        """Another checkpoint; where its images have another size, the painting is brought to it."""
        name, generator = loaded
        if name != self.checkpoint.value or generator is self.generator:
            return
        before, self.generator = self.painter, generator
        self._release()
        if before.size != generator.size:
            labels = before.labels
            unpainted = self._left is not None and (labels == self._left[1]).all()
            back = unpainted and self._left[0].shape == generator.size
            becomes = self._left[0] if back else resize_nearest(labels, generator.size)
            self._left = (labels, becomes)
            self._set_labels(becomes)
            self.painter.region = resize_nearest(before.region, generator.size)
        self.ask()

    def _not_loaded(self, error: Exception) -> None:
        loaded = [name for name in self.studio.given if self._is_here(name)]
        self.checkpoint.value = loaded[0]
        self._failed(error)

    def _is_here(self, name: str) -> bool:
        return self.studio.loaded(name) is self.generator

    def _take_seed(self, seed: int) -> None:
        self.controls.seed.value = seed

    def _moods(self) -> dict[str, np.ndarray]:
        return self.maps.moods(self.map.value, self.generator.size)

    def _release(self) -> None:
        """What stays belongs to one map and one generator."""
        self._kept = None
        self.controls.release()

    def _keep(self) -> None:
        """What is locked is what is shown now; where its image is still to come, it is drawn at once."""
        if self.shown is None or not self._is_of_now(self.shown.wish):
            self.latest.now(self._wish())
        if self.shown is None or not self._is_of_now(self.shown.wish):
            self._release()  # it could not be drawn, as is said
            return
        controls, scene = self.controls, self.shown.wish.scene
        classes = frozenset(self.maps.space.id_of(name) for name in controls.locked.value)
        some = classes or controls.outside.value
        self._kept = Kept(self.shown.image, scene.labels, classes, controls.outside.value) if some else None
        self.ask()

    def _open_tab(self, change: dict[str, Any]) -> None:
        if change["new"] == TABS.index("Data"):
            self.data.look(self.generator.size)

    # -- drawing

    def scene(self) -> Scene:
        """All that the image is made of, as it is now."""
        painter = self.painter
        return Scene(self.generator, painter.labels, painter.region, self.controls.noise(), self._kept)

    def _wish(self) -> Wish:
        name = next(name for name in self.studio.given if self._is_here(name))
        return Wish(self.scene(), name, self.map.value, self.second.value, self.kind.value, self.share.value)

    def ask(self) -> None:
        """Draws soon, or at once where no event loop runs."""
        self.problem.value, self._of_image = "", True
        self.latest.ask(self._wish())

    def _is_of_now(self, wish: Wish) -> bool:
        """Whether a wish is for this generator and this map: one that was asked before may come late."""
        return wish.scene.generator is self.generator and wish.number == self.map.value

    def _show(self, drawn: Drawn) -> None:
        if not self._is_of_now(drawn.wish):
            return
        self.shown = drawn
        self.painter.image = png(drawn.image, 1)
        pictures, problems = dict(drawn.pictures), list(drawn.problems)
        if self.real.value:
            photo = self.maps.photo(drawn.wish.number, self.generator.size)
            if photo is None:
                problems.append("There is no real image of this size.")
            else:
                pictures[f"real: map {drawn.wish.number} as it was"] = png(photo)
        problems += self._why_nothing_changes(drawn.wish.scene)
        self._put(pictures)
        self.status.value = html.escape(drawn.words)
        if problems or self._of_image:  # else what is told is not the image's, and stays until the user does something
            self.problem.value, self._of_image = "<br>".join(map(html.escape, problems)), True

    @staticmethod
    def _why_nothing_changes(scene: Scene) -> Iterator[str]:
        """What lets the controls seem dead, in words."""
        if scene.kept is not None and scene.kept.where(scene.labels, scene.region).all():
            unmarked = scene.kept.outside and not scene.region.any()
            yield f"Everything stays as it is: {'no region is marked' if unmarked else 'all of it is locked'}."
        if scene.noise.region is not None and not scene.region.any():
            yield "No region is marked, so its noise is nowhere."
        if not scene.noise.strength:
            yield "At strength 0 every seed gives the same image."

    def _put(self, pictures: dict[str, bytes]) -> None:
        """Into the image widgets that are there: new ones would flicker, and add up."""
        while len(self._boxes) < len(pictures):
            self._boxes.append(Picture())
        for box, (caption, content) in zip(self._boxes, pictures.items(), strict=False):
            box.caption.value, box.image.value = caption, content
        if len(self.pictures.children) != len(pictures):
            self.pictures.children = self._boxes[: len(pictures)]

    def _failed(self, error: Exception) -> None:
        self.problem.value, self._of_image = html.escape(in_words(error)), False
