"""Images in files from label maps in files: `dpsims generate`.

H and W height and width.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from dpsims.checks import as_seeds
from dpsims.data.prepared import load_prepared
from dpsims.encodings import ENCODINGS, RGB, Palette, encoding
from dpsims.errors import InputError
from dpsims.files import png_files, replacing
from dpsims.images import to_uint8
from dpsims.labels import LabelSpace, check_size, read_label_map, resize_nearest
from dpsims.noise import class_region
from dpsims.synthesis import Synthesizer, load_generator

MAX_IMAGES = 1_000_000  # a map; their seeds are listed before the first is drawn
IDS = "ids"  # label maps of our own ids
RESIZE = "pass --resize to take the nearest pixels"

Maps = Sequence[tuple[str, Callable[[], np.ndarray]]]  # names, and what reads each label map, (H, W) ids


def generate_files(
    checkpoint_path: str | Path,
    labels: str | Path,
    out: str | Path,
    seed: int = 0,
    n: int = 4,
    *,
    vary: Sequence[str] = (),
    lock: bool = False,
    encoding_name: str | None = None,
    resize: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Images from label maps in files: ``OUT/<name>_seed<seed>.png``, n a map, with seeds seed, seed + 1, ...

    Args:
        checkpoint_path: see `load_generator`.
        labels: a PNG of labels, a folder of them, or a prepared data set, with photographs or without. Of that the
            held-out maps are drawn, under the names by which `dpsims evaluate --images` knows them.
        out: folder for the images; made if need be.
        seed: of the first image of every map.
        n: images a map, at most `MAX_IMAGES`.
        vary: names of classes; if given, all images of a map have the noise of `seed`, and only inside these classes
            that of seed + 1, seed + 2, ...; the files are ``<stem>_seed<seed>_vary<other>.png``.
        lock: with `vary`, keep every other pixel bit for bit.
        encoding_name: what PNGs hold: "ids", or as `dpsims.encodings` has it "raw", "oasis", "spade" or "rgb".
            None: "ids", but for classes of one's own, whose PNGs may hold other values as well.
        resize: bring maps of another size to that of the model (`resize_nearest`); else they are refused.

    Returns:
        The files written.

    Raises:
        InputError: bad checkpoint, label map (each is checked before the first image is made), class, seed, folder or
            encoding.
    """
    if not 1 <= n <= MAX_IMAGES:
        raise InputError(f"n: {n} must lie between 1 and {MAX_IMAGES}")
    seeds = as_seeds(seed, n + 1)
    if lock and not vary:
        raise InputError("lock: keeps what is outside the classes of vary; give them too")
    labels = Path(labels)
    files = {} if (labels / "index.json").is_file() else _label_files(labels)
    synthesize = load_generator(checkpoint_path, None)
    classes = [synthesize.space.id_of(name) for name in vary]
    size = None if resize else synthesize.size
    if files:
        maps = _maps_in_files(files, synthesize.space, encoding_name, size)
    else:
        maps = _maps_prepared(labels, synthesize.space, encoding_name, size)
    for _, read in tqdm(maps, "checking", unit="map", delay=5, disable=not progress):
        read()  # and once more below: a large data set would fill the memory
    out, written = Path(out), []
    for stem, read in tqdm(maps, "generating", unit="map", disable=not progress):
        ids = torch.from_numpy(resize_nearest(read(), synthesize.size))[None]
        for name, image in _images_of(synthesize, ids, seeds, classes, lock):
            target = out / f"{stem}_{name}.png"
            with replacing(target) as temporary:
                Image.fromarray(image).save(temporary, format="PNG")
            written.append(target)
    return written


def _label_files(labels: Path) -> dict[str, Path]:
    """The label map, or those in a folder and below, by the name that their images get."""
    if not labels.is_dir():
        return {labels.stem: labels}
    files: dict[str, Path] = {}
    for path in png_files(labels):
        stem = path.relative_to(labels).with_suffix("").as_posix()
        if stem in files:
            raise InputError(f"{path}: its images would replace those of {files[stem].name}; rename one of the two")
        files[stem] = path
    if not files:
        raise InputError(f"{labels}: holds no PNG; give a label map or a folder of them")
    return files


def _maps_in_files(files: dict[str, Path], space: LabelSpace, name: str | None, size: tuple[int, int] | None) -> Maps:
    """Label maps in PNGs of an encoding, of a size where one is given."""
    if name is None and space.name == "custom":
        raise InputError(
            f"{next(iter(files.values()))}: does it hold {IDS}, 0 = void, 1 = {space.names[1]} and so on? Then pass "
            f"--encoding {IDS}; maps with the values of dataset.yml are prepared first, with --labels-only"
        )
    name = name or IDS
    if name == IDS:
        return [(stem, partial(read_label_map, path, space, size)) for stem, path in files.items()]
    if name == RGB:
        coding = Palette(space)
    elif space.name in ENCODINGS:
        coding = encoding(space.name, name)
    else:
        raise InputError(
            f"encoding: {name!r} of {space.name} is known to its dataset.yml alone; prepare these maps "
            f"with --labels-only and give that folder as --labels, or give maps of {IDS} or {RGB}"
        )

    def read(path: Path) -> np.ndarray:
        ids = coding.read(path)
        check_size(f"{path}:", ids.shape, size, RESIZE)
        return ids

    return [(stem, partial(read, path)) for stem, path in files.items()]


def _maps_prepared(folder: Path, space: LabelSpace, name: str | None, size: tuple[int, int] | None) -> Maps:
    """The held-out label maps of a prepared data set, by name, or by position where it has no names."""
    data = load_prepared(folder)
    if name not in (None, IDS):
        raise InputError(f"encoding: {name!r}, but {folder} is prepared, and so holds {IDS}; leave --encoding out")
    data.check_classes(space)
    check_size(f"{folder}: label maps of", (data.index["height"], data.index["width"]), size, RESIZE)
    labels = data.split("val").labels
    names = data.index.get("held_out", range(len(labels)))
    return [(str(name), partial(np.array, labels[place])) for place, name in enumerate(names)]


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
