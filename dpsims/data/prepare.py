"""Prepared data: a folder of plain arrays that training and evaluation read, made once and never half-written.

    FOLDER/index.json                    what it holds, with a hash of every file
    FOLDER/{train,val}/images.npy        (N, H, W, 3) uint8, RGB; absent where a data set has label maps alone
    FOLDER/{train,val}/labels.npy        (N, H, W) uint8, 0 = void, 1..K classes
    FOLDER/{train,val}/moods.npy         (N,) uint8, only where the mood is known (scenes)
    FOLDER/{train,val}/rarest.npy        (N,) uint8, the class of the image with the fewest pixels in the split

Any data set is written by `write_prepared` and read by `load_prepared`; these know nothing of where data come from.
"""

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from dpsims import paths
from dpsims.data import scenes
from dpsims.data.array_file import ArrayFile
from dpsims.data.guard import check_room, locked, stop_signals
from dpsims.data.index import FORMAT, again, read_index
from dpsims.data.prepared import PreparedData
from dpsims.data.sizes import checked_size
from dpsims.data.workers import in_order
from dpsims.errors import InputError
from dpsims.files import sha256
from dpsims.labels import LabelSpace, count_ids, label_space

CHUNK = 16  # images made at a time

Chunk = tuple[np.ndarray | None, np.ndarray, np.ndarray | None]  # images, labels, moods
Source = Callable[[str, int], Iterator[Chunk]]  # (split, number of images) -> the chunks of the split, in order


def prepare_scenes(
    out: str | Path,
    *,
    size: int | tuple[int, int] = 64,
    n: int = 3000,
    n_val: int = 500,
    seed: int = 0,
    progress: bool = True,
    jobs: int = 1,
) -> Path:
    """Draw Scenes into a folder, once: with the same arguments again it returns at once.

    Args:
        out: the folder; it must be new, empty, or made by this function with the same arguments.
        size: side, or (height, width), in pixels: 16 to 512.
        n: images of the split "train".
        n_val: images of the split "val".
        seed: of the data set.
        progress: show a bar.
        jobs: processes that draw; the images are the same.

    Returns:
        `out` as an absolute path.

    Raises:
        InputError: bad arguments, a folder of something else, or one that cannot be written.
    """
    if min(n, n_val) < 1:
        raise InputError(f"scenes of {n} training and {n_val} validation images: give 1 or more of each")
    height, width = checked_size(size, "scenes")
    scenes.render([], (height, width), seed=seed)  # complains of a bad seed before anything is written
    header = {
        "dataset": "scenes",
        "version": scenes.VERSION,
        "height": height,
        "width": width,
        "seed": seed,
        **classes(label_space("scenes")),
    }

    def draw(split: str, count: int) -> Iterator[Chunk]:
        numbers = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        for batch in in_order(partial(scenes.render, size=(height, width), seed=seed, split=split), numbers, jobs):
            yield batch.images, batch.labels, batch.moods

    return write_prepared(out, header, {"train": n, "val": n_val}, draw, progress=progress)


def ensure_scenes(
    size: int | tuple[int, int] = 64,
    n: int = 3000,
    n_val: int = 500,
    seed: int = 0,
    *,
    out: str | Path | None = None,
    progress: bool = True,
    jobs: int = 1,
) -> Path:
    """The prepared Scenes of these arguments, made when missing; in the cache, or in `out`. See `prepare_scenes`."""
    height, width = checked_size(size, "scenes")
    side = f"{height}" if height == width else f"{height}x{width}"
    name = f"scenes-{side}-n{n}-v{n_val}-s{seed}-version{scenes.VERSION}"
    folder = out or paths.CACHE / name
    return prepare_scenes(folder, size=size, n=n, n_val=n_val, seed=seed, progress=progress, jobs=jobs)


def classes(space: LabelSpace) -> dict[str, Any]:
    """What a header says of the classes: "num_classes" K, and "names" and "colours" of K+1, void first."""
    colours = [list(colour) for colour in space.colours]
    return {"num_classes": space.num_classes, "names": list(space.names), "colours": colours}


def write_prepared(
    out: str | Path, header: dict[str, Any], counts: dict[str, int], source: Source, *, progress: bool = True
) -> Path:
    """Write a prepared folder in one step: it appears when it is whole. Several processes may ask for it at once.

    Args:
        out: the folder; new, empty, or made before from the same header and counts.
        header: what the data are; "height", "width" and "num_classes" must be there, and "photos": False for label
            maps alone.
        counts: images, or label maps, of each split.
        source: gives the chunks of a split in order, all with moods or all without; with images unless "photos" is
            False.
        progress: show a bar.

    Returns:
        `out` as an absolute path.

    Raises:
        InputError: the folder holds something else, cannot be written, or its disk has no room for the data.
        KeyboardInterrupt: also on SIGTERM; as after Ctrl-C nothing half-written is left.
    """
    out = Path(out).resolve()
    header = {"format": FORMAT, **header}
    if made_before(out, header, counts):
        return out
    try:
        check_room(out, header, counts)
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out.parent / f".{out.name}.lock") as alone, stop_signals([signal.SIGTERM]) as ended:
            if alone:
                _remove_parts(out)
            if not made_before(out, header, counts):  # another process may have made it while this one waited
                _make(out, header, counts, lambda *split: _until(ended, source(*split)), progress)
        if ended.is_set():  # not from the signal's handler: what imports or draws just then might swallow it
            raise KeyboardInterrupt
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error}); give another folder") from error
    return out


