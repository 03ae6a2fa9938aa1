"""Prepared data from a data set on the disk: every pair is checked, then the arrays of `prepare` are written.

First all pairs are checked and brought to size, in shards that outlive a kill (`shards`), in a hidden folder beside the
result; then the shards are joined by the one writer that there is (`prepare.write_prepared`), and go.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from dpsims import paths
from dpsims.data import prepare, shards
from dpsims.data.folders import Folders, Pair, find_folders
from dpsims.data.guard import check_room, locked
from dpsims.data.index import FORMAT, again, read_index
from dpsims.data.sizes import checked_size
from dpsims.data.workers import cores
from dpsims.errors import InputError
from dpsims.files import write_text, writing
from dpsims.labels import LabelSpace


@dataclass
class Report:
    """What a data set holds, as far as it was read. Pixels and sizes are those of the label maps' files."""

    space: LabelSpace
    ignored: int  # files that are no images, or not wanted
    bad: list[str]  # sentences
    kind: str = "pairs"  # or label maps
    pairs: Counter = field(default_factory=Counter)  # good ones, by split
    sizes: Counter = field(default_factory=Counter)  # "H x W"
    pixels: np.ndarray = field(init=False)  # (K+1,) of each id

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.space.num_classes + 1, np.int64)

    def add(self, shard: shards.Shard) -> None:
        """Count a shard in."""
        self.bad += shard.bad
        self.pairs[shard.split] += shard.good
        self.sizes.update(shard.sizes)
        self.pixels += shard.pixels

    def lines(self) -> Iterator[str]:
        """The report in words: pairs, sizes, classes by frequency with a bar each, classes that never occur, bad
        files."""
        counts = ", ".join(f"{count} {split}" for split, count in self.pairs.items())
        yield f"{self.space.name}: {counts} {self.kind}; {self.ignored} other files were not looked at"
        common = ", ".join(f"{size} ({count})" for size, count in self.sizes.most_common(3))
        yield f"sizes (height x width): {len(self.sizes)} different; most frequent {common or 'none'}"
        shares = self.pixels / max(self.pixels.sum(), 1)
        for number in np.argsort(-self.pixels, kind="stable"):
            if self.pixels[number]:
                bar = "#" * round(40 * shares[number] / shares.max())
                yield f"{number:>4} {self.space.names[number]:<24} {shares[number]:>9.4%} {bar}".rstrip()
        absent = [self.space.names[number] for number in np.flatnonzero(self.pixels[1:] == 0) + 1]
        yield f"never seen: {', '.join(absent)}" if absent else "every class was seen"
        yield f"files that cannot be used: {len(self.bad)}"
        yield from self.bad


def check_folders(
    dataset: str, root: str | Path, *, encoding: str = "raw", photos: bool = True, limit: int | None = None,
    progress: bool = True, jobs: int | None = None,
) -> Report:  # fmt: skip
    """Check every pair of a data set and write nothing; arguments and errors as of `prepare_folders`, but that bad
    pairs are in the report."""
    folders = _limited(find_folders(dataset, root, encoding_name=encoding, photos=photos), limit)
    report, _ = _read(folders, None, None, jobs, progress)
    return report


def prepare_folders(
    dataset: str,
    root: str | Path,
    out: str | Path,
    *,
    size: int | tuple[int, int] = 256,
    encoding: str = "raw",
    photos: bool = True,
    limit: int | None = None,
    skip_bad: bool = False,
    progress: bool = True,
    jobs: int | None = None,
) -> tuple[Path, Report | None]:
    """Prepare a data set, once: with the same files and arguments again it returns at once.

    Args:
        dataset, root, encoding, photos: see `find_folders`; without photographs there will be no images.npy.
        out: the folder; new, empty, or made by this function before from the same.
        size: side, or (height, width), in pixels: 16 to 512. Images are resized bicubic with antialiasing, label maps
            to the nearest pixel; the aspect is not kept.
        limit: at most so many pairs of each split, the first by name.
        skip_bad: go on without files that cannot be used; ``<out>-skipped.txt`` lists them.
        progress: show a bar.
        jobs: processes; as many as there are cores for None.

    Returns:
        `out` as an absolute path, and what was found; None for what was there already. After an error or a kill the
        pairs that were read stay in the hidden folder ``.<out>.pairs`` for the next run.

    Raises:
        InputError: no such data set (see `find_folders`), files that cannot be used unless `skip_bad`, a split without
            a good pair, a folder of something else, or one that cannot be written.
    """
    out, (height, width) = Path(out).resolve(), checked_size(size, dataset)
    folders = _limited(find_folders(dataset, root, encoding_name=encoding, photos=photos), limit)
    header = {
        "format": FORMAT,
        "dataset": dataset,
        "version": shards.VERSION,
        "height": height,
        "width": width,
        **prepare.classes(folders.encoding.space),
        "encoding": encoding,
        "photos": photos,
        "root": os.path.realpath(root),
        "files": _listing(folders),
    }
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out.parent / f".{out.name}.pairs.lock"):
            if prepare.made_before(out, header, {}) and (skip_bad or not read_index(out).get("skipped")):
                _check_sources(folders, out, jobs, progress)
                shutil.rmtree(_work(out), ignore_errors=True)  # a kill at the very end may have left it
                return out, None
            return out, _prepare(folders, out, header, skip_bad, jobs, progress)


