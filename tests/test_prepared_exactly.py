"""Any small tree is prepared exactly, or refused with the right file named: random values, modes, sizes, names, damage.

What is expected is told by numpy alone, from what dpsims documents: ids by the table of the encoding, then the pixel
whose centre is nearest, along either axis; of two as near the lower, or the right one. Each photograph has one colour,
so that it is seen which one lies beside which label map.
"""

import os
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from trees import encoded, nearest

from dpsims.data.prepare_folders import prepare_folders
from dpsims.data.prepared import load_prepared
from dpsims.encodings import ENCODINGS, encoding
from dpsims.errors import InputError
from dpsims.labels import label_space, resize_nearest

SETTINGS = settings(
    max_examples=3000 if os.environ.get("SLOW") == "1" else 200,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # a failure is small anyway, and smaller ones take minutes to find
)
MAP_DAMAGE = ("unknown", "void", "other kind", "jpeg", "empty", "cut", "flipped", "no image")
PHOTO_DAMAGE = ("other size", "clear", "photo empty", "photo cut", "photo flipped", "no labels")
# a byte may be lost that nobody needs; all others must be refused
PERHAPS = ("cut", "flipped", "photo cut", "photo flipped")
NAMES = st.text(st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1, max_size=8)


class Coding(NamedTuple):
    """What label maps hold for ids: K+1 numbers, the first None where there is no void; or K+1 colours."""

    dataset: str
    name: str
    values: list

    def usable(self):
        """The ids that a file can hold, but for classes that share a colour."""
        return [i for i, value in enumerate(self.values) if value is not None and self.values.count(value) == 1]

    def array(self):
        return np.array([0 if value is None else value for value in self.values])


class Pair(NamedTuple):
    """A pair on the disk: file names below its split and bytes, each of "image" and "labels"; its truth; and, where it
    is damaged, which of the two files is to be named, and words of the sentence."""

    name: str
    files: dict[str, tuple[str, bytes]]
    ids: np.ndarray
    colour: tuple[int, ...]
    damage: str | None
    named: str
    words: str


@st.composite
def codings(draw):
    dataset = draw(st.sampled_from(["ade20k", "coco_stuff", "cityscapes", "custom"]))
    if dataset == "custom":
        values = draw(
            st.lists(st.integers(0, draw(st.sampled_from([255, 65535]))), min_size=2, max_size=9, unique=True)
        )
        return Coding(dataset, "raw", [draw(st.sampled_from([None, values[0]])), *sorted(values[1:])])
    name = draw(st.sampled_from([*ENCODINGS[dataset], "rgb"]))
    return Coding(
        dataset, name, list(label_space(dataset).colours if name == "rgb" else encoding(dataset, name).values)
    )


def randomness(draw):
    return np.random.default_rng(draw(st.integers(0, 99)))


def painted(draw, coding, ids):
    """A label map in any of the ways in which one is written."""
    values, mode = coding.array(), draw(st.sampled_from(["plain", "palette", "wide"]))
    if coding.name == "rgb":
        if mode != "palette":
            return Image.fromarray(values.astype(np.uint8)[ids]).convert("RGB" if mode == "plain" else "RGBA")
        order = randomness(draw).permutation(len(values))  # a palette may have any
        image = Image.fromarray(np.argsort(order).astype(np.uint8)[ids])
        image.putpalette(values[order].astype(np.uint8).tobytes())
        return image
    if mode == "wide" or values.max() > 255:
        return Image.fromarray(values.astype(np.uint16)[ids])
    image = Image.fromarray(values.astype(np.uint8)[ids])
    if mode == "palette":
        image.putpalette(randomness(draw).bytes(768))  # says nothing of the ids
    return image


def with_a_stranger(draw, coding, ids):
    """A label map with one value or colour that stands for no class, and the words that tell it."""
    row, column = (draw(st.integers(0, side - 1)) for side in ids.shape)
    one = st.tuples(*[st.integers(0, 255)] * 3) if coding.name == "rgb" else st.integers(0, 65535)
    wrong = draw(one.filter(lambda value: value not in coding.values))
    values = coding.array().astype(np.uint8 if coding.name == "rgb" else np.uint16)[ids]
    values[row, column] = wrong
    what = "colour" if coding.name == "rgb" else "value"
    return Image.fromarray(values), f"{what} {wrong} at row {row}, column {column} "


def spoilt(draw, content, damage):
    """Cut anywhere, or with another byte anywhere."""
    place = draw(st.integers(0, len(content) - 1))
    if damage.endswith("cut"):
        return content[:place]
    return content[:place] + bytes([content[place] ^ draw(st.integers(1, 255))]) + content[place + 1 :]


def map_file(draw, coding, ids, damage):
    """The bytes of a label map, and words of the sentence that refuses it."""
    size, colours = ids.shape[::-1], coding.name == "rgb"
    match damage:
        case "unknown":
            image, words = with_a_stranger(draw, coding, ids)
            return encoded(image), words
        case "void":
            return encoded(painted(draw, coding, 0 * ids)), "every pixel is void"
        case "other kind":
            return encoded(
                Image.new("L" if colours else "RGB", size)
            ), "colours are meant" if colours else "--encoding rgb"
        case "jpeg":
            return encoded(Image.new("L", size), "JPEG"), "a JPEG file"
        case "empty":
            return b"", "it is empty"
    content = encoded(painted(draw, coding, ids))
    return spoilt(draw, content, damage) if damage in PERHAPS[:2] else content, ""


