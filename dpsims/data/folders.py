"""Data sets as they lie on the disk: which image belongs to which label map, found by name and never by position.

| data set | official tree |
|---|---|
| ade20k | `[ADEChallengeData2016/]{images,annotations}/{training,validation}` |
| coco_stuff | `{train,val}2017`, `stuffthingmaps_trainval2017/{train,val}2017` |
| cityscapes | `leftImg8bit/{train,val}/CITY/*_leftImg8bit.png`, `gtFine/{train,val}/CITY/*_gtFine_labelIds.png` |
| custom | any two folders, see `custom` |

Each of the first three also as SPADE and OASIS have it: `{train,val}_img`, `{train,val}_label`.
"""

import hashlib
import math
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from dpsims.data.custom import read_description
from dpsims.encodings import RGB, Encoding, Palette, encoding
from dpsims.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # what is taken for an image, or a label map
SPLITS = ("train", "val")


class Tree(NamedTuple):
    """Where the splits of a data set lie; ``{}`` stands for what `names` calls the split there."""

    images: str
    labels: str
    names: dict[str, str]
    image_end: str = ""  # what a name ends with, beyond that of its pair
    label_end: str = ""


_SAME = {split: split for split in SPLITS}
_FLAT = Tree("{}_img", "{}_label", _SAME)
TREES = {
    "ade20k": (Tree("images/{}", "annotations/{}", {"train": "training", "val": "validation"}), _FLAT),
    "coco_stuff": (Tree("{}2017", "stuffthingmaps_trainval2017/{}2017", _SAME), _FLAT),
    "cityscapes": (Tree("leftImg8bit/{}", "gtFine/{}", _SAME, "_leftImg8bit", "_gtFine_labelIds"), _FLAT),
}
TOP = {"ade20k": "ADEChallengeData2016"}  # the folder that the archive makes


