"""Data sets on the disk: found by themselves, paired by name, and told exactly where they cannot be."""

import os
import re
import shutil
import unicodedata

import numpy as np
import pytest
import trees
from PIL import Image

from dpsims.data.folders import find_folders
from dpsims.data.prepare_folders import prepare_folders
from dpsims.errors import InputError
from dpsims.paths import DATA


@pytest.mark.parametrize(("dataset", "layout"), trees.LAYOUTS)
def test_every_layout_is_found_by_itself(tmp_path, dataset, layout):
    truth = trees.plant(tmp_path, dataset, layout)
    folders = find_folders(dataset, tmp_path)
    assert {split: len(pairs) for split, pairs in folders.splits.items()} == {"train": 4, "val": 2}
    assert not folders.alone and folders.ignored == 0
    for split, pairs in folders.splits.items():
        for index, pair in enumerate(pairs):
            image_name, label_name = trees.LAYOUTS[dataset, layout][split]
            assert pair.image == tmp_path / image_name.format(index)
            assert pair.labels == tmp_path / label_name.format(index)
            assert np.array_equal(folders.encoding.read(pair.labels), truth[pair.labels])


def test_the_folder_around_the_archive_will_do(tmp_path):
    trees.plant(tmp_path / "ADEChallengeData2016", "ade20k")
    assert find_folders("ade20k", tmp_path).splits == find_folders("ade20k", tmp_path / "ADEChallengeData2016").splits


def test_pairs_are_found_by_name_never_by_position(tmp_path):
    """Of SDM and SCP-Diff: one missing file shifted every later pair."""
    trees.plant(tmp_path, "ade20k")
    (tmp_path / "images/training/ADE_train_1.jpg").unlink()
    (tmp_path / "annotations/training/ADE_train_3.png").unlink()
    folders = find_folders("ade20k", tmp_path)
    pairs = folders.splits["train"]
    assert [pair.name for pair in pairs] == ["ADE_train_0", "ADE_train_2"]
    assert all(pair.image.stem == pair.labels.stem for pair in pairs)
    assert [problem.file.name for problem in folders.alone] == ["ADE_train_3.jpg", "ADE_train_1.png"]
    assert re.search(
        r"ADE_train_3.jpg: has no partner of this name in .*annotations.training; add", str(folders.alone[0])
    )


def test_label_maps_alone(tmp_path):
    trees.plant(tmp_path, "coco_stuff")
    shutil.rmtree(tmp_path / "val2017")
    with pytest.raises(InputError, match="val2017: no such folder; it should hold the images"):
        find_folders("coco_stuff", tmp_path)
    splits = find_folders("coco_stuff", tmp_path, photos=False).splits
    assert len(splits["train"]) == 4 and len(splits["val"]) == 2 and {pair.image for pair in splits["val"]} == {None}


def test_names_with_spaces_umlauts_dots_and_dashes(tmp_path):
    trees.plant(tmp_path, "custom", "folders", train=1, val=1)
    apart = unicodedata.normalize("NFD", "Küste")
    for image, labels in (("-a b.JPG", "-a b.png"), (f"{apart}.jpg", "Küste.png"), ("a.b.c.jpeg", "a.b.c.PNG")):
        shutil.copy(tmp_path / "images/val/shore 0.jpg", tmp_path / "images/val" / image)
        shutil.copy(tmp_path / "labels/val/shore 0.png", tmp_path / "labels/val" / labels)
    for junk in ("._shore 0.jpg", "Thumbs.db"):
        (tmp_path / "images/val" / junk).write_text("")
    folders = find_folders("custom", tmp_path)
    assert [pair.name for pair in folders.splits["val"]] == ["-a b", "Küste", "a.b.c", "shore 0"]
    assert not folders.alone and folders.ignored == 2


