"""Images in files from label maps in files: `dpsims generate`.

H and W height and width.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from dpsims.checks import as_seeds
from dpsims.data.loader import middle
from dpsims.data.prepare import load_prepared
from dpsims.errors import InputError
from dpsims.files import replacing
from dpsims.images import to_uint8
from dpsims.labels import read_label_map
from dpsims.noise import class_region
from dpsims.synthesis import Synthesizer, load_generator

MAX_IMAGES = 1_000_000  # a map; their seeds are listed before the first is drawn


def generate_files(
    checkpoint_path: str | Path,
    labels: str | Path,
    out: str | Path,
    seed: int = 0,
    n: int = 4,
    *,
    vary: Sequence[str] = (),
    lock: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Images from label maps in files: ``OUT/<stem>_seed<seed>.png``, n a map, with seeds seed, seed + 1, ...

    Args:
        checkpoint_path: see `load_generator`.
        labels: a PNG of class ids, a folder of them, or a prepared data set: its held-out label maps, called as they
            were when it was prepared, or by their position in the split; the middle of larger ones.
        out: folder for the images; made if need be.
        seed: of the first image of every map.
        n: images a map, at most `MAX_IMAGES`.
        vary: names of classes; if given, all images of a map have the noise of `seed`, and only inside these classes
            that of seed + 1, seed + 2, ...; the files are ``<stem>_seed<seed>_vary<other>.png``.
        lock: with `vary`, keep every other pixel bit for bit.

    Returns:
        The files written.

    Raises:
        InputError: bad checkpoint, label map (each is checked before the first image is made), class, seed or folder.
    """
    if not 1 <= n <= MAX_IMAGES:
        raise InputError(f"n: {n} must lie between 1 and {MAX_IMAGES}")
    seeds = as_seeds(seed, n + 1)
    if lock and not vary:
        raise InputError("lock: keeps what is outside the classes of vary; give them too")
    labels, out, written = Path(labels), Path(out), []
    files = [] if (labels / "index.json").is_file() else _label_files(labels)
    synthesize = load_generator(checkpoint_path, None)
    classes = [synthesize.space.id_of(name) for name in vary]
    if files:
        maps = {path.stem: read_label_map(path, synthesize.space, synthesize.size) for path in files}
    else:
        maps = _held_out(labels, synthesize)
    for stem, ids in tqdm(maps.items(), "generating", unit="map", disable=not progress):
        for name, image in _images_of(synthesize, torch.from_numpy(np.array(ids))[None], seeds, classes, lock):
            target = out / f"{stem}_{name}.png"
            with replacing(target) as temporary:
                Image.fromarray(image).save(temporary, format="PNG")
            written.append(target)
    return written


def _label_files(labels: Path) -> list[Path]:
    """The label map, or those of a folder, whose images would not replace one another."""
    files = sorted(p for p in labels.iterdir() if p.suffix.lower() == ".png") if labels.is_dir() else [labels]
    if not files:
        raise InputError(f"{labels}: holds no PNG; give a label map or a folder of them")
    for first, second in pairwise(sorted(files, key=lambda p: p.stem)):
        if first.stem == second.stem:
            raise InputError(f"{second}: its images would replace those of {first.name}; rename one of the two")
    return files


def _held_out(folder: Path, synthesize: Synthesizer) -> dict[str, np.ndarray]:
    """The held-out label maps (H, W) of a prepared data set by name, or by position where it has no names."""
    data = load_prepared(folder)
    labels = data.split("val").labels
    fits = all(there >= side for there, side in zip(labels.shape[1:], synthesize.size, strict=True))
    if data.space.names != synthesize.space.names or not fits:
        draws, holds = (
            f"{space.num_classes} classes of {space.name} at {height} x {width} pixels"
            for space, (height, width) in ((synthesize.space, synthesize.size), (data.space, labels.shape[1:]))
        )
        raise InputError(f"{folder}: holds {holds}, and the model draws {draws}; give the data that it was trained on")
    names = data.index.get("held_out") or map(str, range(len(labels)))
    return dict(zip(names, middle(labels, synthesize.size), strict=True))


def _images_of(
    synthesize: Synthesizer, ids: Tensor, seeds: list[int], classes: list[int], lock: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and images (H, W, 3) uint8 of one label map (1, H, W), one fewer than seeds."""
    first, *others = seeds
    if classes:
        for other in others:
            image = synthesize.vary(ids, class_region(ids, classes), first, other, lock)
            yield f"seed{first}_vary{other}", to_uint8(image)[0]
    else:
        for seed in seeds[:-1]:
            yield f"seed{seed}", to_uint8(synthesize(ids, seed=seed))[0]
