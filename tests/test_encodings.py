"""Class tables, encodings and label files: there and back is the identity, and nothing is read as something else."""

import re
import struct
import zlib
from itertools import product

import numpy as np
import pytest
from PIL import Image

from dpsims.encodings import ENCODINGS, Encoding, Palette, convert, encoding, evaluation_classes
from dpsims.errors import InputError
from dpsims.labels import LabelSpace, label_space, spread_colours
from dpsims.paths import LABELS

COUNTS = {"scenes": 12, "ade20k": 150, "coco_stuff": 182, "cityscapes": 33}
BY_NAME = [(dataset, name) for dataset, names in ENCODINGS.items() for name in names]
RAW = encoding("scenes")


def test_there_is_an_encoding_for_every_class_table_and_the_reverse():
    assert set(ENCODINGS) == set(COUNTS) == {path.stem for path in LABELS.glob("*.csv")}


@pytest.mark.parametrize("dataset", COUNTS)
def test_class_tables(dataset):
    space = label_space(dataset)
    assert space.num_classes == COUNTS[dataset] and space.names[0] == "void" and space.colours[0] == (0, 0, 0)
    assert len(set(space.names)) == len(space.names) and all(name == name.strip() != "" for name in space.names)
    assert all(0 <= part <= 255 for colour in space.colours for part in colour)


def test_cityscapes_is_the_table_of_torchvision():
    from torchvision.datasets import Cityscapes

    space, classes = label_space("cityscapes"), evaluation_classes("cityscapes")
    theirs = [row for row in Cityscapes.classes if row.id > 0]
    assert [(row.name, row.color, row.train_id) for row in theirs] == [
        (space.names[row.id], space.colours[row.id], classes[row.id]) for row in theirs
    ]
    assert sorted(set(classes.tolist())) == [*range(19), 255] and classes[0] == 255


def test_coco_stuff_has_171_classes_that_occur():
    space, classes = label_space("coco_stuff"), evaluation_classes("coco_stuff")
    assert classes[classes != 255].tolist() == list(range(171))
    absent = [name for name, known in zip(space.names[1:], classes[1:], strict=True) if known == 255]
    assert absent == ["street sign", "hat", "shoe", "eye glasses", "plate", "mirror", "window", "desk", "door",
                      "blender", "hair brush"]  # fmt: skip
    assert space.id_of("wood") == 182 and space.colours == spread_colours(182)


def test_other_evaluation_classes_are_one_lower():
    assert evaluation_classes("ade20k").tolist() == [255, *range(150)]


@pytest.mark.parametrize("count", [1, 12, 182, 255])
def test_colours_that_nobody_gave_differ(count):
    assert len(set(spread_colours(count))) == count + 1


@pytest.mark.parametrize(
    ("dataset", "name", "values", "ids"),
    [
        ("ade20k", "raw", [0, 1, 150], [0, 1, 150]),
        ("ade20k", "oasis", [0, 1, 150], [0, 1, 150]),
        ("ade20k", "spade", [150, 0, 149], [0, 1, 150]),
        ("coco_stuff", "raw", [255, 0, 181], [0, 1, 182]),
        ("coco_stuff", "oasis", [0, 1, 182], [0, 1, 182]),
        ("coco_stuff", "spade", [182, 0, 181], [0, 1, 182]),
        ("cityscapes", "raw", [0, 7, 33], [0, 7, 33]),
        ("cityscapes", "oasis", [0, 7, 33], [0, 7, 33]),
        ("cityscapes", "spade", [0, 7, 33], [0, 7, 33]),
    ],
)
def test_encodings_by_hand(dataset, name, values, ids):
    coding = encoding(dataset, name)
    assert coding.decode(np.array([values]), "here").tolist() == [ids]
    assert coding.encode(np.array([ids])).tolist() == [values]


@pytest.mark.parametrize(("dataset", "name"), BY_NAME)
def test_there_and_back_is_the_identity_on_all_values(dataset, name):
    coding, ids = encoding(dataset, name), np.arange(COUNTS[dataset] + 1, dtype=np.uint8)[None]
    assert np.array_equal(coding.decode(coding.encode(ids), "here"), ids)
    known = np.array([sorted(coding.values)], np.uint16)
    assert np.array_equal(coding.encode(coding.decode(known, "here")), known)
    for value in set(range(-3, 300)) - set(coding.values) | {65535, 65536, -(2**40)}:
        with pytest.raises(InputError, match=f"here: value {value} at row 0, column 1 is not a class of {dataset}"):
            coding.decode(np.array([[known[0, 0], value]]), "here")