def ensure_folders(
    dataset: str,
    root: str | Path,
    size: int | tuple[int, int] = 256,
    limit: int | None = None,
    *,
    out: str | Path | None = None,
    skip_bad: bool = False,
    progress: bool = True,
) -> Path:
    """The prepared data set of these arguments, made when missing; in the cache, or in `out`. See `prepare_folders`,
    but that a side alone is taken as `size_of` says."""
    height, width = checked_size(size_of(dataset, size) if isinstance(size, int | np.integer) else size, dataset)
    place = hashlib.sha256(str(Path(root).resolve()).encode()).hexdigest()[:8]
    name = f"{dataset}-{place}-{height}x{width}{f'-limit{limit}' if limit else ''}"
    out = out or paths.CACHE / name
    if not str(root):
        raise InputError(f"root: empty; give the folder of {dataset}, or data_path, a prepared one")
    path, _ = prepare_folders(
        dataset, root, out, size=(height, width), limit=limit, skip_bad=skip_bad, progress=progress
    )
    return path


def size_of(dataset: str, side: int) -> tuple[int, int]:
    """Height and width for a single side: Cityscapes become twice as wide as high, as their photographs are."""
    return side, 2 * side if dataset == "cityscapes" else side


def _work(out: Path) -> Path:
    return out.parent / f".{out.name}.pairs"


def _check_sources(folders: Folders, out: Path, jobs: int | None, progress: bool) -> None:
    """Raises InputError where files have another content than what was prepared from them. Only where one is newer are
    all read again; then the index is touched."""
    index = out / "index.json"
    made = index.stat().st_mtime_ns
    if all(file.stat().st_mtime_ns <= made for pairs in folders.splits.values() for p in pairs for file in p.files):
        return
    _, done = _read(folders, None, None, jobs, progress)
    if _sources(folders, done) != read_index(out).get("sources"):
        raise InputError(f"{out}: made before files of {folders.dataset} were changed; {again(out)}")
    index.touch()


def _sources(folders: Folders, done: Sequence[shards.Shard]) -> dict[str, str]:
    return {split: _joined(shard.source for shard in done if shard.split == split) for split in folders.splits}


def _prepare(
    folders: Folders, out: Path, header: dict[str, Any], skip_bad: bool, jobs: int | None, progress: bool
) -> Report:
    work = _work(out)
    check_room(out, header, {split: len(pairs) for split, pairs in folders.splits.items()}, work)
    work.mkdir(exist_ok=True)
    report, done = _read(folders, (header["height"], header["width"]), work, jobs, progress)
    if report.bad and not skip_bad:
        more = f" ({len(report.bad) - 1} further files; --check-only lists them)" if len(report.bad) > 1 else ""
        raise InputError(f"{report.bad[0]}{more}; to go on without: --skip-bad, in notebooks and Python skip_bad")
    empty = [split for split in folders.splits if not report.pairs[split]]
    if empty:
        raise InputError(f"split {empty[0]}: none of its pairs can be used, the first because {report.bad[0]}")
    skipped = out.with_name(f"{out.name}-skipped.txt")
    if report.bad:
        write_text(skipped, "\n".join(report.bad) + "\n")
    else:
        skipped.unlink(missing_ok=True)  # of a run before

    def join(split: str, count: int) -> Iterator[prepare.Chunk]:
        for shard in done:
            if shard.split == split and shard.good:
                images = np.load(shard.folder / "images.npy") if header["photos"] else None
                yield images, np.load(shard.folder / "labels.npy"), None

    held_out = [name for shard in done if shard.split == "val" for name in shard.names]
    header = {**header, "skipped": len(report.bad), "sources": _sources(folders, done), "held_out": held_out}
    prepare.write_prepared(out, header, dict(report.pairs), join, progress=progress)
    shutil.rmtree(work)
    return report


def _limited(folders: Folders, limit: int | None) -> Folders:
    if limit is None:
        return folders
    if limit < 1:
        raise InputError(f"limit: {limit} pairs; give 1 or more, or leave it out")
    splits = {split: pairs[:limit] for split, pairs in folders.splits.items()}
    return replace(folders, splits=splits)


def _read(
    folders: Folders, size: tuple[int, int] | None, work: Path | None, jobs: int | None, progress: bool
) -> tuple[Report, list[shards.Shard]]:
    chunks = [
        shards.Chunk(split, pairs[start : start + shards.CHUNK], folders.encoding, size, work)
        for split, pairs in folders.splits.items()
        for start in range(0, len(pairs), shards.CHUNK)
    ]
    kind = "label maps" if any(pair.image is None for pairs in folders.splits.values() for pair in pairs) else "pairs"
    report, done = Report(folders.encoding.space, folders.ignored, [str(one) for one in folders.alone], kind), []
    total = sum(len(chunk.pairs) for chunk in chunks)
    with tqdm(total=total, desc=f"check {folders.dataset}", unit="pair", disable=not progress) as bar:
        for shard in shards.make_shards(chunks, cores() if jobs is None else jobs):
            report.add(shard)
            done.append(shard)
            bar.update(shard.total)
    return report, done


def _listing(folders: Folders) -> str:
    """A hash of the names and sizes of all files: told in seconds, where one of all bytes takes as long as the work."""
    values = getattr(folders.encoding, "values", None)

    def one(pair: Pair) -> list[Any]:
        return [pair.name, *(file.stat().st_size for file in pair.files)]

    listed = {split: [one(pair) for pair in pairs] for split, pairs in folders.splits.items()}
    alone = [[problem.file.name, problem.file.lstat().st_size] for problem in folders.alone]
    return hashlib.sha256(json.dumps([listed, alone, values]).encode()).hexdigest()[:16]


def _joined(hashes: Sequence[str] | Iterator[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
