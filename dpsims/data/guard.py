"""What guards work on a folder: its disk has room, other processes wait, and an end still cleans up or saves."""

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dpsims.errors import InputError


@contextlib.contextmanager
def stop_signals(numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> Iterator[threading.Event]:
    """An event that the first of these signals sets, to be looked at between two pieces of work, so that none is torn;
    a second one does what it always did. Only a main thread can see to that."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    old = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(number, old[number])

    for number in old:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[bool]:
    """Hold a lock file, so that of several processes one works and the others wait; yields whether that is certain.

    Only saves work: where files cannot be locked, each process works for itself and the first to rename wins.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    while True:
        stream, held = file.open("w"), False
        with contextlib.suppress(OSError):  # some network file systems know no locks
            fcntl.flock(stream, fcntl.LOCK_EX)
            held = True
        try:
            current = os.fstat(stream.fileno()).st_ino == file.stat().st_ino
        except FileNotFoundError:
            current = False
        if current:
            break
        stream.close()  # its last holder removed the file while this process waited: take the new one
    try:
        yield held
    finally:
        file.unlink(missing_ok=True)
        stream.close()


def check_room(out: Path, header: dict[str, Any], counts: dict[str, int], shards: Path | None = None) -> None:
    """Raises InputError where the disk is too small: it is told before the work, not after hours of it.

    Args:
        out: the prepared folder.
        header, counts: as of `prepare.write_prepared`.
        shards: a folder that has to hold the same arrays once more until `out` is whole, or some of them already.
    """
    pixel = 4 if header.get("photos", True) else 1  # bytes: three of colour, one of label
    needed = sum(counts.values()) * header["height"] * header["width"] * pixel
    included = ""
    if shards is not None:
        held = sum(file.stat().st_size for file in shards.rglob("*.npy"))
        needed += max(needed - held, 0)
        included = ", shards included"
    free = shutil.disk_usage(next(parent for parent in out.parents if parent.exists())).free
    if needed > free:
        sizes = f"{sum(counts.values())} images take {needed / 1e9:.4g} GB{included}, {free / 1e9:.4g} GB are free"
        raise InputError(f"{out}: {sizes}; give fewer images, smaller ones, or a folder on another disk")
