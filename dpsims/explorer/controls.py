"""The explorer's controls of the noise: of the image, of classes, of a painted region; and what stays as it is."""

import html
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ipywidgets as W

from dpsims.explorer.drawing import Noise, Own
from dpsims.labels import LabelSpace

LARGEST = 2**31 - 1  # seed in a box


def wide(description: str, tooltip: str = "") -> dict[str, Any]:
    """Description, tooltip, style and width of a control; a layout of its own, since widgets share what is given."""
    looks = {"style": {"description_width": "90px"}, "layout": W.Layout(width="260px")}
    return {"description": description, "tooltip": tooltip or description, **looks}


def push_button(text: str, icon: str = "", tooltip: str = "") -> W.Button:
    """A button as wide as its text."""
    return W.Button(description=text, icon=icon, tooltip=tooltip or text, layout=W.Layout(width="auto"))


def seed_box(value: int, description: str) -> W.BoundedIntText:
    """A box for a seed."""
    return W.BoundedIntText(value=value, min=0, max=LARGEST, **wide(description))


def share_slider(description: str, largest: float = 1.0, value: float = 0.0, tooltip: str = "") -> W.FloatSlider:
    """A slider that reports while it is dragged: whoever listens leaves out what is overtaken."""
    return W.FloatSlider(
        value=value,
        min=0.0,
        max=largest,
        step=0.05,
        readout_format=".2f",
        **wide(description, tooltip),
    )


def row(*parts: W.Widget) -> W.HBox:
    """Side by side, on more lines where the page is narrow."""
    return W.HBox(parts, layout=W.Layout(flex_flow="row wrap", align_items="center"))


def titled(title: str, *rows: W.Widget) -> W.VBox:
    """Controls that belong together, under their name."""
    return W.VBox([W.HTML(f"<b>{title}</b>"), *rows], layout=W.Layout(width="274px", margin="0 14px 8px 0"))


class NoiseControls(W.HBox):
    """Controls of the noise; each is an attribute, so that scripts and tests move it: ``controls.seed.value = 3``.

    Args:
        space: the classes.
        seed: of the first image.
        changed: called without arguments when an image is to be drawn anew.
        lock: called when what stays has changed: what stays is what is shown at that moment.

    Attributes:
        own: the noises of classes, by id; the controls show that of the class in `own_class`.
    """

    def __init__(self, space: LabelSpace, seed: int, changed: Callable[[], None], lock: Callable[[], None]) -> None:
        self.space, self._changed, self._lock = space, changed, lock
        self.own: dict[int, Own] = {}
        self._silent = False
        self.seed = seed_box(seed, "seed")
        self.next_seed = push_button("Another seed", "refresh")
        self.strength = share_slider("strength", 2.0, 1.0, "0: what the label map alone says; 1: as trained")
        classes = [(name, number) for number, name in enumerate(space.names)]
        self.own_class = W.Dropdown(options=classes, value=min(1, space.num_classes), **wide("class"))
        self.own_share = share_slider("its noise", tooltip="0: that of the image; 1: that of its own seed")
        self.own_seed = seed_box(seed + 1 if seed < LARGEST else 0, "its seed")
        self.renew = push_button("New noise for this class", "refresh")
        self.forget = push_button("No own noise", tooltip="All classes have the noise of the image again")
        self.have = W.HTML()
        self.region_share = share_slider("its noise", tooltip="0: that of the image; 1: that of its own seed")
        self.region_seed = seed_box(self.own_seed.value, "its seed")
        self.renew_region = push_button("New noise in the region", "refresh")
        self.outside = W.Checkbox(description="outside stays, pixel by pixel", indent=False)
        self.locked = W.TagsInput(allowed_tags=list(space.names), allow_duplicates=False, placeholder="a class")
        self.lock_this = push_button("Lock this class", "lock", "It stays as it is")
        self.lock_rest = push_button("Lock all others", "lock", "All classes but this one stay as they are")
        self.unlock = push_button("Unlock all", "unlock")
        super().__init__(self._groups(), layout=W.Layout(flex_flow="row wrap"))
        self._listen()

    def _groups(self) -> list[W.Widget]:
        deeds = row(self.renew, self.forget, self.lock_this, self.lock_rest)
        return [
            titled("Noise of the image", self.seed, self.strength, self.next_seed),
            titled("Noise of one class", self.own_class, self.own_share, self.own_seed, deeds, self.have),
            titled("Noise in the painted region", self.region_share, self.region_seed, self.renew_region, self.outside),
            titled("Classes that stay, pixel by pixel", self.locked, self.unlock),
        ]

    def _listen(self) -> None:
        for control in (self.seed, self.strength, self.region_share, self.region_seed):
            control.observe(lambda change: self._silent or self._changed(), "value")
        for control in (self.own_share, self.own_seed):
            control.observe(self._keep_own, "value")
        for control in (self.locked, self.outside):
            control.observe(lambda change: self._silent or self._lock(), "value")
        self.own_class.observe(self._show_own, "value")
        self.next_seed.on_click(lambda button: self._advance(self.seed))
        self.renew.on_click(lambda button: self._renew(self.own_seed, self.own_share))
        self.renew_region.on_click(lambda button: self._renew(self.region_seed, self.region_share))
        self.forget.on_click(self._forget)
        self.lock_this.on_click(self._lock_this)
        self.lock_rest.on_click(self._lock_rest)
        self.unlock.on_click(self._unlock)

    def noise(self) -> Noise:
        """What is chosen now."""
        region = Own(self.region_seed.value, self.region_share.value)
        return Noise(self.seed.value, self.strength.value, dict(self.own), region if region.share else None)

    def release(self) -> None:
        """Nothing stays any more; nobody is told."""
        with self._quietly():
            self.outside.value, self.locked.value = False, []

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Controls that are set in here tell nobody."""
        before, self._silent = self._silent, True
        try:
            yield
        finally:
            self._silent = before

    @staticmethod
    def _advance(box: W.BoundedIntText) -> None:
        box.value = box.value + 1 if box.value < LARGEST else 0

    def _renew(self, box: W.BoundedIntText, share: W.FloatSlider) -> None:
        """Another seed, and all of it, with one image."""
        if not share.value:
            with self._quietly():
                share.value = 1.0
        self._advance(box)

    def _keep_own(self, change: dict[str, Any]) -> None:
        if self._silent:
            return
        self.own[self.own_class.value] = Own(self.own_seed.value, self.own_share.value)
        self._tell()
        self._changed()

    def _show_own(self, change: dict[str, Any]) -> None:
        own = self.own.get(change["new"], Own(self.own_seed.value, 0.0))
        with self._quietly():
            self.own_seed.value, self.own_share.value = own.seed, own.share

    def _forget(self, button: W.Button) -> None:
        self.own.clear()
        self._show_own({"new": self.own_class.value})
        self._tell()
        self._changed()

    def _tell(self) -> None:
        names = [f"{self.space.names[number]} (seed {own.seed})" for number, own in self.own.items() if own.share]
        self.have.value = html.escape(f"with a noise of their own: {', '.join(names)}") if names else ""

    def _lock_this(self, button: W.Button) -> None:
        name = self.space.names[self.own_class.value]
        if name not in self.locked.value:
            self.locked.value = [*self.locked.value, name]

    def _lock_rest(self, button: W.Button) -> None:
        free = self.own_class.value
        self.locked.value = [name for number, name in enumerate(self.space.names) if number != free]

    def _unlock(self, button: W.Button) -> None:
        with self._quietly():
            self.outside.value = False
        if self.locked.value:
            self.locked.value = []
        else:
            self._lock()
