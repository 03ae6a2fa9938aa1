"""Sample sheets of a training, read back; and how it grew: the same maps and noise at several steps.

`dpsims.synthesis.sample_sheet` draws a sheet: label maps, their real images, then a row for each noise.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from dpsims.errors import InputError


def read_sheet(file: str | Path, height: int, width: int) -> np.ndarray:
    """A sample sheet, or growth.png of an exported model, as images.

    Args:
        file: samples/step_NNNNNNN.png of a run, or growth.png of an exported model.
        height, width: of one image, pixels.

    Returns:
        (rows, maps, H, W, 3) uint8. Rows of a sample sheet: label maps in their colours, real images, one a noise; of
        growth.png: label maps, one a step, real images.

    Raises:
        InputError: unreadable, or not made of images of this size.
    """
    try:
        with Image.open(file) as image:
            sheet = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise InputError(f"{file}: not readable ({error}); give a run folder that dpsims train made") from None
    rows, columns = sheet.shape[:2]
    if rows % height or columns % width or rows < 3 * height:
        raise InputError(f"{file}: {rows} x {columns} pixels are no sheet of images of {height} x {width}")
    return sheet.reshape(sheet.shape[0] // height, height, -1, width, 3).swapaxes(1, 2)


def growth(
    run: str | Path, height: int, width: int, shots: int = 6, until: int | None = None
) -> tuple[list[int], np.ndarray]:
    """The first noise's images at up to `shots` steps, spread evenly on a logarithmic axis, for changes come early.

    Args:
        run: folder of a training.
        height, width: of one image, pixels.
        shots: steps at most, the first and the last among them.
        until: the last step to show; None: of all.

    Returns:
        The steps, and (2 + steps, maps, H, W, 3) uint8: label maps, the images at each step, real images.

    Raises:
        InputError: the run has no sample sheets, or one is damaged.
    """
    files = {int(f.stem[5:]): f for f in (Path(run) / "samples").glob("step_*.png") if f.stem[5:].isdecimal()}
    files = {step: file for step, file in files.items() if until is None or step <= until}
    if not files:
        raise InputError(f"{run}: holds no sample sheets; give the folder of a dpsims training")
    known = np.array(sorted(files))
    wanted = np.geomspace(max(1, known[0]), known[-1], shots)
    steps = sorted({int(known[np.abs(np.log(known / step)).argmin()]) for step in wanted})
    sheets = [read_sheet(files[step], height, width) for step in steps]
    return steps, np.stack([sheets[-1][0], *(sheet[2] for sheet in sheets), sheets[-1][1]])


def as_sheet(images: np.ndarray) -> np.ndarray:
    """The reverse of `read_sheet`: (rows, maps, H, W, 3) -> (rows * H, maps * W, 3)."""
    rows, maps, height, width, colours = images.shape
    return images.swapaxes(1, 2).reshape(rows * height, maps * width, colours)