def photo_file(draw, colour, shape, damage):
    """The bytes of a photograph of its map's size, or of one several times as large."""
    times = draw(st.integers(1, 3))
    size = (shape[1] + 1, shape[0]) if damage == "other size" else (times * shape[1], times * shape[0])
    image = Image.new("RGBA", size, (*colour, 255))
    if damage == "clear":
        image.putpixel((0, 0), (*colour, draw(st.integers(0, 254))))
    elif draw(st.booleans()):
        image = image.convert("RGB")
    content = encoded(image)
    if damage == "photo empty":
        return b""
    return spoilt(draw, content, damage) if damage in PERHAPS[2:] else content


@st.composite
def pairs(draw, coding, name, sound):
    shape = draw(st.tuples(st.integers(1, 60), st.integers(1, 60)))
    damage = None if sound else draw(st.sampled_from([None, *MAP_DAMAGE, *PHOTO_DAMAGE]))
    if damage == "void" and 0 not in coding.usable():
        damage = "jpeg"
    random = randomness(draw)
    ids = random.choice(coding.usable(), shape)
    ids.flat[random.integers(ids.size)] = coding.usable()[-1]  # not all void
    colour = draw(st.tuples(*[st.integers(0, 255)] * 3))
    content, words = map_file(draw, coding, ids, damage)
    contents = {"image": photo_file(draw, colour, shape, damage), "labels": content}
    if damage in ("no image", "no labels"):
        del contents[damage.removeprefix("no ")]
    files = {}
    for kind, content in contents.items():
        written = unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), name)
        files[kind] = written + draw(st.sampled_from([".png", ".PNG"])), content
    named = "image" if damage in PHOTO_DAMAGE and damage != "other size" else "labels"
    return Pair(unicodedata.normalize("NFC", name), files, ids, colour, damage, named, words)


@st.composite
def data_sets(draw):
    """An encoding, pairs by split (the first of each is sound), and a size."""
    coding, splits = draw(codings()), {}
    for split, most in (("train", 5), ("val", 1)):
        names = draw(
            st.lists(
                NAMES.filter(lambda name: not name.startswith(".")),  # hidden files are no pairs
                min_size=(most + 1) // 2,
                max_size=most,
                unique_by=lambda name: unicodedata.normalize("NFC", name).casefold(),
            )
        )
        splits[split] = [draw(pairs(coding, name, sound=place == 0)) for place, name in enumerate(names)]
    return coding, splits, draw(st.tuples(st.integers(16, 40), st.integers(16, 40)))


def plant(root, coding, splits):
    """Writes the files; returns where those of a split lie."""
    form = "{1}/{0}" if coding.dataset == "custom" else "{0}_{1}"
    kinds = (
        {"image": "images", "labels": "labels"} if coding.dataset == "custom" else {"image": "img", "labels": "label"}
    )
    places = {(split, kind): root / form.format(split, word) for split in splits for kind, word in kinds.items()}
    for (split, kind), folder in places.items():
        folder.mkdir(parents=True)
        for pair in splits[split]:
            if kind in pair.files:
                name, content = pair.files[kind]
                (folder / name).write_bytes(content)
    if coding.dataset == "custom":
        void = "" if coding.values[0] is None else f"void: {coding.values[0]}\n"
        names = "".join(f"  {value}: class {value}\n" for value in coding.values[1:])
        (root / "dataset.yml").write_text(f"{void}names:\n{names}")
    return places


def check_refusals(bad, splits, places):
    """Every sentence names a file that is damaged, once, with what is wrong; returns the pairs they are of."""
    refused = []
    for sentence in bad:
        (pair,) = (
            pair
            for split in splits
            for pair in splits[split]
            if pair.damage and sentence.startswith(f"{places[split, pair.named] / pair.files[pair.named][0]}: ")
        )
        assert pair.words in sentence and "\n" not in sentence
        refused.append(id(pair))
    assert len(set(refused)) == len(refused)
    return refused


@SETTINGS
@given(data_sets())
def test_prepared_exactly_or_refused_by_name(data_set):
    coding, splits, size = data_set
    with TemporaryDirectory() as folder:
        root, out, strict = (Path(folder) / name for name in ("in", "out", "strict"))
        places = plant(root, coding, splits)
        rest = {"size": size, "encoding": coding.name, "progress": False, "jobs": 1}
        _, report = prepare_folders(coding.dataset, root, out, skip_bad=True, **rest)
        refused = check_refusals(report.bad, splits, places)
        data = load_prepared(out)
        for split, given_pairs in splits.items():
            arrays = data.split(split)
            kept = [pair for pair in sorted(given_pairs, key=lambda pair: pair.name) if id(pair) not in refused]
            assert all(pair.damage in (None, *PERHAPS) for pair in kept)
            for pair, image, labels in zip(kept, arrays.images, arrays.labels, strict=True):
                assert np.array_equal(labels, nearest(pair.ids, *size))
                assert (image == pair.colour).all()
        if report.bad:
            with pytest.raises(InputError) as caught:
                prepare_folders(coding.dataset, root, strict, **rest)
            assert str(caught.value).startswith(report.bad[0]), str(caught.value)
            assert not strict.exists()
            assert ("further files" in str(caught.value)) == (len(report.bad) > 1)


@SETTINGS
@given(*[st.integers(1, 90)] * 4)
def test_nearest_means_nearest(height, width, new_height, new_width):
    """Also where two pixels are as near as each other, which Pillow decides now this way and now that."""
    ids = np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8)
    found = resize_nearest(ids, (new_height, new_width))
    assert found.dtype == np.uint8 and np.array_equal(found, nearest(ids, new_height, new_width))
