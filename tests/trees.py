"""Small data sets on the disk in every layout, drawn from Scenes at odd sizes; no real data set is needed."""

from pathlib import Path

import numpy as np
from PIL import Image

from dpsims.data import scenes
from dpsims.encodings import encoding
from dpsims.labels import LabelSpace

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
SIZES = ((37, 53), (64, 41), (50, 50))  # (height, width) of the pairs in turn


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