@pytest.mark.parametrize(
    ("dataset", "source", "target"), [(d, *pair) for d in ENCODINGS for pair in product(ENCODINGS[d], repeat=2)]
)
def test_converters_there_and_back(dataset, source, target):
    values = np.array([sorted(encoding(dataset, source).values)], np.uint8)
    assert np.array_equal(convert(convert(values, dataset, source, target), dataset, target, source), values)


def test_an_encoding_says_what_it_knows():
    with pytest.raises(InputError, match=r"is not a class of coco_stuff in encoding raw \(0\.\.181, 255\) \(1 further"):
        encoding("coco_stuff").decode(np.array([[200, 201]]), "here")
    with pytest.raises(InputError, match="'spade' is not one of raw, rgb, in which scenes comes"):
        encoding("scenes", "spade")
    with pytest.raises(InputError, match="float64"):
        RAW.decode(np.ones((1, 1)), "here")


SPACE = LabelSpace("shore", ("void", "sky", "sea"), ((0, 0, 0), (1, 2, 3), (4, 5, 6)))


def test_encodings_of_ones_own():
    wide = Encoding(SPACE, "raw", (None, 7, 1000))
    assert wide.encode(np.array([[1, 2]])).tolist() == [[7, 1000]] and wide.encode(np.array([[1]])).dtype == np.uint16
    assert wide.decode(np.array([[1000, 7]], np.uint16), "here").tolist() == [[2, 1]]
    with pytest.raises(InputError, match="holds void, for which shore has no value"):
        wide.encode(np.array([[0, 1]]))
    for values, problem in (((0, 7, 7), "value 7 is there twice"), ((0, 7, 65536), "value 65536 is outside")):
        with pytest.raises(InputError, match=problem):
            Encoding(SPACE, "raw", values)


@pytest.mark.parametrize("dataset", COUNTS)
def test_palettes_there_and_back_but_for_colours_of_several_classes(dataset):
    palette, space = encoding(dataset, "rgb"), label_space(dataset)
    for number, colour in enumerate(space.colours):
        colours = np.array([[colour]], np.uint8)
        assert np.array_equal(palette.encode(np.array([[number]])), colours)
        if space.colours.count(colour) == 1:
            assert palette.decode(colours, "here").tolist() == [[number]]
        else:
            with pytest.raises(InputError, match=rf"stands for .*{re.escape(space.names[number])}"):
                palette.decode(colours, "here")


def test_an_unknown_colour_is_named_with_its_place():
    colours = np.array([[[1, 2, 3], [4, 5, 6]], [[4, 5, 7], [9, 9, 9]]], np.uint8)
    with pytest.raises(
        InputError, match=r"a.png: colour \(4, 5, 7\) at row 1, column 0 is not a colour of shore \(1 further"
    ):
        Palette(SPACE).decode(colours, "a.png")