class Pair(NamedTuple):
    """A label map and its image; None where only label maps were asked for."""

    name: str  # path below the folder of the split, without suffix
    image: Path | None
    labels: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, if there is one, and the label map."""
        return (self.labels,) if self.image is None else (self.image, self.labels)


class Problem(NamedTuple):
    """A file that cannot be used."""

    file: Path
    reason: str

    def __str__(self) -> str:
        name = "".join(ascii(letter)[1:-1] if _is_no_text(letter) else letter for letter in str(self.file))
        return f"{name}: {self.reason}"


@dataclass(frozen=True)
class Folders:
    """A data set on the disk. `alone` are files without partner, `ignored` is the number of files that are no images by
    their name, hidden, or of another kind (such as instanceIds of Cityscapes)."""

    dataset: str
    encoding: Encoding | Palette
    splits: dict[str, tuple[Pair, ...]]  # in the order of the names
    alone: tuple[Problem, ...]
    ignored: int


class _Place(NamedTuple):
    """One split: its folders and what names end with."""

    images: Path
    labels: Path
    image_end: str = ""
    label_end: str = ""


def find_folders(dataset: str, root: str | Path, *, encoding_name: str = "raw", photos: bool = True) -> Folders:
    """Find a data set and pair its files.

    Args:
        dataset: "ade20k", "coco_stuff", "cityscapes" or "custom".
        root: the folder that its owners' archive makes or the one around it; of "custom" that of `dataset.yml`, or it.
        encoding_name: how label maps hold classes: "raw", "oasis", "spade" or "rgb"; "custom" knows the first and last.
        photos: False for label maps alone; no image is looked for.

    Raises:
        InputError: no such data set, layout or folder, two layouts, a split without pairs, two files of one name, a
            loop of symbolic links. Files without partner are no error here: they are listed.
    """
    root = Path(root)
    if not root.exists():
        raise InputError(f"{root}: no such folder; give the folder of {dataset} as --root")
    if dataset == "custom":
        return _apart(_custom(root, encoding_name, photos))
    if dataset not in TREES:
        raise InputError(f"dataset: {dataset!r} is not one of {', '.join([*TREES, 'custom'])}")
    top, tree = _tree(dataset, root)
    places = {
        split: _Place(top / tree.images.format(name), top / tree.labels.format(name), tree.image_end, tree.label_end)
        for split, name in tree.names.items()
    }
    return _apart(_paired(dataset, encoding(dataset, encoding_name), places, photos))


def _apart(folders: Folders) -> Folders:
    """Itself; raises InputError where a link makes a label map one of both splits: it would be learnt and measured."""
    train, val = (
        {(s.st_dev, s.st_ino): pair.labels for pair in folders.splits[split] for s in [pair.labels.stat()] if s.st_ino}
        for split in SPLITS
    )
    for both in train.keys() & val.keys():
        raise InputError(f"{train[both]}: the same file as {val[both]}, which is held out; remove one of these links")
    return folders


def _tree(dataset: str, root: Path) -> tuple[Path, Tree]:
    """The folder that holds the data set, and how."""
    found = _found(dataset, root)
    if len(found) > 1:
        two = " and ".join(str(_labels(*one, "train")) for one in found[:2])
        raise InputError(f"{root}: holds two layouts, {two}; give a folder with one of them")
    if not found:
        wanted = " or ".join(tree.labels.format(tree.names["train"]) for tree in TREES[dataset])
        other = [name for name in TREES if name != dataset and _found(name, root)]
        hint = f"it looks like {other[0]}" if other else "give the folder around it"
        raise InputError(f"{root}: holds no folder {wanted}, as {dataset} has it; {hint}")
    return found[0]


def _found(dataset: str, root: Path) -> list[tuple[Path, Tree]]:
    tops = [root, *([root / TOP[dataset]] if dataset in TOP else [])]
    return [(top, t) for top in tops for t in TREES[dataset] if any(_labels(top, t, s).is_dir() for s in SPLITS)]


def _labels(top: Path, tree: Tree, split: str) -> Path:
    return top / tree.labels.format(tree.names[split])


def _custom(root: Path, encoding_name: str, photos: bool) -> Folders:
    given = read_description(root)
    if encoding_name not in ("raw", RGB):
        raise InputError(f"encoding: {encoding_name!r} is not one of raw, {RGB}, in which custom data come")
    coding = Palette(given.encoding.space) if encoding_name == RGB else given.encoding
    if any((given.labels / split).is_dir() for split in SPLITS):
        if given.val is not None:
            raise InputError(
                f"{given.file}: val is given, but {given.labels} has folders that tell; remove one of them"
            )
        places = {split: _Place(given.images / split, given.labels / split) for split in SPLITS}
        folders = _paired("custom", coding, places, photos)
        tops = [given.images, given.labels] if photos else [given.labels]
        beside = [top.iterdir() for top in tops if top.is_dir()]
        outside = [entry for entries in beside for entry in entries if entry.name not in SPLITS]
        files = sum(sum(1 for _ in _files(entry, (entry,))) if entry.is_dir() else 1 for entry in outside)
        return replace(folders, ignored=folders.ignored + files)
    if given.val is None:
        raise InputError(
            f"{given.labels}: has no folders train and val; make them there and in {given.images}, or add val: 0.1 to "
            f"{given.file} to hold out a tenth"
        )
    whole = _paired("custom", coding, {"all": _Place(given.images, given.labels)}, photos)
    pairs = whole.splits["all"]
    if len(pairs) < 2:
        raise InputError(f"{given.labels}: holds one pair; two are needed, since one is held out")
    # by a hash of the name, so that order and date play no part; at least one on either side
    order = sorted(pairs, key=lambda pair: hashlib.sha256(pair.name.encode()).digest())
    held_out = set(order[: min(math.ceil(given.val * len(pairs)), len(pairs) - 1)])
    splits = {"train": tuple(p for p in pairs if p not in held_out), "val": tuple(p for p in pairs if p in held_out)}
    return Folders("custom", coding, splits, whole.alone, whole.ignored)


def _paired(dataset: str, coding: Encoding | Palette, places: dict[str, _Place], photos: bool) -> Folders:
    splits, alone, ignored = {}, [], 0
    for split, place in places.items():
        labels, bad, others = _by_name(place.labels, place.label_end, "label map")
        alone += bad
        ignored += others
        if photos:
            if not place.images.is_dir():
                raise InputError(
                    f"{place.images}: no such folder; it should hold the images of this split. For label maps alone, "
                    "to draw images of, pass --labels-only"
                )
            images, bad, others = _by_name(place.images, place.image_end, "image")
            alone += bad
            ignored += others
            both = sorted(labels.keys() & images.keys())
            if not both:
                one, other = min(images.values()).name, min(labels.values()).name
                raise InputError(
                    f"{place.labels}: none of its {len(labels)} label maps has the name of one of the {len(images)} "
                    f"images in {place.images}, such as {other} and {one}; rename them to agree up to the suffix"
                )
            splits[split] = tuple(Pair(name, images[name], labels[name]) for name in both)
            reason = "has no partner of this name in {}; add it"
            alone += [Problem(images[n], reason.format(place.labels)) for n in sorted(images.keys() - labels.keys())]
            alone += [Problem(labels[n], reason.format(place.images)) for n in sorted(labels.keys() - images.keys())]
        else:
            splits[split] = tuple(Pair(name, None, labels[name]) for name in sorted(labels))
    return Folders(dataset, coding, splits, tuple(alone), ignored)


def _by_name(folder: Path, end: str, kind: str) -> tuple[dict[str, Path], list[Problem], int]:
    """The images or label maps below a folder by name, those that cannot be used, and the number of other files."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; it should hold the {kind}s of this split")
    found: dict[str, Path] = {}
    bad: list[Problem] = []
    others, train_ids = 0, False
    for path in _files(folder, (folder,)):
        train_ids = train_ids or path.stem.endswith("_labelTrainIds")
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if path.suffix.lower() not in SUFFIXES or not path.stem.endswith(end) or hidden:
            others += 1
            continue
        # macOS takes umlauts apart, others do not
        name = unicodedata.normalize("NFC", relative.with_suffix("").as_posix().removesuffix(end))
        if reason := _unusable(path, name, found):
            bad.append(Problem(path, reason))
        else:
            found[name] = path
    if not found and train_ids:
        raise InputError(
            f"{folder}: holds *_labelTrainIds.png only, in which 14 of the 33 classes are lost; give "
            "*_labelIds.png, as in gtFine_trainvaltest.zip"
        )
    if not found:
        ending = f" (*{end}.png)" if end else ""
        raise InputError(f"{folder}: holds no {kind}s{ending}; is the archive unpacked?")
    return found, bad, others


