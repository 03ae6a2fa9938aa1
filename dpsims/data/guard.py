"""What guards the making of a folder: a lock against other processes, and an end that still cleans up."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def terminable() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, to be looked at between two pieces of work; only a main thread can see to that.

    Raises:
        KeyboardInterrupt: at the end, where SIGTERM came. Not from the signal's handler: what imports or draws just
            then might swallow it.
    """
    ended = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    old = signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    try:
        yield ended
    finally:
        signal.signal(signal.SIGTERM, old or signal.SIG_DFL)
    if ended.is_set():
        raise KeyboardInterrupt


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
