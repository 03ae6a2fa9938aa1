"""Places to write to: looked at before the work, written whole or not at all.

This module imports no torch, so that commands that only move files stay quick.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dpsims.errors import InputError


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_file(path: Path) -> None:
    """Raises InputError unless `path` is a regular file or missing, where it or its folders can be made.

    A folder cannot be replaced by a file, and a device or a pipe must not be: renaming onto it would remove it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "no regular file"
            raise InputError(f"{path}: is {kind}, where a file is to be written; move it away or choose another --out")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written ({above} is closed to you); choose another --out")


def make_folder(folder: Path, names: Sequence[str]) -> None:
    """Makes `folder` for files of these names; raises InputError, having made nothing, where one cannot be written."""
    for name in names:
        check_file(folder / name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, to be filled; it takes the place of `path` at the end, or goes on any error.

    Raises:
        InputError: as `check_file`.
    """
    check_file(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp leaves it for the owner alone
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
