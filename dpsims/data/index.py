"""index.json of a prepared folder: read once, and every value checked before anything relies on it."""

import json
from pathlib import Path, PurePath
from reprlib import repr as short
from typing import Any

from dpsims.errors import InputError
from dpsims.labels import label_space

FORMAT = 1  # of the folder
MAX_CLASSES = 255  # labels are uint8, and 0 is void


def read_index(path: Path) -> dict[str, Any] | None:
    """The index of a prepared folder, or None where there is none.

    Raises:
        InputError: it cannot be read, is of another format, or holds a value that cannot be.
    """
    file = path / "index.json"
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: cannot be read ({error}); {again(path)}") from error
    problem = _problem(index)
    if problem:
        raise InputError(f"{file}: {problem}; {again(path)}")
    space = label_space("scenes")
    if "names" not in index and (index["dataset"], index["num_classes"]) == (space.name, space.num_classes):
        # made before indices had names
        index |= {"names": list(space.names), "colours": [list(colour) for colour in space.colours]}
    return index


def again(path: Path) -> str:
    """The remedy for a folder that is not what it should be."""
    return f"remove {path} and prepare again, or give another folder"


def _problem(index: Any) -> str:
    """What is wrong with an index, in words; empty for a good one."""
    if not isinstance(index, dict) or "format" not in index:
        return "not the index of prepared data"
    if index["format"] != FORMAT:
        return f"format {short(index['format'])}, this version reads {FORMAT}"
    if not isinstance(index.get("dataset"), str):
        return f"dataset {short(index.get('dataset'))} is not a name"
    for key, lowest in {"height": 1, "width": 1, "num_classes": 1, "seed": 0}.items():
        if not _whole(index.get(key), lowest) and (key in index or key != "seed"):  # not all data are drawn by a seed
            return f"{key} {short(index.get(key))} is not a whole number of {lowest} or more"
    if index["num_classes"] > MAX_CLASSES:
        return f"num_classes {short(index['num_classes'])} is more than {MAX_CLASSES}"
    if "names" in index and (problem := _names_problem(index)):
        return problem
    hashes, splits = index.get("sha256"), index.get("splits")
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        return f"sha256 {short(hashes)} is not a hash for each file"
    if not isinstance(splits, dict) or not splits:
        return f"splits {short(splits)} names no split"
    problem = next(filter(None, (_split_problem(name, split, index) for name, split in splits.items())), "")
    return problem or _held_out_problem(index)


def _held_out_problem(index: dict[str, Any]) -> str:
    """Of the names of the held-out pairs, which only data sets from the disk have."""
    names, count = index.get("held_out"), index["splits"].get("val", {}).get("count")
    if names is None:
        return ""
    if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
        return f"held_out {short(names)} is not a name for each of the {count} pairs of val"
    outside = [name for name in names if PurePath(name).is_absolute() or ".." in PurePath(name).parts]
    return f"held_out: {short(outside[0])} leads out of a folder" if outside else ""  # images are written under it


def _names_problem(index: dict[str, Any]) -> str:
    names, colours, count = index["names"], index.get("colours"), index["num_classes"] + 1
    if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
        return f"names {short(names)} are not {count} texts"
    triples = isinstance(colours, list) and len(colours) == count
    if not triples or not all(isinstance(c, list) and len(c) == 3 and all(_whole(n, 0) for n in c) for c in colours):
        return f"colours {short(colours)} are not {count} triples of whole numbers"
    return ""


def _split_problem(name: str, split: Any, index: dict[str, Any]) -> str:
    if not isinstance(split, dict) or not _whole(split.get("count"), 1):
        return f"split {name} is {short(split)}, without a count of 1 or more"
    pixels, classes = split.get("class_pixels"), index["num_classes"] + 1
    total = split["count"] * index["height"] * index["width"]
    numbers = isinstance(pixels, list) and len(pixels) == classes and all(_whole(n, 0) for n in pixels)
    if not numbers or sum(pixels) != total:
        return f"class_pixels of {name} {short(pixels)} are not {classes} whole numbers that sum to {total}"
    return ""


def _whole(value: Any, lowest: int) -> bool:
    return type(value) is int and value >= lowest  # `isinstance` would take True for 1