def _is_no_text(letter: str) -> bool:
    """Ends of lines and other controls, and bytes that are no UTF-8."""
    return unicodedata.category(letter) in ("Cc", "Cs")


def _unusable(path: Path, name: str, found: dict[str, Path]) -> str:
    """Why a file cannot be taken for what its name says; empty where it can."""
    if any(map(_is_no_text, name)):
        return "has a name that is no line of UTF-8 text; rename it, with its partner"
    if name in found:
        return f"has the name of {found[name].name}; pairs are found by name, so remove one of them"
    try:
        mode = path.stat().st_mode
    except OSError as error:  # a link to itself, or to nothing
        return f"cannot be followed ({error.strerror}); remove or mend this link"
    return "" if stat.S_ISREG(mode) else "is no file, but a pipe or a device; remove it"


def _files(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """All files below a folder, in order; links to folders are followed, but not in a circle."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except PermissionError:
        raise InputError(f"{folder}: is closed to you; ask for the right to read it") from None
    for entry in entries:
        if not entry.is_dir():
            yield entry
        elif any(os.path.samefile(entry, other) for other in (*above, *folder.resolve().parents)):
            raise InputError(f"{entry}: a symbolic link to a folder that it lies in, so it never ends; remove it")
        else:
            yield from _files(entry, (*above, entry))
