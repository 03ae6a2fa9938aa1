"""Which classes the label maps of a data set hold, how often, and which are seen together.

All of it follows from one table, the pixels of each class in each map, which `class_counts` makes in one pass.
Void (id 0) has its column there, so that a row adds up to the map. It is not a class: `rarity` leaves it out, and in
the tables of pairs only row and column 0 are about it, which whoever names classes passes over.

N maps, H and W height and width, K classes.
"""

import numpy as np
from tqdm.auto import tqdm

from dpsims.errors import InputError
from dpsims.labels import VOID

BLOCK = 2**20  # pixels counted at a time: 8 MB of bins' numbers, whatever the size of the data set
IDS = 256  # that a byte can hold


def class_counts(labels: np.ndarray, num_classes: int, progress: bool = True) -> np.ndarray:
    """The pixels of each class in each map.

    Args:
        labels: (N, H, W) uint8 ids, 0 = void, 1..K; an array or one mapped from the disk, which is read in blocks.
        num_classes: K.
        progress: show a bar where it takes longer than five seconds.

    Returns:
        (N, K+1) int32; each row adds up to H * W.

    Raises:
        InputError: `labels` of another shape or type, or an id above K.
    """
    if len(labels.shape) != 3 or labels.dtype != np.uint8 or 0 in labels.shape[1:]:
        raise InputError(f"labels: {labels.dtype} of shape {labels.shape}; give uint8 label maps, (N, H, W)")
    count, height, width = labels.shape
    counts = np.zeros((count, num_classes + 1), np.int32)
    step = max(1, BLOCK // (height * width))
    with tqdm(total=count, desc="counting", unit="map", delay=5, leave=False, disable=not progress) as bar:
        for first in range(0, count, step):
            block = np.asarray(labels[first : first + step]).reshape(-1, height * width)
            own = IDS * np.arange(len(block))[:, None]  # each map counts into bins of its own
            found = np.bincount((block + own).ravel(), minlength=IDS * len(block)).reshape(-1, IDS)
            _check(found, num_classes, first)
            counts[first : first + step] = found[:, : num_classes + 1]
            bar.update(len(block))
    return counts


def _check(found: np.ndarray, num_classes: int, first: int) -> None:
    """Raises InputError where bins above K hold pixels; `found` (M, 256) is of the maps from `first` on."""
    above = np.argwhere(found[:, num_classes + 1 :])
    if above.size:
        number, extra = above[0].tolist()
        raise InputError(
            f"labels: map {first + number} holds id {num_classes + 1 + extra}, and the classes are 1..{num_classes} "
            "(0 is void)"
        )


def presence(counts: np.ndarray) -> np.ndarray:
    """In how many maps each class is: counts (N, K+1) -> (K+1,) int64."""
    return np.count_nonzero(counts, axis=0)


def together(counts: np.ndarray) -> np.ndarray:
    """How many maps hold both of two classes: counts (N, K+1) -> (K+1, K+1) int64, `presence` on the diagonal."""
    there = (counts > 0).astype(np.float32)  # products of floats are fast, and whole below 2**24 maps
    return (there.T @ there).astype(np.int64)


def co_occurrence(counts: np.ndarray) -> np.ndarray:
    """Of the maps with class i, the share that hold class j too.

    Args:
        counts: (N, K+1), of `class_counts`.

    Returns:
        (K+1, K+1) in [0, 1], i rows and j columns: not symmetric. 1 on the diagonal; the row and the column of a class
        that never occurs are 0. Row and column 0 are of void.
    """
    both = together(counts)
    return both / np.maximum(both.diagonal(), 1)[:, None]


def rarity(counts: np.ndarray) -> np.ndarray:
    """How rare the rarest class of each map is: the share of all maps that hold it.

    Args:
        counts: (N, K+1), of `class_counts`.

    Returns:
        (N,) in (0, 1]; sorted upwards, maps with the rarest classes come first. Void does not count; 1 for a map that
        holds nothing else.
    """
    share = presence(counts) / max(len(counts), 1)
    share[VOID] = 1.0
    return np.where(counts > 0, share, 1.0).min(axis=1, initial=1.0)