def _until(ended: threading.Event, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        if ended.is_set():
            raise KeyboardInterrupt
        yield chunk


def _remove_parts(out: Path) -> None:
    """Remove what processes left that were killed while they made `out`."""
    for entry in out.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(out.name)}\.\d+\.part", entry.name):
            shutil.rmtree(entry, ignore_errors=True)


def _make(out: Path, header: dict[str, Any], counts: dict[str, int], source: Source, progress: bool) -> None:
    part = out.parent / f".{out.name}.{os.getpid()}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        splits, hashes = {}, {}
        with tqdm(total=sum(counts.values()), desc=f"{header['dataset']} {out.name}", disable=not progress) as bar:
            for name, count in counts.items():
                (part / name).mkdir(parents=True)
                pixels, files = _write_split(part / name, header, count, source(name, count), bar)
                splits[name] = {"count": count, "class_pixels": pixels.tolist()}
                hashes |= {f"{name}/{file}": digest for file, digest in files.items()}
        index = {**header, "splits": splits, "sha256": dict(sorted(hashes.items()))}
        (part / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        try:
            os.rename(part, out)  # works on a folder that is missing or empty
        except OSError:
            if not made_before(out, header, counts):  # not even another process that was faster
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_split(
    folder: Path, header: dict[str, Any], count: int, chunks: Iterator[Chunk], bar: tqdm
) -> tuple[np.ndarray, dict[str, str]]:
    """Write the arrays of one split; returns pixels of each class, (K+1,) int64, void first, and hashes by file."""
    shape, classes = (count, header["height"], header["width"]), header["num_classes"] + 1
    pixels = np.zeros((count, classes), np.int64)  # of each class in each image
    moods: list[np.ndarray] = []
    done = 0
    with ExitStack() as closed:
        labels = closed.enter_context(closing(ArrayFile(folder / "labels.npy", shape)))
        images = None
        if header.get("photos", True):
            images = closed.enter_context(closing(ArrayFile(folder / "images.npy", (*shape, 3))))
        for image, label, mood in chunks:
            labels.add(label)
            for number, one in enumerate(label, start=done):
                pixels[number] = count_ids(one, header["num_classes"])
            if images is not None:
                images.add(image)
            if mood is not None:
                moods.append(mood)
            done += len(label)
            bar.update(len(label))
    if done != count:
        raise ValueError(f"{folder}: the source gave {done} images, {count} were announced")
    np.save(folder / "rarest.npy", rarest_class(pixels), allow_pickle=False)
    if moods:
        np.save(folder / "moods.npy", np.concatenate(moods), allow_pickle=False)
    written = {file.path: file.sha256.hexdigest() for file in (labels, images) if file is not None}
    return pixels.sum(0), {f.name: written.get(f) or sha256(f) for f in folder.iterdir()}


def rarest_class(pixels: np.ndarray) -> np.ndarray:
    """The class present in each image that has the fewest pixels in the whole split; the lower id of equal ones.

    Args:
        pixels: (N, K+1) int64, pixels of each class in each image, void first.

    Returns:
        (N,) uint8 ids, 0 where an image is all void.
    """
    candidates = np.where(pixels[:, 1:] > 0, pixels.sum(0)[1:], np.iinfo(np.int64).max)  # (N, K)
    ids = candidates.argmin(1) + 1
    return np.where((pixels[:, 1:] > 0).any(1), ids, 0).astype(np.uint8)


def made_before(out: Path, header: dict[str, Any], counts: dict[str, int]) -> bool:
    """True when `out` already holds this, whole; False when it is missing or empty; InputError for anything else."""
    index = read_index(out)
    if index is None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: holds something else than prepared data; give another folder")
        return False
    asked = {**header, **{f"images of {name}": count for name, count in counts.items()}}
    there = {**index, **{f"images of {name}": split["count"] for name, split in index["splits"].items()}}
    other = [
        "other files" if key == "files" else f"{key} {there.get(key)}, not {value}"  # of these the index has a hash
        for key, value in asked.items()
        if there.get(key) != value
    ]
    if other:
        raise InputError(f"{out}: made with {'; '.join(other)}; {again(out)}")
    PreparedData(out, index).check()
    return True
