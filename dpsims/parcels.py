"""A folder packed into files small enough to travel one by one, and made of them again.

The parts of one packed archive, NAME.00, NAME.01, ..., are a tar.gz that was cut: `cat NAME.* | tar xz` unpacks them
without this module.
"""

import hashlib
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from dpsims.errors import InputError
from dpsims.files import replacing, write_folder, writing

NAME = "session.tar.gz"
PART = 15 * 2**20  # bytes


def pack(folder: Path, files: Iterable[str], out: Path, part: int = PART) -> dict[str, str]:
    """Packs files of `folder`, by names relative to it, into parts in `out`; older parts go.

    Returns:
        SHA-256 by the name of each part, in order.

    Raises:
        InputError: `out` cannot be written.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile() as whole:
            with tarfile.open(fileobj=whole, mode="w:gz", compresslevel=1) as archive:  # weights hardly get smaller
                for name in files:
                    archive.add(folder / name, name)
            whole.seek(0)
            made: dict[str, str] = {}
            while piece := whole.read(part):
                name = f"{NAME}.{len(made):02d}"
                with replacing(out / name) as temporary:
                    temporary.write_bytes(piece)
                made[name] = hashlib.sha256(piece).hexdigest()
        for old in out.glob(f"{NAME}.*"):
            if old.name not in made:
                old.unlink()
    return made


def unpack(parts: dict[str, str], out: Path, folder: Path) -> None:
    """Makes `folder` of the parts in `out` that `pack` returned; an older folder there is replaced.

    Raises:
        InputError: a part is missing or another one, or `folder` cannot be written.
    """
    with tempfile.TemporaryFile() as whole:
        for name, digest in parts.items():
            piece = (out / name).read_bytes() if (out / name).is_file() else b""
            if hashlib.sha256(piece).hexdigest() != digest:
                raise InputError(
                    f"{out / name}: missing, or not of the session that results.json beside it tells of; bring all "
                    "files of one call together"
                )
            whole.write(piece)
        whole.seek(0)

        def extract(into: Path) -> None:
            with tarfile.open(fileobj=whole, mode="r:gz") as archive:
                archive.extractall(into, filter="data")

        write_folder(folder, extract)
