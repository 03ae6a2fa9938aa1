"""Browsing the label maps of a data set by their classes: which hold one or two of them, in what order, and what is
seen together. Any map can be sent to the painter.

The pixels of all classes are counted once, when the browser opens; a change of a control sorts numbers that are there
and makes the thumbnails of one page. Every control is an attribute: ``browser.holds.value = 3`` does what a hand does.

N maps, H and W height and width, K classes.
"""

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import ipywidgets as W
import numpy as np

from dpsims.data.occurrence import class_counts, rarity, together
from dpsims.errors import InputError
from dpsims.explorer.controls import push_button, wide
from dpsims.explorer.thumbnails import Cell, thumbnail_size
from dpsims.labels import VOID, LabelSpace

ANY = VOID  # in place of a class: void is none
STORED, MOST, LEAST = "as stored", "most of the class first", "least of the class first"
RAREST, VARIED = "rarest class first", "most classes first"
ORDERS = (STORED, MOST, LEAST, RAREST, VARIED)
BY_NAME, BY_RARITY = "by name", "rarest first"
NAMED = 3  # classes that a fact names


class DataBrowser(W.VBox):
    """Label maps by class, rarity and co-occurrence.

    Args:
        labels: (N, H, W) uint8 ids, 0 = void, 1..K; an array, or one mapped from the disk, which is never read whole.
        space: the classes.
        images: (N, H, W, 3) uint8 photographs; None: there are none.
        names: N names or numbers for people; None: a map's place in `labels` is all.
        on_choose: called with the place of a map in `labels` when its button is clicked; an InputError that it raises
            is shown. None: nothing can be chosen.
        per_page: maps shown at a time.
        counts: (N, K+1) of `class_counts`, if they are known.

    Attributes:
        holds, also: ids of classes that the maps shown hold, both of them; 0: any.
        classes: how the classes are listed, "by name" or "rarest first".
        order: of the maps, one of `ORDERS`. The area of a class is that in `holds`, else that in `also`.
        page: from 1.
        found: places in `labels` of all maps that fit, in their order.

    Raises:
        InputError: shapes or types that do not fit, no maps, an id above K, or fewer than one map a page.
    """

    def __init__(
        self,
        labels: np.ndarray,
        space: LabelSpace,
        images: np.ndarray | None = None,
        names: Sequence[str | int] | None = None,
        on_choose: Callable[[int], None] | None = None,
        per_page: int = 12,
        counts: np.ndarray | None = None,
    ) -> None:
        _check(labels, images, names, per_page)
        self.labels, self.space, self.images, self.names = labels, space, images, names
        self.on_choose, self.per_page = on_choose, per_page
        self.counts = class_counts(labels, space.num_classes) if counts is None else counts
        self._together = together(self.counts)
        self._maps = self._together.diagonal()  # that hold each class
        self._rarity = rarity(self.counts)
        self._variety = np.count_nonzero(self.counts[:, 1:], axis=1)
        self._pixels = self.counts.sum(0, dtype=np.int64)
        self.found = np.arange(len(labels))
        self._filling = False  # while controls are set by the browser itself
        self._make_controls()
        size = thumbnail_size(*labels.shape[1:])
        self._cells = [Cell(size, images is not None, lambda i=i: self._choose(i)) for i in range(per_page)]
        self.grid = W.Box(layout=W.Layout(flex_flow="row wrap", align_items="flex-start"))
        wrap = W.Layout(flex_flow="row wrap", align_items="center")
        choices = W.HBox([self.holds, self.also, self.order, self.classes], layout=wrap)
        pages = W.HBox([self.previous, self.page, self.next, self.position], layout=wrap)
        super().__init__([choices, self.facts, pages, self.message, self.grid])
        self._list_classes()
        self._search()

    def __repr__(self) -> str:
        count, height, width = self.labels.shape
        return f"DataBrowser({_maps(count)} of {height} x {width}, {self.space.num_classes} classes)"

    # -- controls

    def _make_controls(self) -> None:
        self.holds = W.Dropdown(options=[("any", ANY)], **wide("holds"))
        self.also = W.Dropdown(options=[("any", ANY)], **wide("and also"))
        self.order = W.Dropdown(options=ORDERS, **wide("maps"))
        self.classes = W.Dropdown(options=(BY_NAME, BY_RARITY), **wide("classes"))
        self.page = W.BoundedIntText(value=1, min=1, max=1, layout=W.Layout(width="70px"))
        self.previous = push_button("Previous")
        self.next = push_button("Next")
        self.position, self.facts, self.message = W.Label(), W.HTML(), W.HTML()
        actions = {
            self.holds: self._take_class, self.also: self._search, self.order: self._search,
            self.classes: self._list_classes, self.page: self._show,
        }  # fmt: skip
        for control, action in actions.items():
            control.observe(lambda change, action=action: self._filling or action(), "value")
        self.previous.on_click(lambda button: self._turn(-1))
        self.next.on_click(lambda button: self._turn(1))

    @contextmanager
    def _quietly(self, control: W.Widget) -> Iterator[None]:
        """Changes a control in one message to the web page, and without searching at every step."""
        self._filling = True
        try:
            with control.hold_sync():
                yield
        finally:
            self._filling = False

    def _take_class(self) -> None:
        self._list_second()
        self._search()

    def _turn(self, pages: int) -> None:
        self.page.value += pages  # the control knows its ends

    # -- classes to choose from

    def _list_classes(self) -> None:
        """Writes the lists of classes; what is chosen stays so."""
        chosen, total = self.holds.value, len(self.labels)
        names = self.space.names
        with self._quietly(self.holds):
            listed = [(f"{names[i]} - {_maps(self._maps[i])}", i) for i in self._sorted(self._maps)]
            self.holds.options = [(f"any - {_maps(total)}", ANY), *listed]
            self.holds.value = chosen
        self._list_second()

    def _list_second(self) -> None:
        """Writes the list of second classes, with how many of the maps that hold the first one hold them too."""
        first, second, names = self.holds.value, self.also.value, self.space.names
        both = self._maps if first == ANY else self._together[first]
        total = len(self.labels) if first == ANY else self._maps[first]
        with self._quietly(self.also):
            listed = [(f"{names[i]} - {both[i]} of {total}", i) for i in self._sorted(both) if i != first]
            self.also.options = [("any", ANY), *listed]
            self.also.value = second if second != first else ANY

    def _sorted(self, maps: np.ndarray) -> list[int]:
        """All classes by name, or by the number of `maps` (K+1,) from 1 upwards, those in none at the end."""
        ids = range(1, len(maps))
        if self.classes.value == BY_NAME:
            return sorted(ids, key=lambda i: self.space.names[i].casefold())
        return sorted(ids, key=lambda i: (maps[i] == 0, maps[i]))

    # -- maps

    def _search(self) -> None:
        """Finds the maps, sorts them, and shows the first page."""
        wanted = self._wanted = [i for i in (self.holds.value, self.also.value) if i != ANY]
        found = np.flatnonzero((self.counts[:, wanted] > 0).all(axis=1))
        keys = {STORED: found, RAREST: self._rarity[found], VARIED: -self._variety[found]}
        if wanted:
            area = self.counts[found, wanted[0]]
            keys |= {MOST: -area, LEAST: area}
        key = keys.get(self.order.value, found)
        self.found = found[np.argsort(key, kind="stable")]
        with self._quietly(self.page):
            self.page.value = 1
            self.page.max = max(1, -(-len(found) // self.per_page))
        self.facts.value = self._told(wanted[0]) if wanted else self._told_of_all()
        self.message.value = self._remark()
        self._show()

    def _remark(self) -> str:
        """What the page itself does not say."""
        if not len(self.found):
            names = " and ".join(html.escape(self.space.names[i]) for i in self._wanted)
            return f"No map holds {'both ' * (len(self._wanted) > 1)}{names}."
        if not self._wanted and self.order.value in (MOST, LEAST):
            return "To order by the area of a class, choose one; until then the maps are shown as stored."
        return ""

    def _show(self) -> None:
        start = (self.page.value - 1) * self.per_page
        shown = self.found[start : start + self.per_page].tolist()
        for cell, number in zip(self._cells, shown, strict=False):
            photo = None if self.images is None else np.asarray(self.images[number])
            button = f"#{number}" if self.on_choose is None else f"Paint #{number}"
            cell.fill(np.asarray(self.labels[number]), self.space, photo, self._caption(number), button)
            cell.button.disabled = self.on_choose is None
        self._shown = shown
        self.grid.children = self._cells[: len(shown)]
        span = f"{start + 1}-{start + len(shown)}" if shown else "0"
        self.position.value = f"{span} of {len(self.found)}"
        self.previous.disabled, self.next.disabled = self.page.value == 1, self.page.value == self.page.max

    def _caption(self, number: int) -> str:
        """The map's name, and the share of its area that the first class has."""
        parts = [] if self.names is None else [str(self.names[number])]
        if self._wanted:
            parts.append(percent(self.counts[number, self._wanted[0]] / self.counts[number].sum()))
        return ", ".join(parts)

    def _choose(self, place: int) -> None:
        if self.on_choose is None or place >= len(self._shown):
            return  # the second: a click that was under way when the page changed
        try:
            self.on_choose(self._shown[place])
            self.message.value = self._remark()
        except InputError as error:
            self.message.value = html.escape(str(error))

    # -- facts

    def _told_of_all(self) -> str:
        occurring = np.count_nonzero(self._maps[1:])
        void = percent(self._pixels[VOID] / self._pixels.sum())
        return (
            f"{_maps(len(self.labels))}; {occurring} of {self.space.num_classes} classes occur, "
            f"{self._variety.mean():.1f} in a map on average; {void} of all pixels are void."
        )

    def _told(self, chosen: int) -> str:
        """How often a class is seen, how large, and with which others."""
        name, maps = html.escape(self.space.names[chosen]), int(self._maps[chosen])
        if not maps:
            return f"<b>{name}</b> is in no map."
        share, of_maps = percent(self._pixels[chosen] / self._pixels.sum()), percent(maps / len(self.labels))
        text = f"<b>{name}</b> is in {_maps(maps)} ({of_maps}) and covers {share} of all pixels."
        often, seldom = (self._listed(chosen, others) for others in companions(self._together, chosen))
        if often:
            text += f" Most often seen with {often}{f'; least often with {seldom}' if seldom else ''}."
        return text

    def _listed(self, chosen: int, others: list[int]) -> str:
        """Names of other classes, each with the share of the chosen one's maps that hold it."""
        shares = self._together[chosen] / self._maps[chosen]
        return ", ".join(f"{html.escape(self.space.names[i])} ({percent(shares[i])})" for i in others)


def companions(both: np.ndarray, chosen: int, count: int = NAMED) -> tuple[list[int], list[int]]:
    """The classes that are seen most often and least often with one of them, of all that occur; none is in both lists.

    Of two that are seen with it as often, the rarer says more in the first list, and the more frequent in the second.

    Args:
        both: (K+1, K+1), of `dpsims.data.occurrence.together`.
        chosen: id of the class.
        count: at most so many in each list.
    """
    maps = both.diagonal()
    others = np.array([i for i in range(1, len(maps)) if i != chosen and maps[i]], int)
    upwards = others[np.lexsort((-maps[others], both[chosen, others]))].tolist()
    often = upwards[::-1][:count]
    return often, upwards[: max(0, len(upwards) - len(often))][:count]


def percent(share: float) -> str:
    """A share in 0..1 for people: two digits below a tenth, whole numbers above, 100 only where it is all."""
    if 0.995 <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"


def _maps(count: int) -> str:
    return f"{count} map" if count == 1 else f"{count} maps"


def _check(labels: np.ndarray, images: np.ndarray | None, names: Sequence[str | int] | None, per_page: int) -> None:
    if len(labels.shape) != 3 or 0 in labels.shape:
        raise InputError(f"labels of shape {labels.shape}; give label maps, (N, H, W), one at least")
    if images is not None and (images.shape != (*labels.shape, 3) or images.dtype != np.uint8):
        raise InputError(
            f"images: {images.dtype} of shape {images.shape}; label maps of shape {labels.shape} need uint8 images of "
            f"shape {(*labels.shape, 3)}"
        )
    if names is not None and len(names) != len(labels):
        raise InputError(f"names: {len(names)} for {len(labels)} label maps; give one for each")
    if per_page < 1:
        raise InputError(f"per_page: {per_page} maps; give 1 or more")
