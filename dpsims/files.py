"""Places to write to, looked at before the work, and files, written whole or not at all; JSON.

This module imports no torch, so that commands that only move files stay quick.
"""

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dpsims.errors import InputError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError into an InputError that says that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: cannot be written ({reason}); choose another --out") from None


def check_file(path: Path) -> None:
    """Raises InputError unless `path` is a regular file or missing, where it or its folders can be made.

    A folder cannot be replaced by a file, and a device or a pipe must not be: renaming onto it would remove it.
    """
    with writing(path), suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "no regular file"
            raise InputError(f"{path}: is {kind}, where a file is to be written; move it away or choose another --out")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot be written ({above} is closed to you); choose another --out")


def make_folder(folder: Path, names: Sequence[str]) -> None:
    """Makes `folder` for files of these names; raises InputError, having made nothing, where one cannot be written."""
    for name in names:
        check_file(folder / name)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, to be filled; it takes the place of `path` at the end, or goes on any error.

    Raises:
        InputError: `path` cannot be written, see `check_file`, or the disk is full.
    """
    check_file(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
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


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all, with the line ends that `text` has; raises InputError as `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def png_files(folder: Path) -> list[Path]:
    """The PNGs in a folder and below, in order; hidden ones, and those in hidden folders, are no data."""

    def shown(path: Path) -> bool:
        return not any(part.startswith(".") for part in path.relative_to(folder).parts)

    return sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png" and shown(path))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object that a JSON file holds; raises InputError, ending in `remedy`, where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable ({getattr(error, 'strerror', None) or error}); {remedy}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, no object; {remedy}")
    return content


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Calls ``write(temporary folder)`` and renames it to `folder` when complete; an older `folder` goes last.

    A kill at any moment leaves `folder`, or what `heal_folder` makes it of.

    Raises:
        InputError: `folder` cannot be written.
    """
    with writing(folder):
        folder = Path(os.path.realpath(folder))  # "." has no name, and a link's target is what is to be replaced
        new, old = _beside(folder)
        heal_folder(folder)
        try:
            new.mkdir(parents=True)
            write(new)
            for file in new.iterdir():
                file.chmod(0o644)  # safetensors leaves them for the owner alone
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            heal_folder(folder)


def heal_folder(folder: Path) -> None:
    """After a kill in `write_folder`: gives `folder` its older contents back where it had just lost its name, and
    removes what is left beside it."""
    new, old = _beside(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)


def _beside(folder: Path) -> tuple[Path, Path]:
    """Hidden names for the folder as it is written, and for the older one."""
    return folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
