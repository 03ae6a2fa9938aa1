"""A data set of one's own: two folders and a small YAML that says what the numbers in the label maps mean.

names: {1: sky, 2: sea}          # the number of each class in the label maps, 0..65535
void: 0                          # that of pixels without a class; left out where every pixel has one
colours: {sky: [135, 190, 240]}  # optional: of all classes; for display, and for --encoding rgb
images: images                   # folders beside the YAML; these are the default names
labels: labels
val: 0.1                         # share to hold out, where the two folders have no folders `train` and `val`
"""

from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

import yaml

from dpsims.data.index import MAX_CLASSES
from dpsims.encodings import MAX_VALUE, Encoding
from dpsims.errors import InputError
from dpsims.labels import LabelSpace, spread_colours

FILE = "dataset.yml"  # looked for in the folder that --root gives
_REPR = Repr()
_REPR.maxlevel = 2  # anchors can make a few lines of YAML as large as one likes
short = _REPR.repr
KEYS = ("names", "void", "colours", "images", "labels", "val")


@dataclass(frozen=True)
class Description:
    """What a `dataset.yml` says. `val` is the share of the pairs to hold out, or None where folders tell."""

    file: Path
    encoding: Encoding
    images: Path
    labels: Path
    val: float | None


class _Loader(yaml.SafeLoader):
    """YAML takes the last of two equal keys without a word; a class must not be lost so."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.constructor.ConstructorError(
                problem=f"{twice[0]!r} is there twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_description(root: Path) -> Description:
    """Reads the YAML of a data set, every value checked.

    Args:
        root: the YAML, or the folder with `dataset.yml`.

    Raises:
        InputError: there is none, or it says something that cannot be.
    """
    file = root / FILE if root.is_dir() else root
    given = _mapping(file)
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        raise InputError(f"{file}: unknown key {short(unknown[0])}; known: {', '.join(KEYS)}")
    names = _names(file, given.get("names"))
    void, val = given.get("void"), given.get("val")
    if void is not None and not _is_value(void):
        raise InputError(
            f"{file}: void {short(void)} is not a whole number of 0..{MAX_VALUE}; leave it out if there is none"
        )
    if void in names:
        raise InputError(f"{file}: {void} is void and {names[void]}; give void another value, or remove the class")
    if val is not None and not (isinstance(val, float) and 0 < val < 1):
        raise InputError(f"{file}: val {short(val)} is not a share between 0 and 1, such as 0.1")
    space = LabelSpace("custom", ("void", *names.values()), _colours(file, given.get("colours"), list(names.values())))
    places = [_folder(file, key, given.get(key, key)) for key in ("images", "labels")]
    return Description(file, Encoding(space, "raw", (void, *names)), *places, val)


def _mapping(file: Path) -> dict[str, Any]:
    try:
        given = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise InputError(
            f"{file}: no such file; it says what the values of the label maps mean, see README.md"
        ) from None
    except PermissionError:
        raise InputError(f"{file}: is closed to you; ask for the right to read it") from None
    except (OSError, yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{file}: not readable as YAML ({reason}); correct it") from None
    if not isinstance(given, dict):
        raise InputError(f"{file}: holds no names; give at least `names: {{1: sky, 2: sea}}`")
    return given


def _names(file: Path, given: Any) -> dict[int, str]:
    """Value -> name, in the order of the values."""
    if not isinstance(given, dict) or not 1 <= len(given) <= MAX_CLASSES:
        raise InputError(
            f"{file}: names must give 1 to {MAX_CLASSES} classes as value: name, such as {{1: sky, 2: sea}}"
        )
    for value, name in given.items():
        if not _is_value(value):
            raise InputError(f"{file}: names: value {short(value)} is not a whole number of 0..{MAX_VALUE}")
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise InputError(f"{file}: names: the name of {value} is {short(name)}, no text; put it in quotes")
        if name == "void" or list(given.values()).count(name) > 1:
            problem = "is kept for pixels without a class: use `void:`" if name == "void" else "is there twice"
            raise InputError(f"{file}: names: {short(name)} {problem}")
    return dict(sorted(given.items()))


def _colours(file: Path, given: Any, names: list[str]) -> tuple[tuple[int, int, int], ...]:
    """K+1 colours, black for void if it has none."""
    if given is None:
        return spread_colours(len(names))
    if not isinstance(given, dict) or set(given) - {"void"} != set(names):
        raise InputError(f"{file}: colours must have the names of all classes, and perhaps void; or leave them out")
    colours = {"void": [0, 0, 0], **given}
    for name, colour in colours.items():
        parts = colour if isinstance(colour, list) else []
        if len(parts) != 3 or not all(_is_value(part) and part < 256 for part in parts):
            raise InputError(f"{file}: colours: {name} is {short(colour)}, no three whole numbers of 0..255")
    red_green_blue = [colours[name] for name in ("void", *names)]
    return tuple((red, green, blue) for red, green, blue in red_green_blue)


def _folder(file: Path, key: str, given: Any) -> Path:
    if not isinstance(given, str) or not given:
        raise InputError(f"{file}: {key} {short(given)} is not the name of a folder")
    return file.parent / given


def _is_value(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_VALUE  # True is an int, too