def png(depth, kind, rows, *, palette=b"", clear=b""):
    """A PNG written by hand: what Pillow would never write, and what it must read without a change."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    width = len(rows[0]) // channels
    bits = ["".join(f"{value:0{depth}b}" for value in row) for row in rows]
    lines = [int(line.ljust(-(-len(line) // 8) * 8, "0"), 2).to_bytes(-(-len(line) // 8), "big") for line in bits]
    header = struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0)
    optional = b"".join(chunk(name, data) for name, data in ((b"PLTE", palette), (b"tRNS", clear)) if data)
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + optional + chunk(b"IDAT", data) + chunk(b"IEND", b"")


RGB_OF_1_AND_2 = bytes(part for number in (0, 1, 2) for part in label_space("scenes").colours[number])


@pytest.mark.parametrize(
    "content",
    [
        png(8, 0, [[1, 2]]),
        png(16, 0, [[1, 2]]),
        *(png(depth, 3, [[1, 2]], palette=RGB_OF_1_AND_2) for depth in (2, 4, 8)),
        png(8, 3, [[1, 2]], palette=RGB_OF_1_AND_2, clear=b"\0\0\0"),  # transparent colours change no index
        png(8, 0, [[1, 2]], clear=b"\0\1"),
    ],
)
def test_values_are_read_as_they_are(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    ids = RAW.read(tmp_path / "a.png")
    assert ids.tolist() == [[1, 2]] and ids.dtype == np.uint8


def test_16_bits_are_not_cut_to_8(tmp_path):
    """Of SDM and SCDM: what is above 255 became 255."""
    (tmp_path / "a.png").write_bytes(png(16, 0, [[7, 1000], [263, 65535]]))
    coding = Encoding(LabelSpace("own", tuple("abcde"), spread_colours(4)), "raw", (65535, 7, 1000, 263, 255))
    assert coding.read(tmp_path / "a.png").tolist() == [[1, 2], [3, 0]]
    with pytest.raises(InputError, match="value 1000 at row 0, column 1"):
        RAW.read(tmp_path / "a.png")


def test_palettes_are_indices_unless_asked_for_colours(tmp_path):
    """Of SDM and SCDM: indices were turned into the grey levels of their colours."""
    swapped = RGB_OF_1_AND_2[:3] + RGB_OF_1_AND_2[6:] + RGB_OF_1_AND_2[3:6]
    (tmp_path / "a.png").write_bytes(png(8, 3, [[1, 2, 0]], palette=swapped))
    assert RAW.read(tmp_path / "a.png").tolist() == [[1, 2, 0]]
    assert encoding("scenes", "rgb").read(tmp_path / "a.png").tolist() == [[2, 1, 0]]


def test_colours_are_read_exactly(tmp_path):
    ids = np.random.default_rng(0).integers(0, 13, (9, 14), dtype=np.uint8)
    colours = label_space("scenes").colourise(ids)
    opaque = np.dstack([colours, np.full_like(ids, 255)])
    for pixels in (colours, opaque):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert np.array_equal(encoding("scenes", "rgb").read(tmp_path / "a.png"), ids)
    with pytest.raises(InputError, match="an RGB image where class values are meant.*--encoding rgb"):
        RAW.read(tmp_path / "a.png")
    opaque[3, 4, 3] = 254
    Image.fromarray(opaque).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="row 3, column 4 is transparent"):
        encoding("scenes", "rgb").read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        *(("raw", png(depth, 0, [[1, 0]]), f"'[1L]' of {depth} bits; label maps are") for depth in (1, 2, 4)),
        ("raw", png(8, 4, [[1, 255]]), "image mode 'LA'"),
        ("rgb", png(16, 2, [[1, 2, 3]]), "image mode 'RGB' of 16 bits"),  # Pillow alone drops 8 of them
        ("rgb", png(16, 6, [[1, 2, 3, 65535]]), "image mode 'RGBA' of 16 bits"),
        ("rgb", png(8, 0, [[1, 2]]), "grey values where colours are meant"),
        ("rgb", png(8, 3, [[1, 3]], palette=RGB_OF_1_AND_2), "index 3 is beyond its palette of 3"),
        ("raw", b"", "not a readable image .it is empty"),
        ("raw", png(8, 0, [[1] * 50] * 50)[:60], "truncated"),
        ("raw", png(8, 0, [[1, 2]])[:28], "not a readable image"),
        ("raw", b"hello", "not a readable image"),
    ],
)
def test_what_cannot_be_read_without_a_change_is_refused(tmp_path, name, content, message):
    path = tmp_path / "-lä bel.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        encoding("scenes", name).read(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_label_files_of_other_formats_are_refused_whatever_their_name(tmp_path, kind):
    Image.new("L", (4, 4), 1).save(tmp_path / "a.png", kind)
    with pytest.raises(InputError, match=f"a.png: a {kind} file; give a PNG"):
        RAW.read(tmp_path / "a.png")


def test_the_table_in_the_data_readme_is_the_table_in_the_code():
    text = (LABELS.parent / "README.md").read_text()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in text.splitlines() if ", void " in line]
    assert [row[0] for row in rows] == list(ENCODINGS)
    for dataset, count, *cells in rows:
        assert int(count) == COUNTS[dataset]
        for name, cell in zip(("raw", "oasis", "spade"), cells, strict=True):
            first, void = ENCODINGS[dataset].get(name, (0, None))
            assert cell == (f"{first}..{first + COUNTS[dataset] - 1}, void {void}" if void is not None else "")


def test_a_damaged_png_is_refused_wherever_the_damage_lies(tmp_path):
    """Pillow alone reads most of these as other classes, without a word."""
    ids, path = np.repeat(np.arange(12, dtype=np.uint8), 300).reshape(60, 60) + 1, tmp_path / "a.png"
    Image.fromarray(ids).save(path)
    whole = path.read_bytes()
    for place, change in product(range(len(whole)), (1, 16)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
        with pytest.raises(InputError, match="a.png: not a readable image"):
            RAW.read(path)
    path.write_bytes(whole + b"what some programs add")
    assert np.array_equal(RAW.read(path), ids)
