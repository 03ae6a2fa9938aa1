"""Prepared data: made once, whole or not at all, refused when it is something else."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dpsims import paths
from dpsims.data import prepare, scenes
from dpsims.data.prepare import ensure_scenes, prepare_scenes, rarest_class, write_prepared
from dpsims.data.prepared import load_prepared
from dpsims.errors import InputError

SMALL = {"size": 32, "n": 21, "n_val": 5, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small prepared folder for the tests that only read."""
    return prepare_scenes(tmp_path_factory.mktemp("prepared") / "scenes", **SMALL)


def test_holds_the_scenes_that_were_asked_for(folder: Path) -> None:
    data = load_prepared(folder)
    for split, count in (("train", 21), ("val", 5)):
        expected = scenes.render(range(count), 32, split=split)
        arrays = data.split(split)
        assert np.array_equal(arrays.images, expected.images)
        assert np.array_equal(arrays.labels, expected.labels)
        assert np.array_equal(arrays.moods, expected.moods)
        assert arrays.rarest.shape == (count,)
        counted = np.bincount(expected.labels.ravel(), minlength=13)
        assert data.index["splits"][split] == {"count": count, "class_pixels": counted.tolist()}
    assert data.index["format"] == 1
    assert (data.index["height"], data.index["width"], data.index["num_classes"]) == (32, 32, 12)
    data.verify(progress=False)


def test_arrays_are_mapped_and_read_only(folder: Path) -> None:
    images = load_prepared(folder).split("train").images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_rarest_class_by_hand() -> None:
    pixels = np.array([[0, 5, 3, 0], [0, 2, 0, 6], [8, 0, 0, 0]])  # void, then totals 7, 3, 6
    assert rarest_class(pixels).tolist() == [2, 3, 0]


def test_a_source_that_does_not_keep_its_word_makes_nothing(tmp_path: Path) -> None:
    header = {"dataset": "scenes", "height": 16, "width": 16, "num_classes": 12}
    images, labels = np.zeros((2, 16, 16, 3), np.uint8), np.ones((2, 16, 16), np.uint8)
    for given, says in (
        ((images[:1], labels[:1]), "gave 1 images, 2 were announced"),
        ((images, labels[:, :8]), "labels.npy: the source gave"),
        ((images.astype(np.float32), labels), "images.npy: the source gave .* float32"),
    ):
        with pytest.raises(ValueError, match=says):
            write_prepared(tmp_path / "out", header, {"val": 2}, lambda *_, g=given: iter([(*g, None)]), progress=False)
        assert not (tmp_path / "out").exists()


