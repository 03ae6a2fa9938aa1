"""Parts of the explorer that make many images when they are asked to: samples, moods, walks, thumbnails.

H and W height and width.
"""

import asyncio
import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import ipywidgets as W
import numpy as np

from dpsims.data.occurrence import class_counts
from dpsims.explorer.browser import DataBrowser
from dpsims.explorer.controls import LARGEST, push_button, row, seed_box, wide
from dpsims.explorer.drawing import Scene
from dpsims.explorer.latest import LatestWins, in_words
from dpsims.explorer.maps import Maps
from dpsims.explorer.pictures import gif, link, png, strip

SMALL = 192  # pixels on the screen, the longer side of an image among many
IN_STRIP = 8  # frames of a walk that are shown side by side
BLOCKS = 10  # parts in which a data set is counted, so that the bar moves

Wish = TypeVar("Wish")
Made = TypeVar("Made")


class Asked(NamedTuple):
    """A wish, and which it is: only the newest is shown."""

    number: int
    wish: Any


class Series(W.VBox, Generic[Wish, Made]):
    """A part that makes one thing after the other, with a bar, and can be asked anew at any time.

    Args:
        controls: above the bar.
        results: below it.
    """

    def __init__(self, controls: list[W.Widget], results: list[W.Widget]) -> None:
        self.bar = W.IntProgress(min=0, layout=W.Layout(width="260px", visibility="hidden"))
        self.message = W.HTML()
        self.latest: LatestWins[Asked, tuple] = LatestWins(self._work, self._done, self._failed)
        self._newest = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__([row(*controls, self.bar), self.message, *results])

    def steps(self, wish: Wish) -> Iterator[Any]:
        """What is made, piece by piece; called in a thread, and left off when it is overtaken."""
        raise NotImplementedError

    def finish(self, wish: Wish, pieces: list[Any]) -> Made:
        """What is made of all of them; in the thread too."""
        raise NotImplementedError

    def show(self, wish: Wish, made: Made) -> None:
        """Puts it into widgets."""
        raise NotImplementedError

    def ask(self, wish: Wish, count: int) -> None:
        """Makes `count` pieces soon, or at once where no event loop runs."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self.leave()
        self.bar.value, self.bar.max, self.bar.layout.visibility = 0, count, "visible"
        self.latest.ask(Asked(self._newest, wish))

    def leave(self) -> None:
        """What is under way is not wanted any more."""
        self._newest += 1
        self.bar.layout.visibility = "hidden"
        self.message.value = ""

    def _work(self, asked: Asked) -> tuple[Asked, Made | None]:
        pieces: list[Any] = []
        for piece in self.steps(asked.wish):
            if asked.number != self._newest:
                return asked, None
            pieces.append(piece)
            self._progress(asked.number, len(pieces))
        return asked, self.finish(asked.wish, pieces)

    def _progress(self, number: int, count: int) -> None:
        """From the thread; widgets are changed in the thread of the loop."""

        def set_bar() -> None:
            if number == self._newest:
                self.bar.value = count

        if self._loop is None:
            set_bar()
        else:
            self._loop.call_soon_threadsafe(set_bar)

    def _done(self, result: tuple[Asked, Made | None]) -> None:
        asked, made = result
        if asked.number == self._newest and made is not None:
            self.bar.layout.visibility = "hidden"
            self.show(asked.wish, made)

    def _failed(self, error: Exception) -> None:
        self.bar.layout.visibility = "hidden"
        self.message.value = html.escape(in_words(error))


class Sample(W.VBox):
    """An image with a button over it; filled again for other images, since new widgets would add up."""

    def __init__(self, clicked: Callable[[], None]) -> None:
        self.button = push_button("")
        self.image = W.Image(format="png", layout=W.Layout(width=f"{SMALL}px"))
        self.button.on_click(lambda button: clicked())
        super().__init__([self.button, self.image])


class Samples(Series[tuple[Scene, int], list]):
    """Several images of the map, each with its seed to take over; and the data's own moods of it.

    Args:
        scene: called for what is to be drawn now.
        moods: called for the moods of the map as the data have it; none where there are none.
        take: called with the seed of a sample that was chosen.
    """

    def __init__(
        self, scene: Callable[[], Scene], moods: Callable[[], dict[str, np.ndarray]], take: Callable[[int], None]
    ) -> None:
        self.scene, self._moods, self._take = scene, moods, take
        self._seeds: list[int] = []  # of the images shown; none of moods
        self._boxes: list[Sample] = []
        self.count = W.BoundedIntText(value=8, min=1, max=24, **wide("images"))
        self.draw = push_button("Draw samples", "th")
        self.reference = push_button(
            "Six moods of the data", tooltip="How the data set draws this map, as it was before it was painted on"
        )
        self.grid = W.Box(layout=W.Layout(flex_flow="row wrap"))
        super().__init__([self.count, self.draw, self.reference], [self.grid])
        self.draw.on_click(lambda button: self.ask((self.scene(), self.count.value), self.count.value))
        self.reference.on_click(self._show_moods)

    def steps(self, wish: tuple[Scene, int]) -> Iterator[tuple[int, bytes]]:
        """Seed and PNG."""
        scene, count = wish
        for seed in range(scene.noise.seed, min(scene.noise.seed + count, LARGEST + 1)):
            yield seed, png(scene.image(seed), SMALL)

    def finish(self, wish: tuple[Scene, int], pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """All of them."""
        return pieces

    def show(self, wish: tuple[Scene, int], made: list[tuple[int, bytes]]) -> None:
        """A button over each image takes its seed."""
        self._seeds = [seed for seed, _ in made]
        self._fill([(f"Take seed {seed}", picture) for seed, picture in made])

    def clear(self) -> None:
        """Another map: what is shown is of the old one."""
        self.leave()
        self._fill([])

    def _show_moods(self, button: W.Button) -> None:
        self.leave()
        moods, self._seeds = self._moods(), []
        self.message.value = "" if moods else "These data have no moods."
        self._fill([(name, png(image, SMALL)) for name, image in moods.items()])

    def _fill(self, named: list[tuple[str, bytes]]) -> None:
        while len(self._boxes) < len(named):
            self._boxes.append(Sample(partial(self._chosen, len(self._boxes))))
        for box, (name, picture) in zip(self._boxes, named, strict=False):
            box.button.description, box.button.disabled, box.image.value = name, not self._seeds, picture
        self.grid.children = self._boxes[: len(named)]

    def _chosen(self, place: int) -> None:
        if place < len(self._seeds):
            self._take(self._seeds[place])


@dataclass(frozen=True)
class Walk:
    """From one seed to another."""

    scene: Scene
    first: int
    second: int
    steps: int


class Walks(Series[Walk, tuple[bytes, bytes]]):
    """A strip and an animation from one seed to another, and links that save them.

    Args:
        scene: called for what is to be drawn now.
        seed: the first, at the start.
    """

    def __init__(self, scene: Callable[[], Scene], seed: int) -> None:
        self.scene = scene
        self.first, self.second = seed_box(seed, "from seed"), seed_box(seed + 1 if seed < LARGEST else 0, "to seed")
        self.count = W.BoundedIntText(value=24, min=2, max=96, **wide("images"))
        self.draw = push_button("Walk", "play")
        self.strip = W.Image(format="png", layout=W.Layout(max_width="100%", visibility="hidden"))
        self.animation = W.Image(format="gif", layout=W.Layout(max_width="100%", visibility="hidden"))
        self.save = W.HTML()
        results = [self.save, W.HBox([self.animation]), self.strip]
        super().__init__([self.first, self.second, self.count, self.draw], results)
        self.draw.on_click(self._begin)

    def _begin(self, button: W.Button) -> None:
        self.ask(Walk(self.scene(), self.first.value, self.second.value, self.count.value), self.count.value)

    def steps(self, wish: Walk) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 each."""
        return wish.scene.walk(wish.first, wish.second, wish.steps)

    def finish(self, wish: Walk, pieces: list[np.ndarray]) -> tuple[bytes, bytes]:
        """Strip (PNG) and animation (GIF); the strip takes frames at equal distances, both ends among them."""
        shown = np.linspace(0, len(pieces) - 1, min(IN_STRIP, len(pieces))).round().astype(int)
        return png(strip([pieces[i] for i in shown], IN_STRIP, SMALL // 2), 1), gif(pieces)

    def show(self, wish: Walk, made: tuple[bytes, bytes]) -> None:
        """The links hold the files themselves."""
        self.strip.value, self.animation.value = made
        self.strip.layout.visibility = self.animation.layout.visibility = "visible"
        name = f"walk-{wish.first}-{wish.second}"
        links = [link(made[1], f"{name}.gif", "Save the animation (GIF, there and back)")]
        links.append(link(made[0], f"{name}.png", "Save the strip (PNG)"))
        self.save.value = " &emsp; ".join(links)


class DataPart(Series[tuple[int, int], tuple]):
    """The label maps to start from, by their classes; read and counted when somebody looks for the first time.

    Args:
        maps: all of them.
        choose: called with the number of a map that is to be painted.
    """

    def __init__(self, maps: Maps, choose: Callable[[int], None]) -> None:
        self.maps, self._choose = maps, choose
        self.place = W.VBox()
        super().__init__([], [self.place])

    def look(self, size: tuple[int, int]) -> None:
        """Somebody looks; maps that are drawn are drawn at (H, W) pixels."""
        if not self.place.children:
            self.ask(size, BLOCKS + 1)

    def steps(self, wish: tuple[int, int]) -> Iterator[Any]:
        """The maps and their images, then the pixels of the classes, block by block."""
        labels, images = self.maps.everything(wish)
        yield labels, images
        for part in np.array_split(labels, min(BLOCKS, len(labels))):  # views: nothing is read yet
            yield class_counts(part, self.maps.space.num_classes, progress=False)

    def finish(self, wish: tuple[int, int], pieces: list[Any]) -> tuple:
        """Labels, images, names, counts."""
        (labels, images), *counts = pieces
        names = [self.maps.name(number) for number in range(len(labels))]
        return labels, images, names, np.concatenate(counts)

    def show(self, wish: tuple[int, int], made: tuple) -> None:
        """Makes the browser."""
        labels, images, names, counts = made
        self.place.children = [DataBrowser(labels, self.maps.space, images, names, self._choose, counts=counts)]
