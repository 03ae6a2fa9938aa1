"""Many pairs of files, checked and brought to size by several processes; what is done outlives a kill.

The pairs are cut into chunks. Each chunk becomes a folder, its shard, which appears when it is whole. Its name is a
hash of all that its content depends on, so a later run takes it as it is, and one of changed files makes a new one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpsims.data.folders import Pair
from dpsims.data.pairs import convert
from dpsims.data.workers import in_order
from dpsims.encodings import Encoding, Palette
from dpsims.errors import InputError

VERSION = 2  # one more whenever the same files give other arrays
CHUNK = 32  # pairs; of 256 x 256 pixels they take 8 MB


class Chunk(NamedTuple):
    """What a process works on."""

    split: str
    pairs: tuple[Pair, ...]
    coding: Encoding | Palette
    size: tuple[int, int] | None  # (h, w); None to check alone
    folder: Path | None  # of the shards; None to check alone


class Shard(NamedTuple):
    """What became of a chunk. `folder` holds images.npy, where there are any, and labels.npy of the good pairs."""

    split: str
    folder: Path | None
    total: int  # pairs, good and bad
    good: int
    bad: list[str]  # sentences
    pixels: list[int]  # (K+1,) of each id in the files of the good pairs
    sizes: dict[str, int]  # "H x W" of the good pairs -> how many
    source: str  # hash of the bytes of the good pairs
    names: list[str]  # of the good pairs, in order


def make_shards(chunks: Sequence[Chunk], jobs: int) -> Iterator[Shard]:
    """The shards of chunks, in order, made by `jobs` processes or found as a run before left them.

    Raises:
        InputError: the disk is full or closed, or a process was killed.
    """
    return in_order(_make_shard, chunks, jobs)


def _make_shard(chunk: Chunk) -> Shard:
    if chunk.folder is None:
        return _read(chunk)[0]
    folder = chunk.folder / _key(chunk)
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return Shard(chunk.split, folder, *report)
    except FileNotFoundError:
        pass
    shard, images, labels = _read(chunk)
    part = chunk.folder / f"{folder.name}.{os.getpid()}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        if images is not None:
            np.save(part / "images.npy", images, allow_pickle=False)
        np.save(part / "labels.npy", labels, allow_pickle=False)
        (part / "report.json").write_text(json.dumps(shard[2:]), encoding="utf-8")
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise InputError(f"{chunk.folder}: cannot be written ({error.strerror}); give another --out") from None
    return shard._replace(folder=folder)


def _read(chunk: Chunk) -> tuple[Shard, np.ndarray | None, np.ndarray]:
    """The shard of a chunk, its images (n, h, w, 3), None of label maps alone, and labels (n, h, w)."""
    shape = (len(chunk.pairs), *(chunk.size or (0, 0)))
    images = None if chunk.pairs[0].image is None else np.empty((*shape, 3), np.uint8)
    labels = np.empty(shape, np.uint8)
    pixels = np.zeros(chunk.coding.space.num_classes + 1, np.int64)
    bad, sizes, good, source = [], {}, 0, hashlib.sha256()
    names: list[str] = []
    for pair in chunk.pairs:
        try:
            made = convert(pair, chunk.coding, chunk.size)
        except InputError as error:
            bad.append(str(error))
            continue
        source.update("".join(made.source).encode())
        if chunk.size is not None:
            labels[good] = made.ids
            if images is not None:
                images[good] = made.image
        pixels += made.pixels
        name = f"{made.shape[0]} x {made.shape[1]}"
        sizes[name] = sizes.get(name, 0) + 1
        names.append(pair.name)
        good += 1
    shard = Shard(chunk.split, None, len(chunk.pairs), good, bad, pixels.tolist(), sizes, source.hexdigest(), names)
    return shard, None if images is None else images[:good], labels[:good]


def _key(chunk: Chunk) -> str:
    """A name for the shard of a chunk, which another content would not have."""

    def state(file: Path) -> list[Any]:
        try:
            stat = file.stat()
        except OSError:  # gone since it was found: whoever reads it says so
            return [os.path.abspath(file)]
        return [os.path.abspath(file), stat.st_size, stat.st_mtime_ns]

    files = [[state(file) for file in pair.files] for pair in chunk.pairs]
    coding = [chunk.coding.name, chunk.coding.space.colours, getattr(chunk.coding, "values", None)]
    return hashlib.sha256(
        json.dumps([VERSION, Shard._fields, chunk.split, chunk.size, coding, files]).encode()
    ).hexdigest()[:32]