def test_folders_in_folders_and_links_to_folders(tmp_path):
    trees.plant(tmp_path / "disk", "custom", "folders")
    (tmp_path / "data/images").mkdir(parents=True)
    shutil.copy(tmp_path / "disk/dataset.yml", tmp_path / "data")
    (tmp_path / "data/labels").symlink_to(tmp_path / "disk/labels")
    for split in ("train", "val"):
        (tmp_path / "data/images" / split).symlink_to(tmp_path / "disk/images" / split)
    for kind in ("images", "labels"):
        shutil.copytree(tmp_path / "disk" / kind / "val", tmp_path / "disk" / kind / "train/more")
    names = [pair.name for pair in find_folders("custom", tmp_path / "data").splits["train"]]
    assert names == ["more/shore 0", "more/shore 1", *(f"shore {i}" for i in range(4))]


def remove(*names):
    def wreck(root):
        for name in names:
            shutil.rmtree(root / name)

    return wreck


def empty(name):
    def wreck(root):
        shutil.rmtree(root / name)
        (root / name).mkdir()

    return wreck


def link(name, target):
    return lambda root: (root / name).symlink_to(root / target)


def rename_all(folder, pattern, to):
    def wreck(root):
        for path in sorted((root / folder).rglob("*.png")):
            path.rename(path.with_name(path.name.replace(pattern, to)))

    return wreck


def another_suffix(root):
    Image.open(root / "images/training/ADE_train_0.jpg").save(root / "images/training/ADE_train_0.png")


BAD = [
    ("ade20k", lambda root: shutil.rmtree(root), "no such folder; give the folder of ade20k as --root"),
    ("ade20k", remove("annotations"), "holds no folder annotations/training or train_label, .* give the folder around"),
    ("ade20k", remove("images/training"), r"images.training: no such folder; it should hold the images"),
    ("ade20k", remove("annotations/validation"), r"annotations.validation: no such folder; it should hold the label"),
    ("ade20k", empty("annotations/validation"), r"annotations.validation: holds no label maps; is the archive unp"),
    ("ade20k", empty("images/training"), r"images.training: holds no images; is the archive unpacked"),
    ("ade20k", lambda root: (root / "train_label").mkdir(), r"two layouts, .*annotations.training and .*train_label;"),
    ("ade20k", link("images/training/loop", "images"), "training.loop: a symbolic link to a folder that it lies in"),
    (
        "ade20k",
        rename_all("annotations/training", "train", "seg"),
        "none of its 4 label maps has the name of one of the 4 images in .*, such as ADE_seg_0.png and ADE_train_0.jpg",
    ),
    (
        "cityscapes",
        rename_all("gtFine/val", "labelIds", "labelTrainIds"),
        r"gtFine.val: holds \*_labelTrainIds.png only, in which 14 of the 33 classes are lost; give \*_labelIds.png",
    ),
    ("cityscapes", rename_all("gtFine/val", "labelIds", "color"), r"holds no label maps \(\*_gtFine_labelIds.png\)"),
]


@pytest.mark.parametrize(("dataset", "wreck", "message"), BAD)
def test_what_is_wrong_is_said_exactly(tmp_path, dataset, wreck, message):
    root = tmp_path / "dä ta"
    trees.plant(root, dataset)
    find_folders(dataset, root)
    wreck(root)
    with pytest.raises(InputError, match=message) as caught:
        find_folders(dataset, root)
    assert str(caught.value).startswith(str(root)) and "\n" not in str(caught.value)


def pipe(root):
    os.mkfifo(root / "images/training/pipe.png")


def bytes_that_are_no_text(root):
    shutil.copy(root / "images/training/ADE_train_0.jpg", os.fsencode(root) + b"/images/training/k\xfcste.jpg")


def two_lines(root):
    (root / "images/training/ADE_train_0.jpg").rename(root / "images/training/a\nb.jpg")


