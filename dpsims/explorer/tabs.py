"""Parts of the explorer that draw many images when they are asked to: samples, moods, and walks between two seeds."""

import asyncio
import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import ipywidgets as W
import numpy as np

from dpsims.errors import InputError
from dpsims.explorer.controls import BUTTON, seed_box, wide
from dpsims.explorer.drawing import Kept, Noise, drawn
from dpsims.explorer.latest import LatestWins
from dpsims.explorer.pictures import gif, link, png, strip
from dpsims.images import to_uint8
from dpsims.synthesis import Synthesizer

SMALL = 192  # pixels on the screen, the longer side of an image among many
IN_STRIP = 8  # frames of a walk that are shown side by side


@dataclass(frozen=True)
class Scene:
    """All that an image is made of, as it is at one moment."""

    generator: Synthesizer
    labels: np.ndarray  # (H, W) ids
    region: np.ndarray  # (H, W) bool
    noise: Noise
    kept: Kept | None = None

    def image(self, seed: int | None = None) -> np.ndarray:
        """(H, W, 3) uint8; of another seed of the whole image if one is given."""
        noise = self.noise if seed is None else replace(self.noise, seed=seed)
        return drawn(self.generator, self.labels, noise, self.region, self.kept)


class Series(W.VBox):
    """A part that draws several images one after the other, with a bar, and can be asked anew at any time.

    Args:
        scene: called for what is to be drawn now.
        controls: above the bar.
        results: below it.
    """

    def __init__(self, scene: Callable[[], Scene], controls: list[W.Widget], results: list[W.Widget]) -> None:
        self.scene = scene
        self.bar = W.IntProgress(min=0, layout=W.Layout(width="300px", visibility="hidden"))
        self.message = W.HTML()
        self.latest: LatestWins[tuple, tuple] = LatestWins(self._work, self._done)
        self._loop: asyncio.AbstractEventLoop | None = None
        row = W.HBox([*controls, self.bar], layout=W.Layout(flex_flow="row wrap", align_items="center"))
        super().__init__([row, self.message, *results])

    def frames(self, wish: Any) -> Iterator[Any]:
        """The images of a wish, one after the other; called in a thread."""
        raise NotImplementedError

    def finish(self, wish: Any, frames: list[Any]) -> Any:
        """What is made of all of them; in the thread too."""
        return frames

    def show(self, wish: Any, made: Any) -> None:
        """Puts it into widgets."""
        raise NotImplementedError

    def ask(self, wish: Any, count: int) -> None:
        """Draws `count` images soon, or at once where no event loop runs."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        self.bar.value, self.bar.max, self.bar.layout.visibility = 0, count, "visible"
        self.latest.ask((wish, count))

    def _work(self, asked: tuple) -> tuple:
        frames: list[Any] = []
        try:
            for frame in self.frames(asked[0]):
                frames.append(frame)
                self._progress(len(frames))
            return asked[0], self.finish(asked[0], frames), ""
        except (InputError, RuntimeError, MemoryError) as error:  # torch says of memory that it is a RuntimeError
            return asked[0], None, html.escape(str(error)) or type(error).__name__

    def _progress(self, count: int) -> None:
        """From the thread; widgets are changed in the thread of the loop."""
        if self._loop is None:
            self.bar.value = count
        else:
            self._loop.call_soon_threadsafe(setattr, self.bar, "value", count)

    def _done(self, result: tuple) -> None:
        wish, made, problem = result
        self.bar.layout.visibility = "hidden"
        self.message.value = problem
        if made is not None:
            self.show(wish, made)


class Samples(Series):
    """Several images of the map, each with its seed to take over; and the data's own moods of it.

    Args:
        scene: see `Series`.
        moods: called for the moods of the map as the data have it; none where there are none.
        take: called with the seed of a sample that was chosen.
    """

    def __init__(
        self, scene: Callable[[], Scene], moods: Callable[[], dict[str, np.ndarray]], take: Callable[[int], None]
    ) -> None:
        self._moods, self._take = moods, take
        self.count = W.BoundedIntText(value=8, min=1, max=24, description="images", **wide())
        self.draw = W.Button(description="Draw samples", icon="th", layout=BUTTON)
        self.reference = W.Button(description="Six moods of the data", layout=BUTTON)
        self.reference.tooltip = "How the data set draws this map, as it was before it was painted on"
        self.grid = W.Box(layout=W.Layout(flex_flow="row wrap"))
        super().__init__(scene, [self.count, self.draw, self.reference], [self.grid])
        self.draw.on_click(lambda button: self.ask(self.scene(), self.count.value))
        self.reference.on_click(self._show_moods)

    def frames(self, wish: Scene) -> Iterator[tuple[int, np.ndarray]]:
        """Seed and image."""
        for seed in range(wish.noise.seed, wish.noise.seed + self.count.value):
            yield seed, wish.image(seed)

    def show(self, wish: Scene, made: list[tuple[int, np.ndarray]]) -> None:
        """A button over each image takes its seed."""
        boxes = []
        for seed, image in made:
            button = W.Button(description=f"Take seed {seed}", layout=BUTTON)
            button.on_click(lambda button, seed=seed: self._take(seed))
            boxes.append(W.VBox([button, W.Image(value=png(image, SMALL), format="png")]))
        self.grid.children = boxes

    def _show_moods(self, button: W.Button) -> None:
        moods = self._moods()
        self.message.value = "" if moods else "These data have no moods."
        images = [(W.Label(name), W.Image(value=png(image, SMALL), format="png")) for name, image in moods.items()]
        self.grid.children = [W.VBox(pair) for pair in images]


@dataclass(frozen=True)
class Walk:
    """From one seed to another."""

    scene: Scene
    first: int
    second: int
    steps: int


class Walks(Series):
    """A strip and an animation from one seed to another, and a link that saves it."""

    def __init__(self, scene: Callable[[], Scene], seed: int) -> None:
        self.first, self.second = seed_box(seed, "from seed"), seed_box(seed + 1, "to seed")
        self.steps = W.BoundedIntText(value=24, min=2, max=96, description="images", **wide())
        self.draw = W.Button(description="Walk", icon="play", layout=BUTTON)
        self.strip = W.Image(format="png", layout=W.Layout(max_width="100%"))
        self.animation = W.Image(format="gif", layout=W.Layout(max_width="100%"))
        self.save = W.HTML()
        super().__init__(
            scene, [self.first, self.second, self.steps, self.draw], [self.save, W.HBox([self.animation]), self.strip]
        )
        self.strip.layout.visibility = self.animation.layout.visibility = "hidden"
        self.draw.on_click(self._begin)

    def _begin(self, button: W.Button) -> None:
        self.ask(Walk(self.scene(), self.first.value, self.second.value, self.steps.value), self.steps.value)

    def frames(self, wish: Walk) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 each."""
        scene = wish.scene
        for image in scene.generator.walk(scene.labels, wish.first, wish.second, wish.steps, scene.noise.strength):
            frame = to_uint8(image)[0]
            yield frame if scene.kept is None else scene.kept.over(frame, scene.labels, scene.region)

    def finish(self, wish: Walk, frames: list[np.ndarray]) -> tuple[bytes, bytes]:
        """Strip (PNG) and animation (GIF); the strip takes frames at equal distances, both ends among them."""
        shown = np.linspace(0, len(frames) - 1, min(IN_STRIP, len(frames))).round().astype(int)
        return png(strip([frames[i] for i in shown], IN_STRIP, SMALL // 2), 1), gif(frames)

    def show(self, wish: Walk, made: tuple[bytes, bytes]) -> None:
        """The links hold the files themselves."""
        self.strip.value, self.animation.value = made
        self.strip.layout.visibility = self.animation.layout.visibility = "visible"
        name = f"walk-{wish.first}-{wish.second}"
        links = [link(made[1], f"{name}.gif", "Save the animation (GIF)")]
        links.append(link(made[0], f"{name}.png", "Save the strip (PNG)"))
        self.save.value = " &emsp; ".join(links)