def test_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = (folder / "index.json").stat().st_mtime_ns
    monkeypatch.setattr(prepare, "_make", lambda *_: pytest.fail("made again"))
    assert prepare_scenes(folder, **SMALL) == folder
    assert (folder / "index.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("other", [{"n": 20}, {"size": (32, 48)}, {"seed": 7}, {"n_val": 6}])
def test_other_arguments_are_refused(folder: Path, other: dict) -> None:
    with pytest.raises(InputError, match=r"not .*remove .* or give another folder"):
        prepare_scenes(folder, **{**SMALL, **other})


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="something else"):
        prepare_scenes(tmp_path, **SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert load_prepared(prepare_scenes(tmp_path, **{**SMALL, "n": 2, "n_val": 1})).split("val").images.shape[0] == 1


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written") as caught:
        prepare_scenes(tmp_path / "file" / "scenes", **SMALL)
    assert "\n" not in str(caught.value)
    if os.geteuid() != 0:  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o555)
        with pytest.raises(InputError, match="cannot be written"):
            prepare_scenes(tmp_path / "closed" / "scenes", **SMALL)


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), KeyboardInterrupt(), ValueError("bug")])
def test_nothing_half_written_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(np, "save", fail)  # by then images and labels of the first split are on the disk
    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        prepare_scenes(tmp_path / "scenes", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from dpsims.data import prepare, prepared\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"  # both start together
        "prepare.prepare_scenes(sys.argv[1], size=32, n=150, n_val=5, progress=False)\n"
        "prepared.load_prepared(sys.argv[1]).verify(progress=False)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "scenes"), str(time.time() + 3)]
    both = [subprocess.Popen(command, cwd=paths.ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert [entry.name for entry in tmp_path.iterdir()] == ["scenes"]


def test_without_locks_the_first_to_finish_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder appears while another process still works on its own copy."""
    header = {"dataset": "custom", "height": 2, "width": 2, "num_classes": 3}
    chunk = np.ones((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2), np.uint8), None

    def fast(split: str, count: int) -> Iterator[prepare.Chunk]:
        yield chunk

    def slow(split: str, count: int) -> Iterator[prepare.Chunk]:
        monkeypatch.setattr(os, "getpid", lambda: 1)  # the other process has a temporary folder of its own
        prepare._make((tmp_path / "data").resolve(), {"format": 1, **header}, {"train": 1}, fast, progress=False)
        yield chunk

    data = load_prepared(write_prepared(tmp_path / "data", header, {"train": 1}, slow, progress=False))
    assert data.split("train").moods is None
    assert data.split("train").rarest.tolist() == [1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_damage_is_found(tmp_path: Path) -> None:
    folder = prepare_scenes(tmp_path / "scenes", **{**SMALL, "n": 2, "n_val": 1})
    labels = folder / "train" / "labels.npy"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-1] + bytes([whole[-1] - 1]))  # another class, or void
    with pytest.raises(InputError, match=r"labels\.npy.*changed"):
        load_prepared(folder).verify(progress=False)
    labels.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"labels\.npy.*cannot be read"):
        load_prepared(folder).split("train")
    labels.unlink()
    with pytest.raises(InputError, match=r"labels\.npy.*cannot be read"):
        load_prepared(folder).split("train")
    np.save(labels, np.zeros((3, 32, 32), np.uint8))
    with pytest.raises(InputError, match=r"the index says \(2, 32, 32\)"):
        load_prepared(folder).split("train")


def test_bad_folders_and_splits(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dpsims prepare"):
        load_prepared(tmp_path)
    with pytest.raises(InputError, match="no split 'test'"):
        load_prepared(folder).split("test")
    for content in ("{", "[" * 100_000, "[]", json.dumps({**load_prepared(folder).index, "format": 99})):
        (tmp_path / "index.json").write_text(content)
        with pytest.raises(InputError, match=r"index\.json"):
            load_prepared(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("dataset", value) for value in (None, ["scenes"], 1)),
        *(("height", value) for value in (None, 0, -64, "32", 32.0, True)),
        *(("num_classes", value) for value in (None, "12", 5, 13, 300)),
        *(("seed", value) for value in (None, "0", -1)),
        *(("splits", value) for value in (None, [], {}, ["train"], {"train": None}, {"train": {}})),
        *(("sha256", value) for value in (None, [], {"train/images.npy": None})),
        *(("splits.train.count", value) for value in (None, "21", 0, 20)),
        *(("splits.val.class_pixels", value) for value in (None, "text", [], [1] * 13, [0] * 12 + [5120.0])),
    ],
)
def test_an_index_of_wrong_values_is_refused(folder: Path, tmp_path: Path, key: str, value: object) -> None:
    shutil.copytree(folder, tmp_path / "data")
    index = load_prepared(folder).index
    *outer, last = key.split(".")
    place = index
    for name in outer:
        place = place[name]
    place[last] = value
    (tmp_path / "data/index.json").write_text(json.dumps(index))
    for use in (load_prepared, lambda path: prepare_scenes(path, **SMALL)):
        with pytest.raises(InputError, match=r"index\.json: .*remove .* and prepare again") as caught:
            use(tmp_path / "data")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["train/labels", "val/labels", "train/rarest"])
def test_an_unknown_class_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    file = shutil.copytree(folder, tmp_path / "data") / f"{name}.npy"
    array = np.load(file)
    array.flat[-1] = 200
    np.save(file, array)
    with pytest.raises(InputError, match=rf"{name}\.npy: holds class 200, the index knows 0\.\.12; remove"):
        load_prepared(tmp_path / "data")


@pytest.mark.parametrize(
    "content", [None, b"", b"junk", b"PK\x05\x06" + bytes(18), b"\x93NUMPY\x01\x00\xff\xff" + b"{" * 65535]
)
def test_made_before_but_no_longer_whole(folder: Path, tmp_path: Path, content: bytes | None) -> None:
    file = shutil.copytree(folder, tmp_path / "data") / "val/images.npy"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    for use in (load_prepared, lambda path: prepare_scenes(path, **SMALL)):
        with pytest.raises(InputError, match=r"val/images\.npy: cannot be read .* prepare again") as caught:
            use(tmp_path / "data")
        assert "\n" not in str(caught.value)


def test_sigterm_leaves_nothing_and_a_later_run_clears_up(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dpsims", "prepare", "scenes", "--size", "64", "--n", "4000", "--n-val", "5"]
    making = subprocess.Popen([*command, "--out", str(tmp_path / "scenes")], cwd=paths.ROOT, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".scenes.*.part/train/labels.npy")):
        assert making.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    making.send_signal(signal.SIGTERM)
    message = making.communicate(timeout=60)[1].decode()
    assert making.returncode == 130 and "interrupted" in message and "Traceback" not in message
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".scenes.123.part").mkdir()  # of a process that was killed
    (tmp_path / ".scenes.more.123.part").mkdir()  # of a folder of another name, perhaps under way
    prepare_scenes(tmp_path / "scenes", **{**SMALL, "n": 2})
    assert {entry.name for entry in tmp_path.iterdir()} == {"scenes", ".scenes.more.123.part"}
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


BAD = [{"n": 0}, {"n_val": -1}, {"size": 8}, {"size": 1_000_000}, {"size": (128, 513)}, {"seed": -1}, {"n": 10**20},
       {"n_val": 10**20}]  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_bad_arguments_write_nothing(tmp_path: Path, bad: dict) -> None:
    with pytest.raises(InputError):
        prepare_scenes(tmp_path / "scenes", **{**SMALL, **bad})
    assert list(tmp_path.iterdir()) == []


def test_ensure_uses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    first = ensure_scenes(32, n=2, n_val=1, progress=False)
    assert first.parent == tmp_path / "cache"
    assert ensure_scenes(32, n=2, n_val=1, progress=False) == first
    assert ensure_scenes(32, n=3, n_val=1, progress=False) != first
