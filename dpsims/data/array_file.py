"""Arrays on the disk that are larger than the memory, as they are made.

Not by a memory map: what is written to one counts as memory of the process, and a full disk kills it without a word.
"""

import hashlib
import io
import os
from pathlib import Path

import numpy as np


class ArrayFile:
    """A .npy file of uint8 that is written once, from front to back, and hashed on the way.

    Args:
        path: of the file.
        shape: of the whole array; its parts come along the first axis.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape, self.sha256 = path, shape, hashlib.sha256()
        start = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            start, {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
        )
        self.file = path.open("wb")
        self._write(start.getbuffer())

    def add(self, part: np.ndarray) -> None:
        """Write the next elements of the first axis."""
        if part.dtype != np.uint8 or part.shape[1:] != self.shape[1:]:
            raise ValueError(f"{self.path}: the source gave {part.shape} {part.dtype}, {self.shape} uint8 is announced")
        self._write(np.ascontiguousarray(part).data)

    def close(self) -> None:
        """Put all on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def _write(self, content: memoryview) -> None:
        self.file.write(content)
        self.sha256.update(content)
