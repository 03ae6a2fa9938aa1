"""The label space and reading label maps, above all bad ones."""

import io

import numpy as np
import pytest
from PIL import Image

from dpsims.data.scenes import CLASSES
from dpsims.errors import InputError
from dpsims.labels import label_space, read_label_map

SPACE = label_space("scenes")


def write(path, ids, mode="L", palette=None):
    image = Image.fromarray(np.asarray(ids, dtype=np.uint8), mode="L")
    if palette is not None:
        image = image.copy()
        image.putpalette(palette)
    image.convert(mode).save(path) if mode not in ("L", "P") else image.save(path)
    return path


def test_scenes_are_what_the_painter_paints():
    assert SPACE.num_classes == 12 and SPACE.names[0] == "void"
    assert SPACE.names[1:] == tuple(CLASSES)
    assert len(set(SPACE.colours)) == 13, "classes must be told apart"


def test_colourise():
    assert SPACE.colourise(np.array([[0, 3]])).tolist() == [[[0, 0, 0], list(SPACE.colours[3])]]


def test_ids_survive_a_file(tmp_path):
    ids = np.arange(13 * 4).reshape(4, 13) % 13
    read = read_label_map(write(tmp_path / "a ö.png", ids), SPACE, (4, 13))
    assert np.array_equal(read, ids) and read.flags.writeable, "torch warns of arrays that it may not write to"


def test_the_remedy_for_a_palette_png_works(tmp_path):
    ids = np.array([[1, 2], [3, 0]])
    path = write(tmp_path / "p.png", ids, "P", [c for rgb in SPACE.colours for c in rgb])
    with pytest.raises(InputError, match="image mode 'P'.*if its indices are the ids"):
        read_label_map(path, SPACE)  # never grey levels of the colours (SDM's defect)
    Image.fromarray(np.asarray(Image.open(path))).save(path)
    assert np.array_equal(read_label_map(path, SPACE), ids)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write(p, [[1, 13], [99, 2]]), r"value 13 at row 0, column 1 .*0\.\.12.*1 further"),
        (lambda p: write(p, [[1, 2]], "RGB"), "image mode 'RGB'"),
        (lambda p: write(p, [[1, 2]], "RGBA"), "image mode 'RGBA'"),
        (lambda p: Image.fromarray(np.array([[1, 300]], dtype=np.uint16)).save(p), "image mode 'I"),
        (lambda p: write(p, [[1, 2, 3]]), "1 x 3 pixels .* takes 2 x 2"),
        (lambda p: p.write_bytes(b""), "not a readable image"),
        (lambda p: p.write_text("hello"), "not a readable image"),
        (lambda p: None, "no such file"),
        (lambda p: Image.new("L", (2, 2)).save(p, format="JPEG"), "a JPEG file"),
    ],
)
def test_bad_label_maps_are_named(tmp_path, make, message):
    path = tmp_path / "label map.png"
    make(path)
    with pytest.raises(InputError, match=message) as error:
        read_label_map(path, SPACE, (2, 2))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_huge_png_is_named_before_it_is_read(tmp_path, monkeypatch, recwarn):
    path = write(tmp_path / "huge.png", np.ones((30, 30)))
    for limit in (800, 100):  # Pillow warns above its limit and raises above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match=f"huge.png: has more than {limit} pixels"):
            read_label_map(path, SPACE)
    assert not recwarn.list


def test_values_that_are_no_integers_are_refused():
    with pytest.raises(InputError, match="here: float64 values"):
        SPACE.check(np.full((2, 2), np.nan), "here")


def test_a_truncated_png_is_named(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 13, (64, 64), dtype=np.uint8)).save(buffer, "PNG")
    path = tmp_path / "t.png"
    path.write_bytes(buffer.getvalue()[:-200])
    with pytest.raises(InputError, match="truncated"):
        read_label_map(path, SPACE)


def test_unknown_data_set_and_class():
    with pytest.raises(InputError, match="known: .*scenes"):
        label_space("scened")
    with pytest.raises(InputError, match="'see' is not one of"):
        SPACE.id_of("see")
    assert SPACE.id_of("water") == 7
