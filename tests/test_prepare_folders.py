"""`dpsims prepare` of data sets on the disk: prepared exactly, or refused with the right file named."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import trees
from PIL import Image
from trees import QUIET, dpsims, encoded, nearest
from typer.testing import CliRunner

from dpsims import paths
from dpsims.cli import app
from dpsims.data import prepare, shards
from dpsims.data.folders import find_folders
from dpsims.data.prepare_folders import check_folders, ensure_folders, prepare_folders
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError
from dpsims.labels import label_space
from dpsims.paths import DATA, ROOT


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(("dataset", "layout"), trees.LAYOUTS)
def test_every_layout_is_prepared_exactly(tmp_path, dataset, layout):
    truth = trees.plant(tmp_path / "in", dataset, layout)
    path, report = prepare_folders(dataset, tmp_path / "in", tmp_path / "out", size=(32, 48), **QUIET)
    data = load_prepared(path)
    folders = find_folders(dataset, tmp_path / "in")
    assert data.space == folders.encoding.space and report.pairs == {"train": 4, "val": 2} and not report.bad
    for split, pairs in folders.splits.items():
        arrays = data.split(split)
        for pair, image, labels in zip(pairs, arrays.images, arrays.labels, strict=True):
            assert np.array_equal(labels, nearest(truth[pair.labels], 32, 48))
            assert np.array_equal(image, np.asarray(Image.open(pair.image).resize((48, 32), Image.Resampling.BICUBIC)))
    counted = sum(np.bincount(ids.ravel(), minlength=data.space.num_classes + 1) for ids in truth.values())
    assert np.array_equal(report.pixels, counted)
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]
    data.verify(progress=False)


def test_what_the_report_says(tmp_path):
    truth = trees.plant(tmp_path, "ade20k")
    lines = list(check_folders("ade20k", tmp_path, **QUIET).lines())
    assert lines[0] == "ade20k: 4 train, 2 val pairs; 0 other files were not looked at"
    assert lines[1] == "sizes (height x width): 3 different; most frequent 37 x 53 (3), 64 x 41 (2), 50 x 50 (1)"
    everything = np.concatenate([ids.ravel() for ids in truth.values()])
    share = (everything == 0).mean()
    assert any(re.match(rf" +0 void +{share:.4%}", line) for line in lines)
    assert "never seen: wall, building" in "\n".join(lines) and lines[-1] == "files that cannot be used: 0"


def test_made_once_and_other_arguments_are_refused(tmp_path, monkeypatch):
    root, out = tmp_path / "in", tmp_path / "out"
    trees.plant(root, "coco_stuff")
    prepare_folders("coco_stuff", root, out, size=32, **QUIET)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "convert", lambda *_: pytest.fail("read again"))
        assert prepare_folders("coco_stuff", root, out, size=32, **QUIET) == (out, None)
        for other in ({"size": 48}, {"limit": 1}):
            with pytest.raises(
                InputError, match="out: made with (.* not .*|other files); remove .* or give another folder"
            ):
                prepare_folders("coco_stuff", root, out, **{"size": 32, **QUIET, **other})
        trees.plant(tmp_path / "other", "coco_stuff", train=5)
        with pytest.raises(InputError, match="made with root .*in, not .*other; other files; remove"):
            prepare_folders("coco_stuff", tmp_path / "other", out, size=32, **QUIET)
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis/a.txt").write_text("")
        with pytest.raises(InputError, match="thesis: holds something else"):
            prepare_folders("coco_stuff", root, tmp_path / "thesis", size=32, **QUIET)


def test_a_folder_of_another_version_or_root_is_refused(tmp_path, monkeypatch):
    trees.plant(tmp_path / "in", "ade20k")
    shutil.copytree(tmp_path / "in", tmp_path / "other")  # the same names and sizes: other pixels would pass unseen
    prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    with pytest.raises(InputError, match="out: made with root .*in, not .*other; remove .* and prepare again"):
        prepare_folders("ade20k", tmp_path / "other", tmp_path / "out", size=32, **QUIET)
    now = shards.VERSION
    monkeypatch.setattr(shards, "VERSION", now + 1)
    with pytest.raises(InputError, match=f"out: made with version {now}, not {now + 1}; remove .* and prepare again"):
        prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)


def test_shards_of_another_version_are_not_taken(tmp_path, monkeypatch):
    trees.plant(tmp_path / "in", "ade20k")
    convert = shards.convert

    def otherwise(*given):
        made = convert(*given)
        return made._replace(ids=made.ids * 0 + 1)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards, "VERSION", shards.VERSION - 1)
        patch.setattr(shards, "convert", otherwise)
        patch.setattr(prepare, "write_prepared", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    assert list((tmp_path / ".out.pairs").glob("*/labels.npy"))
    out, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    whole, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "whole", size=32, **QUIET)
    assert contents(out) == contents(whole)


FULL, CLOSED = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("error", [FULL, CLOSED])
@pytest.mark.parametrize("file", range(6))  # two arrays of a shard for each split, then the rarest classes
def test_a_disk_that_is_full_or_closes_costs_nothing_but_time(tmp_path, monkeypatch, error, file):
    trees.plant(tmp_path / "in", "ade20k")
    whole, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "whole", size=32, **QUIET)
    save, saved = np.save, []

    def full(*given, **rest):
        saved.append(given)
        if len(saved) > file:
            raise error
        save(*given, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(
            InputError, match=rf"out.*: cannot be written \(.*{error.strerror}.*\); give another"
        ) as caught:
            prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("*.part")) and not (tmp_path / "out").exists()
    out, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    assert contents(out) == contents(whole) and sorted(os.listdir(tmp_path)) == ["in", "out", "whole"]


def test_a_disk_without_room_is_told_before_anything_is_read(tmp_path, monkeypatch):
    trees.plant(tmp_path / "in", "ade20k")
    monkeypatch.setattr(shards, "convert", lambda *_: pytest.fail("read"))
    for photos, needed in ((True, 6 * 32 * 32 * 4), (False, 6 * 32 * 32)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=needed - 1: shutil._ntuple_diskusage(0, 0, free))
        with pytest.raises(InputError, match="out: 6 images take .* GB, .* GB are free; give fewer"):
            prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, photos=photos, **QUIET)
    assert os.listdir(tmp_path) == ["in"]


def test_the_disk_must_hold_shards_and_result_but_for_shards_that_are_there(tmp_path, monkeypatch):
    trees.plant(tmp_path / "in", "ade20k")
    needed = 6 * 32 * 32 * 4

    def prepared(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, free))
        return prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(InputError, match="out: 6 images take .* GB, shards included, .* GB are free; give fewer"):
        prepared(2 * needed - 1)
    assert os.listdir(tmp_path) == ["in"]
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_prepared", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared(2 * needed)
    with pytest.raises(InputError, match="shards included"):
        prepared(needed - 1)
    prepared(needed)
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_cityscapes_of_a_single_side_are_twice_as_wide(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    for dataset, width in (("cityscapes", 32), ("ade20k", 16)):
        trees.plant(tmp_path / dataset, dataset)
        index = load_prepared(ensure_folders(dataset, tmp_path / dataset, 16, progress=False)).index
        assert (index["height"], index["width"]) == (16, width)
        out = tmp_path / f"{dataset} out"
        dpsims("prepare", dataset, "--root", tmp_path / dataset, "--size", 16, "--out", out)
        assert load_prepared(out).split("val").labels.shape == (2, 16, width)
    both = ensure_folders("cityscapes", tmp_path / "cityscapes", (16, 24), progress=False)
    assert load_prepared(both).index["width"] == 24, "a pair is taken as it is"


@pytest.mark.parametrize("size", [8, 513, (16, 65)])
def test_a_size_that_cannot_be_names_the_data_set(tmp_path, size):
    for ask in (partial(prepare_folders, out=tmp_path / "out"), ensure_folders):
        with pytest.raises(InputError, match=r"^ade20k: \d+ x \d+ pixels; give sides of 16 to 512, none over 4 times"):
            ask("ade20k", tmp_path, size=size)


def test_a_place_that_cannot_be_a_folder(tmp_path, monkeypatch):
    trees.plant(tmp_path / "in", "ade20k")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file.out: cannot be written .*another --out"):
        prepare_folders("ade20k", tmp_path / "in", tmp_path / "file/out", size=32, **QUIET)
    monkeypatch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(CLOSED))  # of the lock, the first file
    with pytest.raises(InputError, match="out: cannot be written .Read-only file system.; choose another --out"):
        prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)


def test_odd_names_of_folders_and_loops_of_links_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trees.plant(Path("-dä ta [1]"), "ade20k")
    line = ["prepare", "ade20k", "--root=-dä ta [1]", "--out=-o ut 'ü", "--size=16"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0 and result.stdout.splitlines()[-1] == str(tmp_path / "-o ut 'ü"), result.output
    loop = Path("-dä ta [1]/annotations/training/loop")
    loop.symlink_to("..")
    for ending in (["--check-only"], ["--out=other", "--skip-bad"]):
        result = CliRunner().invoke(app, [*line[:3], *ending])
        assert result.exit_code == 2 and result.stderr.startswith(
            f"dpsims: {loop}: a symbolic link to a folder that it"
        )
    assert not Path("other").exists()


def test_limit_takes_the_first_by_name(tmp_path):
    trees.plant(tmp_path / "in", "ade20k")
    path, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, limit=1, **QUIET)
    assert {name: split["count"] for name, split in load_prepared(path).index["splits"].items()} == {
        "train": 1,
        "val": 1,
    }
    with pytest.raises(InputError, match="limit: 0 pairs"):
        check_folders("ade20k", tmp_path / "in", limit=0, **QUIET)


def save(name, make):
    """Puts another file in the place of one of an ade20k tree."""

    def wreck(root):
        path = root / name
        image = make(Image.open(path).copy())
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            image.save(path, "PNG" if image.mode in ("RGBA", "I;16") or path.suffix == ".png" else "JPEG")

    return wreck


def label(change):
    def make(image):
        values = np.array(image)
        return Image.fromarray(change(values))

    return save("annotations/training/ADE_train_1.png", make)


def put(row, column, value):
    def change(values):
        values[row, column] = value
        return values

    return change


PHOTO, LABEL = "images/training/ADE_train_1.jpg", "annotations/training/ADE_train_1.png"


def transparent(image):
    image = image.convert("RGBA")
    image.putpixel((3, 3), (0, 0, 0, 9))
    return image


BAD = [
    (label(put(12, 40, 173)), LABEL, r"value 173 at row 12, column 40 is not a class of ade20k .*\(0\.\.150\)"),
    (label(lambda v: label_space("ade20k").colourise(v)), LABEL, "an RGB image where class values are meant.*rgb"),
    (label(lambda v: v[:-3]), LABEL, r"61 x 41 pixels .* is 64 x 41: neither the same size nor the same aspect"),
    (label(lambda v: v * 0), LABEL, "every pixel is void"),
    (save(LABEL, lambda i: encoded(i, "JPEG")), LABEL, "a JPEG file"),
    (save(LABEL, lambda i: encoded(i, "PNG")[:-40]), LABEL, "truncated"),
    (save(LABEL, lambda i: b""), LABEL, "it is empty"),
    (save(PHOTO, lambda i: b""), PHOTO, "it is empty"),
    (save(PHOTO, lambda i: encoded(i, "JPEG")[:-100]), PHOTO, "truncated"),
    (save(PHOTO, lambda i: b"hello"), PHOTO, "not a readable image"),
    (save(PHOTO, lambda i: i.convert("CMYK")), PHOTO, "an image of mode CMYK; convert it to RGB"),
    (save(PHOTO, transparent), PHOTO, "has transparent pixels"),
    (save(PHOTO, lambda i: i.resize((41, 60))), LABEL, "is 60 x 41: neither the same size"),
    (lambda root: (root / PHOTO).unlink(), LABEL, "has no partner of this name in .*images.training"),
    (lambda root: (root / LABEL).unlink(), PHOTO, "has no partner of this name in .*annotations.training"),
]


@pytest.mark.parametrize(("wreck", "file", "message"), BAD)
def test_bad_files_are_named_and_skipped_only_when_asked(tmp_path, wreck, file, message):
    root, out = tmp_path / "dä ta", tmp_path / "out"
    trees.plant(root, "ade20k")
    wreck(root)
    assert len(check_folders("ade20k", root, **QUIET).bad) == 1
    with pytest.raises(InputError, match=message) as caught:
        prepare_folders("ade20k", root, out, size=32, **QUIET)
    assert str(caught.value).startswith(f"{root / file}: ") and "--skip-bad" in str(caught.value)
    assert "\n" not in str(caught.value) and not out.exists()
    path, report = prepare_folders("ade20k", root, out, size=32, skip_bad=True, **QUIET)
    assert load_prepared(path).split("train").images.shape[0] == 3 and len(report.bad) == 1
    listed = (tmp_path / "out-skipped.txt").read_text()
    assert listed.count("\n") == 1 and listed.startswith(f"{root / file}: ") and re.search(message, listed)
    assert prepare_folders("ade20k", root, out, size=32, skip_bad=True, **QUIET) == (out, None)
    with pytest.raises(InputError, match=message):  # not silently taken for whole
        prepare_folders("ade20k", root, out, size=32, **QUIET)


def test_further_bad_files_are_counted(tmp_path):
    trees.plant(tmp_path / "in", "ade20k")
    for index in range(3):
        (tmp_path / f"in/images/training/ADE_train_{index}.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"ADE_train_0.jpg: .*\(2 further files; --check-only lists them\)"):
        prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    (tmp_path / "in/images/training/ADE_train_3.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="split train: none of its pairs can be used, the first because .*train_0.jpg"):
        prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, skip_bad=True, **QUIET)


@pytest.mark.parametrize("make", [lambda i: i.convert("L"), lambda i: i.convert("RGBA"), lambda i: i.convert("LA"),
                                  lambda i: i.convert("P"), lambda i: i.convert("1")])  # fmt: skip
def test_grey_opaque_and_palette_images_are_taken(tmp_path, make):
    trees.plant(tmp_path / "in", "ade20k")
    path = tmp_path / "in" / PHOTO
    image = make(Image.open(path))
    image.save(path.with_suffix(".png"))
    path.unlink()
    out, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    expected = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(load_prepared(out).split("train").images[1], expected)


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 mean nothing, and are met
@pytest.mark.parametrize("labels", ["as stored", "as shown"])
def test_exif_rotation_is_followed_where_only_that_fits(tmp_path, orientation, labels):
    trees.plant(tmp_path / "in", "ade20k")
    photo, label_map = tmp_path / "in" / PHOTO, tmp_path / "in" / LABEL  # 64 x 41
    stored, exif = Image.open(photo).copy(), Image.Exif()
    exif[0x0112] = orientation
    stored.save(photo, exif=exif)
    turns = {1: None, 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
    turn = turns.get(orientation)
    if turn and labels == "as shown":
        Image.open(label_map).transpose(Image.Transpose[turn]).save(label_map)
    if orientation in (2, 3, 4):
        with pytest.raises(InputError, match=f"EXIF orientation {orientation} asks to turn .* fits either way"):
            prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
        return
    out, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    image = Image.open(photo)
    image = image.transpose(Image.Transpose[turn]) if turn and labels == "as shown" else image
    expected = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(load_prepared(out).split("train").images[1], expected)


def test_labels_of_another_size_but_the_same_aspect(tmp_path):
    trees.plant(tmp_path / "in", "ade20k")
    photo = tmp_path / "in" / PHOTO
    Image.open(photo).resize((82, 128)).save(photo)
    assert not check_folders("ade20k", tmp_path / "in", **QUIET).bad


def many(root, count=130):
    trees.plant(root, "ade20k", train=6, val=1)
    for index in range(6, count):
        for folder, suffix in (("images", "jpg"), ("annotations", "png")):
            source = root / folder / f"training/ADE_train_{index % 6}.{suffix}"
            shutil.copy(source, root / folder / f"training/ADE_train_{index:04d}.{suffix}")


def command(root, out):
    return [sys.executable, "-m", "dpsims", "prepare", "ade20k", "--root", str(root), "--out", str(out), "--size", "64"]


def test_several_processes_give_what_one_gives(tmp_path):
    many(tmp_path / "in")
    one, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "one", size=64, progress=False, jobs=1)
    made = subprocess.run(command(tmp_path / "in", tmp_path / "two"), cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines()[-1] == str(tmp_path / "two") and contents(one) == contents(tmp_path / "two")


def test_a_kill_costs_only_the_shards_under_way(tmp_path):
    """SIGKILL in the middle, then again: the same bytes as undisturbed; shards that were whole are not read again."""
    many(tmp_path / "in", 1200)
    whole, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "whole", size=64, progress=False, jobs=1)
    work = tmp_path / ".out.pairs"
    making = subprocess.Popen(command(tmp_path / "in", tmp_path / "out"), cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 90
    while len(list(work.glob("*/report.json"))) < 3:
        assert making.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    making.send_signal(signal.SIGKILL)
    making.wait()
    time.sleep(2)  # its helpers see that it is gone and end
    kept = {path.parent.name: path.stat().st_mtime_ns for path in work.glob("*[0-9a-f]/report.json")}
    time.sleep(0.5)
    assert kept == {path.parent.name: path.stat().st_mtime_ns for path in work.glob("*[0-9a-f]/report.json")}
    assert not (tmp_path / "out").exists() and 3 <= len(kept) < 38, "killed too late to mean anything"
    read = []
    convert = shards.convert
    shards.convert = lambda pair, *rest: (read.append(pair), convert(pair, *rest))[1]
    try:
        out, _ = prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=64, progress=False, jobs=1)
    finally:
        shards.convert = convert
    assert 0 < len(read) <= 1201 - 32 * (len(kept) - 1)
    assert contents(out) == contents(whole) and sorted(os.listdir(tmp_path)) == ["in", "out", "whole"]


def test_a_changed_file_is_read_again_after_an_error(tmp_path):
    trees.plant(tmp_path / "in", "ade20k")
    bad = tmp_path / "in" / PHOTO
    good = bad.read_bytes()
    bad.write_bytes(b"")
    with pytest.raises(InputError, match="it is empty"):
        prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)
    bad.write_bytes(good)
    assert not prepare_folders("ade20k", tmp_path / "in", tmp_path / "out", size=32, **QUIET)[1].bad
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_old_indices_without_names_are_scenes(tmp_path):
    from dpsims.data.prepare import prepare_scenes

    settings = {"size": 16, "n": 2, "n_val": 1, "progress": False}
    path = prepare_scenes(tmp_path / "scenes", **settings)
    index = json.loads((path / "index.json").read_text())
    assert index["names"] == list(label_space("scenes").names) and load_prepared(path).space == label_space("scenes")
    del index["names"], index["colours"]
    (path / "index.json").write_text(json.dumps(index))
    assert load_prepared(path).space == label_space("scenes") and prepare_scenes(path, **settings) == path
    index["dataset"] = "custom"
    (path / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="index.json has no names of classes"):
        _ = load_prepared(path).space


@pytest.mark.parametrize(
    ("key", "value"),
    [("names", ["void"]), ("names", "text"), ("names", [0] * 13), ("colours", None), ("colours", [[0, 0]] * 13)],
)
def test_wrong_names_or_colours_in_an_index(tmp_path, key, value):
    path, _ = prepare_folders("custom", DATA / "custom_example", tmp_path / "out", size=16, **QUIET)
    index = {**load_prepared(path).index, key: value}
    (path / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=rf"index.json: {key} .* are not 13"):
        load_prepared(path)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("custom --root {example} --out {out} --size 32", 0, r"every class was seen"),
        ("custom --root {example} --check-only", 0, r"files that cannot be used: 0"),
        ("ade20k --out {out}", 2, "ade20k: is read from its folder, --root"),
        ("custom --root {example} --out {out} --n 7", 2, "not drawn with --n"),
        ("custom --root {example}", 2, "give --out"),
        ("scenes --out {out} --limit 3", 2, "nothing for --check-only, --skip-bad, --limit"),
        ("custom --root {example} --out {out} --size 8", 2, "16"),
        ("custom --root {example} --out {out} --encoding bgr", 2, "'bgr' is not one of raw, rgb"),
        ("ade20k --root {example} --check-only", 2, "holds no folder annotations/training"),
    ],
)
def test_the_command(tmp_path, line, code, says):
    places = {"example": DATA / "custom_example", "out": tmp_path / "out"}
    result = CliRunner().invoke(app, ["prepare", *line.format(**places).split()])
    assert result.exit_code == code, result.output
    assert re.search(says, result.stderr if code else result.stdout), result.output
    assert (tmp_path / "out").exists() == ("--out" in line and code == 0)


def test_check_only_lists_every_bad_file_and_says_so_in_its_exit_code(tmp_path):
    trees.plant(tmp_path, "cityscapes")
    for index, split in product((0, 1), ("train", "val")):
        (tmp_path / trees.LAYOUTS["cityscapes", "official"][split][0].format(index)).write_bytes(b"")
    before = contents(tmp_path)
    result = CliRunner().invoke(app, ["prepare", "cityscapes", "--root", str(tmp_path), "--check-only"])
    assert result.exit_code == 2 and result.stdout.count("not a readable image") == 4 and contents(tmp_path) == before