@pytest.mark.parametrize(
    ("wreck", "message", "others"),
    [
        (another_suffix, r"ADE_train_0.png: has the name of ADE_train_0.jpg; .* remove one of them", 0),
        (link("images/training/a.jpg", "images/training/a.jpg"), r"a.jpg: cannot be followed \(.*remove or mend", 0),
        (link("images/training/a.jpg", "nowhere"), r"a.jpg: cannot be followed \(No such file", 0),
        (pipe, r"pipe.png: is no file, but a pipe or a device; remove it", 0),
        (bytes_that_are_no_text, r"k\\udcfcste.jpg: has a name that is no line of UTF-8 text; rename it", 0),
        (two_lines, r"a\\nb.jpg: has a name that is no line of UTF-8 text; rename it", 1),
    ],
)
def test_single_files_that_cannot_be_used_are_listed_and_can_be_skipped(tmp_path, wreck, message, others):
    trees.plant(tmp_path / "tree", "ade20k", train=3)
    wreck(tmp_path / "tree")
    bad = [str(one) for one in find_folders("ade20k", tmp_path / "tree").alone]
    assert len(bad) == 1 + others and re.search(message, bad[0]) and all(one.isprintable() for one in bad)
    out, report = prepare_folders("ade20k", tmp_path / "tree", tmp_path / "out", size=16, skip_bad=True, progress=False)
    assert report.pairs == {"train": 3 - others, "val": 2}
    assert (tmp_path / "out-skipped.txt").read_text(encoding="utf-8").splitlines() == bad


def test_hidden_folders_and_files_outside_the_splits_are_counted_not_taken(tmp_path):
    trees.plant(tmp_path, "custom", "folders")
    for kind in ("images", "labels"):
        (one,) = list((tmp_path / kind / "train").iterdir())[:1]
        for place in ("train/.trash", "test/more", "val/.ipynb_checkpoints"):
            (tmp_path / kind / place).mkdir(parents=True)
            shutil.copy(one, tmp_path / kind / place / f"old{one.suffix}")
        shutil.copy(one, tmp_path / kind / f"beside{one.suffix}")
    folders = find_folders("custom", tmp_path)
    assert [len(pairs) for pairs in folders.splits.values()] == [4, 2] and not folders.alone
    assert folders.ignored == 8


def test_a_link_from_one_split_into_the_other_is_refused(tmp_path):
    trees.plant(tmp_path, "custom", "folders")
    for kind in ("images", "labels"):
        (tmp_path / kind / "train" / "more").symlink_to(tmp_path / kind / "val")
    with pytest.raises(InputError, match=r"labels/train/more/.*: the same file as .*labels/val/.*, which is held out"):
        find_folders("custom", tmp_path)


def test_another_data_set_is_recognised(tmp_path):
    trees.plant(tmp_path, "cityscapes")
    with pytest.raises(InputError, match="as coco_stuff has it; it looks like cityscapes"):
        find_folders("coco_stuff", tmp_path)
    with pytest.raises(InputError, match="dataset: 'faces' is not one of ade20k, coco_stuff, cityscapes, custom"):
        find_folders("faces", tmp_path)


def test_other_files_of_cityscapes_are_counted_not_paired(tmp_path):
    trees.plant(tmp_path, "cityscapes")
    for ending in ("color.png", "instanceIds.png", "polygons.json"):
        (tmp_path / f"gtFine/val/ulm/ulm_0_000019_gtFine_{ending}").write_text("")
    folders = find_folders("cityscapes", tmp_path)
    assert folders.ignored == 3 and not folders.alone


def flat(root, *, val="val: 0.25\n", count=8):
    """Two flat folders and a YAML."""
    trees.plant(root / "drawn", "custom", "folders", train=count)
    for kind in ("images", "labels"):
        shutil.copytree(root / "drawn" / kind / "train", root / kind)
    (root / "dataset.yml").write_text(trees.CUSTOM + val)
    return root


def test_two_flat_folders_are_split_by_a_hash_of_the_names(tmp_path):
    splits = find_folders("custom", flat(tmp_path)).splits
    names = {split: [pair.name for pair in pairs] for split, pairs in splits.items()}
    assert len(names["val"]) == 2 and len(names["train"]) == 6 and not set(names["val"]) & set(names["train"])
    assert find_folders("custom", tmp_path / "dataset.yml").splits == splits  # the YAML will do as root
    (tmp_path / "dataset.yml").write_text(trees.CUSTOM + "val: 0.999\n")
    assert len(find_folders("custom", tmp_path).splits["train"]) == 1  # at least one on either side


