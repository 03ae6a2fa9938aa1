"""Small data sets on the disk in every layout, drawn from Scenes at odd sizes; no real data set is needed.

And what tests of several files do with them: the command line, and what is expected of prepared arrays.
"""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dpsims.cli import app
from dpsims.config import Config, override
from dpsims.data import scenes
from dpsims.data.prepare import classes, prepare_scenes, write_prepared
from dpsims.encodings import encoding
from dpsims.labels import LabelSpace
from dpsims.presets import preset

# where the image and the label map of the pair `{}` lie, by (data set, layout) and split
LAYOUTS = {
    ("ade20k", "official"): {
        "train": ("images/training/ADE_train_{}.jpg", "annotations/training/ADE_train_{}.png"),
        "val": ("images/validation/ADE_val_{}.jpg", "annotations/validation/ADE_val_{}.png"),
    },
    ("coco_stuff", "official"): {
        split: (f"{split}2017/00000{{}}.jpg", f"stuffthingmaps_trainval2017/{split}2017/00000{{}}.png")
        for split in ("train", "val")
    },
    ("cityscapes", "official"): {
        split: (
            f"leftImg8bit/{split}/ulm/ulm_{{}}_000019_leftImg8bit.png",
            f"gtFine/{split}/ulm/ulm_{{}}_000019_gtFine_labelIds.png",
        )
        for split in ("train", "val")
    },
    ("custom", "folders"): {
        split: (f"images/{split}/shore {{}}.jpg", f"labels/{split}/shore {{}}.png") for split in ("train", "val")
    },
    **{
        (dataset, "spade"): {split: (f"{split}_img/{{}}.jpg", f"{split}_label/{{}}.png") for split in ("train", "val")}
        for dataset in ("ade20k", "coco_stuff", "cityscapes")
    },
}
CUSTOM = "void: 255\nnames:\n" + "".join(f"  {10 * i}: {name}\n" for i, name in enumerate(scenes.CLASSES))
QUIET = {"progress": False, "jobs": 1}  # for prepare_folders and check_folders
SIZES = ((37, 53), (64, 41), (50, 50))  # (height, width) of the pairs in turn


def launch(number: int, *command: object) -> list[str]:
    """The command line of several processes on this machine: `accelerate launch` starts several on GPUs alone."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)] if number > 1 else []
    return [sys.executable, *start, *map(str, command)]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}  # of these


def scenes_of(n: int, n_val: int = 8, scope: str = "module"):
    """A fixture: prepared Scenes of 64 px, so many to train on and held out."""

    @pytest.fixture(scope=scope)
    def data(tmp_path_factory) -> Path:
        return prepare_scenes(tmp_path_factory.mktemp("data") / "scenes", size=64, n=n, n_val=n_val, progress=False)

    return data


def tiny(data: Path, *settings: str) -> Config:
    """The preset of seconds, for prepared data."""
    return override(preset("tiny"), [f"data.path={data}", *settings])


def ids_of(labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    """Ids of Scenes spread over another space, so that its last class and void occur."""
    table = np.linspace(0, space.num_classes, len(scenes.CLASSES)).astype(np.uint8)  # grass void, wherever
    return table[labels - 1]


def draw(index: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    batch = scenes.render([index], SIZES[index % len(SIZES)], split=split)
    return batch.images[0], batch.labels[0]


def plant(root: Path, dataset: str, layout: str = "official", train: int = 4, val: int = 2) -> dict[Path, np.ndarray]:
    """Draw a tree; returns the ids of each label map."""
    written = {}
    if dataset == "custom":
        root.mkdir(parents=True, exist_ok=True)
        (root / "dataset.yml").write_text(CUSTOM)
    for split, (image_name, label_name) in LAYOUTS[dataset, layout].items():
        for index in range({"train": train, "val": val}[split]):
            image, label_map = root / image_name.format(index), root / label_name.format(index)
            pixels, labels = draw(index, split)
            if dataset == "custom":
                ids, values = labels, (labels - 1) * 10
            else:
                coding = encoding(dataset)
                ids = ids_of(labels, coding.space)
                values = coding.encode(ids)
            for path, array in ((image, pixels), (label_map, values)):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
            written[label_map] = ids
    return written


def space_of(k):
    """K classes, with names that a CSV must quote."""
    names = ("void", *(f'class, no. {i} of "ä"' for i in range(1, k + 1)))
    return LabelSpace("custom", names, tuple((i, 255 - i, i // 2) for i in range(k + 1)))


def drawn(out, k, size=(32, 48), n=6):
    """A prepared data set of K classes; an image shows the id of each pixel in all its channels."""

    def source(split, count):
        ids = np.random.default_rng(len(split)).integers(0, k + 1, (count, size[0] // 4, size[1] // 4), np.uint8)
        labels = ids.repeat(4, 1).repeat(4, 2)
        yield labels[..., None].repeat(3, -1), labels, None

    header = {"dataset": "custom", "height": size[0], "width": size[1], **classes(space_of(k))}
    return write_prepared(out, header, {"train": n, "val": 4}, source, progress=False)


def nearest(ids, height, width):
    """Tries all centres; (j + 1/2) / old and (i + 1/2) / new in whole numbers."""

    def along(old, new):
        away = np.abs([[(2 * j + 1) * new - (2 * i + 1) * old for j in range(old)] for i in range(new)])
        return [max(np.flatnonzero(row == row.min())) for row in away]

    return ids[along(ids.shape[0], height)][:, along(ids.shape[1], width)]


def encoded(image, kind="PNG"):
    """The bytes of its file."""
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def dpsims(*line):
    """What the command prints; it must succeed."""
    said = CliRunner().invoke(app, [str(part) for part in line])
    assert said.exit_code == 0, (line, said.output, said.exception)
    return said.stdout
