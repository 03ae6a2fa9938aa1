"""What a reviewer found that went wrong without a word, or with too many: each is one test."""

import os
import shutil
import struct
import unicodedata
import zlib

import numpy as np
import pytest
import trees
from PIL import Image

from dpsims.data import prepare, prepare_folders, shards
from dpsims.data.custom import read_description
from dpsims.data.prepare_folders import check_folders
from dpsims.errors import InputError
from dpsims.evaluation.drawn_images import _map_of, _named
from dpsims.label_files import load_png
from dpsims.labels import count_ids
from dpsims.reproduce import _state

QUIET = {"progress": False, "jobs": 1}
PHOTO, LABEL = "images/training/ADE_train_1.jpg", "annotations/training/ADE_train_1.png"


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def short_png(height, rows, width=60, interlaced=False):
    """A PNG of 8 bits whose sums are right and that holds fewer rows than it says."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, int(interlaced))
    pixels = zlib.compress((b"\0" + b"\5" * width) * rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("rows", [1, 20, 39])
def test_a_png_with_too_few_rows_is_refused(tmp_path, rows):
    (tmp_path / "a.png").write_bytes(short_png(40, rows))
    with pytest.raises(InputError, match=f"a.png: not a readable image .*holds {61 * rows} of {61 * 40} bytes of pix"):
        load_png(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(short_png(40, 40))
    assert (load_png(tmp_path / "a.png").array == 5).all()


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 8), (13, 9), (17, 32)])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16"])
def test_rows_of_zeros_are_no_missing_rows(tmp_path, size, mode):
    image = Image.new(mode, size)
    image.save(tmp_path / "a.png")
    assert not load_png(tmp_path / "a.png").array.any()


def test_an_interlaced_png_of_zeros_is_whole(tmp_path):
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for width, height in [(1, 1), (5, 3), (8, 8), (13, 9)]:
        data = b""
        for left, top, right, down in passes:
            columns, rows = len(range(left, width, right)), len(range(top, height, down))
            data += (b"\0" * (columns + 1)) * rows if columns else b""
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
        for content, whole in [(data, True), (data[:-1], False)]:
            png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content))
            (tmp_path / "a.png").write_bytes(png + chunk(b"IEND", b""))
            if whole:
                assert load_png(tmp_path / "a.png").array.shape == (height, width)
            else:
                with pytest.raises(InputError, match="not a readable image"):
                    load_png(tmp_path / "a.png")


def bad_photo(root, suffix, **options):
    """An ade20k tree one of whose photographs is another file; what is said of it."""
    trees.plant(root, "ade20k")
    image = Image.open(root / PHOTO).copy()
    (root / PHOTO).unlink()
    image.save((root / PHOTO).with_suffix(suffix), **options)
    return check_folders("ade20k", root, **QUIET).bad


@pytest.mark.parametrize("tag", [2, 3, 6])
def test_a_tiff_that_pillow_would_turn_is_refused(tmp_path, tag):
    (said,) = bad_photo(tmp_path, ".tif", tiffinfo={274: tag})
    assert "ADE_train_1.tif: a TIFF with an orientation" in said
    assert not bad_photo(tmp_path / "upright", ".tif", tiffinfo={274: 1})


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_damaged_exif_is_said_and_can_be_skipped(tmp_path, suffix):
    (said,) = bad_photo(tmp_path, suffix, exif=b"Exif\0\0junkjunkjunk")
    assert f"ADE_train_1{suffix}: not a readable image (" in said


def test_photographs_of_16_bits_are_refused(tmp_path):
    trees.plant(tmp_path, "ade20k")
    height, width = 64, 41
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\1\2" * 3 * width) * height)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / PHOTO).unlink()
    (tmp_path / PHOTO).with_suffix(".png").write_bytes(png)
    (said,) = check_folders("ade20k", tmp_path, **QUIET).bad
    assert "ADE_train_1.png: 16 bits a colour, which would be cut to 8" in said


def test_a_changed_file_of_the_same_size_is_noticed(tmp_path, monkeypatch):
    root, out = tmp_path / "in", tmp_path / "out"
    trees.plant(root, "ade20k")
    (root / PHOTO).unlink()
    photo = (root / PHOTO).with_suffix(".bmp")
    Image.new("RGB", (41, 64), (10, 20, 30)).save(photo)
    prepare_folders.prepare_folders("ade20k", root, out, size=32, **QUIET)
    made = (out / "index.json").stat().st_mtime_ns
    os.utime(photo, ns=(made + 10**9, made + 10**9))
    assert prepare_folders.prepare_folders("ade20k", root, out, size=32, **QUIET) == (out, None), "the same content"
    with monkeypatch.context() as patch:
        patch.setattr(shards, "convert", lambda *_: pytest.fail("read again, though nothing is newer"))
        os.utime(photo, ns=(made, made))
        prepare_folders.prepare_folders("ade20k", root, out, size=32, **QUIET)
    Image.new("RGB", (41, 64), (11, 20, 30)).save(photo)
    made = (out / "index.json").stat().st_mtime_ns
    os.utime(photo, ns=(made + 10**9, made + 10**9))
    with pytest.raises(InputError, match="out: made before files of ade20k were changed; remove .* and prepare again"):
        prepare_folders.prepare_folders("ade20k", root, out, size=32, **QUIET)


def test_what_a_kill_at_the_very_end_leaves_is_removed(tmp_path, monkeypatch):
    trees.plant(tmp_path / "in", "ade20k")
    with monkeypatch.context() as patch:
        patch.setattr(prepare_folders.shutil, "rmtree", lambda *_, **__: None)
        prepare_folders.prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    assert (tmp_path / ".out.pairs").is_dir()
    prepare_folders.prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_the_list_of_skipped_files_goes_with_them(tmp_path):
    trees.plant(tmp_path / "in", "ade20k")
    good = (tmp_path / "in" / PHOTO).read_bytes()
    (tmp_path / "in" / PHOTO).write_bytes(b"")
    prepare_folders.prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, skip_bad=True, **QUIET)
    assert (tmp_path / "out-skipped.txt").is_file()
    (tmp_path / "in" / PHOTO).write_bytes(good)
    shutil.rmtree(tmp_path / "out")
    prepare_folders.prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_a_file_that_vanishes_meanwhile_is_named(tmp_path, monkeypatch):
    trees.plant(tmp_path / "in", "ade20k")
    find = prepare_folders.find_folders

    def found(*given, **more):
        folders = find(*given, **more)
        (tmp_path / "in" / PHOTO).unlink()
        return folders

    monkeypatch.setattr(prepare_folders, "find_folders", found)
    monkeypatch.setattr(prepare_folders, "_listing", lambda folders: "")
    with pytest.raises(InputError, match=r"ADE_train_1.jpg: not a readable image \(.*No such file"):
        prepare_folders.prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)


def test_ids_above_the_classes_are_never_written(tmp_path):
    with pytest.raises(ValueError, match="label map with id 9, above 3"):
        count_ids(np.full((4, 4), 9, np.uint8), 3)
    with pytest.raises(ValueError, match="label map of int32"):
        count_ids(np.zeros((4, 4), np.int32), 3)
    assert count_ids(np.array([[0, 3], [3, 1]], np.uint8), 3).tolist() == [1, 1, 0, 2]
    header = {"dataset": "mine", "height": 4, "width": 4, "num_classes": 3}
    labels = np.full((1, 4, 4), 9, np.uint8)

    def source(split, count):
        yield np.zeros((1, 4, 4, 3), np.uint8), labels, None

    with pytest.raises(ValueError, match="id 9, above 3"):
        prepare.write_prepared(tmp_path / "out", header, {"train": 1, "val": 1}, source, progress=False)
    assert not (tmp_path / "out").exists()


def test_images_are_found_under_names_that_a_mac_took_apart():
    name = unicodedata.normalize("NFC", "küste")
    place = _named([name, "b"], "custom")
    file = prepare_folders.Path(unicodedata.normalize("NFD", name) + "_seed3.png")
    assert str(file) != name + "_seed3.png" and _map_of(file, place) == (0, 3)


def test_a_bomb_of_anchors_is_refused_in_no_time(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    bomb = "\n".join(lines)
    for key in ("val", "void", "images"):
        inner = bomb.replace("\n", "\n  ")
        (tmp_path / "dataset.yml").write_text(f"names: {{1: sky}}\n{key}:\n  {inner}\n")
        with pytest.raises(InputError, match=f"{key} ") as caught:
            read_description(tmp_path)
        assert len(str(caught.value)) < 500


def test_a_notebook_is_run_again_when_the_files_that_it_was_given_are_others(tmp_path):
    assert _state(str(tmp_path / "none")) == []
    (tmp_path / "a.png").write_bytes(b"1")
    first = _state(str(tmp_path))
    (tmp_path / "b.png").write_bytes(b"1")
    second = _state(str(tmp_path))
    (tmp_path / "index.json").write_text("{}")
    third = _state(str(tmp_path))
    (tmp_path / "index.json").write_text('{"sha256": 1}')
    assert len({str(state) for state in (first, second, third, _state(str(tmp_path)))}) == 4