@pytest.mark.parametrize("name", ["raw", "rgb"])
def test_ones_own_colours(tmp_path, name):
    flat(tmp_path)
    colours = "colours:\n" + "".join(f"  {c}: [{i}, 2, 3]\n" for i, c in enumerate(trees.scenes.CLASSES))
    (tmp_path / "dataset.yml").write_text(trees.CUSTOM + "val: 0.5\n" + colours)
    for path in (tmp_path / "labels").iterdir():
        values = np.asarray(Image.open(path))
        if name == "rgb":
            Image.fromarray(np.stack([values // 10, 0 * values + 2, 0 * values + 3], -1)).save(path)
    folders = find_folders("custom", tmp_path, encoding_name=name)
    assert folders.encoding.space.colours[:3] == ((0, 0, 0), (0, 2, 3), (1, 2, 3))
    for pair in folders.splits["train"]:
        index = int(pair.name.split()[-1])
        assert np.array_equal(folders.encoding.read(pair.labels), trees.draw(index, "train")[1])


YAML = [
    ("names: {1: sky", "not readable as YAML"),
    ("", "holds no names"),
    ("names: [sky, sea]", "names must give 1 to 255 classes"),
    ("names: {}", "names must give 1 to 255 classes"),
    ("names: {1: sky, 1: sea}", "1 is there twice"),
    ("names: {1: sky, 2: sky}", "names: 'sky' is there twice"),
    ("names: {1: sky, -2: sea}", "value -2 is not a whole number"),
    ("names: {1: sky, two: sea}", "value 'two' is not a whole number"),
    ("names: {1: sky, 65536: sea}", "value 65536 is not"),
    ("names: {1: no}", "the name of 1 is False, no text; put it in quotes"),
    ("names: {1: void}", "'void' is kept for pixels without a class"),
    ("names: {1: sky}\nvoid: 1", "1 is void and sky"),
    ("names: {1: sky}\nvoid: none", "void 'none' is not a whole number .*; leave it out"),
    ("names: {1: sky}\nnc: 3", "unknown key 'nc'; known: names, void"),
    ("names: {1: sky}\nval: 3", "val 3 is not a share"),
    ("names: {1: sky}\nval: 1.0", "val 1.0 is not a share"),
    ("names: {1: sky}\nimages: 3", "images 3 is not the name of a folder"),
    ("names: {1: sky}\ncolours: {sea: [1, 2, 3]}", "colours must have the names of all classes"),
    ("names: {1: sky}\ncolours: {sky: [1, 2, 256]}", r"sky is \[1, 2, 256\], no three whole numbers"),
    ("names: {1: sky}\n? [1, 2]\n: 3", "not readable as YAML"),
]


@pytest.mark.parametrize(("text", "message"), YAML)
def test_a_wrong_yaml_is_said_exactly(tmp_path, text, message):
    (tmp_path / "dataset.yml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        find_folders("custom", tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "dataset.yml")) and "\n" not in str(caught.value)


def test_custom_data_without_yaml_share_or_with_both(tmp_path):
    with pytest.raises(InputError, match="dataset.yml: no such file; it says what the values"):
        find_folders("custom", tmp_path)
    flat(tmp_path, val="")
    with pytest.raises(InputError, match="labels: has no folders train and val; make them .* or add val: 0.1"):
        find_folders("custom", tmp_path)
    with pytest.raises(InputError, match="'spade' is not one of raw, rgb"):
        find_folders("custom", tmp_path, encoding_name="spade")
    (tmp_path / "drawn/dataset.yml").write_text(trees.CUSTOM + "val: 0.5")
    with pytest.raises(InputError, match="val is given, but .*labels has folders that tell"):
        find_folders("custom", tmp_path / "drawn")


def test_the_example_in_the_repository():
    folders = find_folders("custom", DATA / "custom_example")
    assert {split: len(pairs) for split, pairs in folders.splits.items()} == {"train": 3, "val": 1}
    seen = set()
    for pair in (pair for pairs in folders.splits.values() for pair in pairs):
        ids = folders.encoding.read(pair.labels)
        assert Image.open(pair.image).size == ids.shape[::-1]
        seen |= set(np.unique(ids).tolist())
    assert len(seen) >= 8, "an example shows most of its classes"
