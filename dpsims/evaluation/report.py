"""The figures of a result as text: tables and sentences for `dpsims evaluate`, README.md, model cards and notebook 4.

Results of format 1 had fewer figures; a column appears where any row has its figure. A figure is rounded in one way
wherever it is written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COLUMNS = {  # key of a figure: (name of its column, decimals)
    "frechet": ("distance", 1),
    "frechet_texture": ("texture distance", 1),
    "frechet_rebalanced": ("re-balanced distance", 1),
    "miou": ("mIoU", 3),
    "diversity_l1": ("diversity L1", 3),
    "moods_per_six": ("moods in six draws", 2),
}
WITH_INTERVAL = "frechet"  # the others have one in the file; a table of five would not be read
NAMES = {  # reference rows in words
    "real": "real images",
    "redrawn": "perfect sampler: the maps drawn again",
    "train": "training images on their own maps",
    "blur_3x3": "real images, slightly blurred",
    "class_mood_mean": "flat colours in the right moods",
    "class_mean": "flat colours",
    "one_mood": "perfect sampler in one mood alone",
}
FAIR_MOODS = 6 * (1 - (5 / 6) ** 6)  # different ones in six draws of six equal moods

Row = dict[str, Any]  # as `protocol.evaluate` returns it


def shown(references: Mapping[str, Row]) -> dict[str, Row]:
    """The reference rows of `NAMES`, without the diversity of those that have one image a map by construction."""
    single = {"diversity_l1": None, "diversity_ratio": None, "moods_per_six": None}
    return {name: row if row["diversity_l1"] else row | single for name, row in references.items() if name in NAMES}


def beside(name: str, row: Row, references: Mapping[str, Row]) -> str:
    """A generator among reference rows, nearest to real images first, as a Markdown table.

    Args:
        name: of the generator.
        row: its figures.
        references: as `protocol.reference_rows` returns them.
    """
    named = {f"{NAMES[key]} (`{key}`)": reference for key, reference in shown(references).items()}
    ordered = sorted({f"**{name}**": row, **named}.items(), key=lambda item: item[1]["frechet"])
    return markdown(cells(dict(ordered)))


def cells(rows: Mapping[str, Row]) -> list[list[str]]:
    """Rows of a result, by name, as lines of text cells, the first of them the names of the columns.

    Args:
        rows: as `protocol.evaluate` returns them; a figure that a row lacks is a dash.
    """
    keys = [key for key in COLUMNS if any(row.get(key) is not None for row in rows.values())]
    lines = [["images", *(COLUMNS[key][0] for key in keys)]]
    for name, row in rows.items():
        lines.append([name, *(_cell(row, key) for key in keys)])
    return lines


def _cell(row: Row, key: str) -> str:
    if row.get(key) is None:
        return "–"
    bounds = row.get(f"{key}_interval") if key == WITH_INTERVAL else None
    interval = "" if bounds is None else f" [{bounds[0]:.{COLUMNS[key][1]}f}, {bounds[1]:.{COLUMNS[key][1]}f}]"
    return _figure(row, key) + interval


def _figure(row: Row, key: str) -> str:
    return f"{row[key]:.{COLUMNS[key][1]}f}"


def plain(lines: list[list[str]]) -> str:
    """Cells in aligned columns, for a terminal."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def markdown(lines: list[list[str]]) -> str:
    """Cells as a Markdown table."""
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|" + "---|" * len(lines[0]), *body])


def verdict(row: Row, references: Mapping[str, Row]) -> list[str]:
    """What the figures of a generator say beside the reference rows, one sentence a question; what cannot be said of
    data other than Scenes is told.

    Args:
        row: of the generator, as `protocol.evaluate` returns it.
        references: as `protocol.reference_rows` does.
    """
    return [_realism(row, references), _fidelity(row, references), _diversity(row, references)]


def _realism(row: Row, references: Mapping[str, Row]) -> str:
    """Both distances beside flat colours, in the right moods where these are known, and the perfect sampler, or where
    there is none other real images."""
    colour = "class_mood_mean" if "class_mood_mean" in references else "class_mean"
    best = next(name for name in BEST if name in references)
    flat, perfect = references[colour], references[best]
    both = ("frechet", "frechet_texture")
    times, apart = zip(*((_times(row, perfect, key), _figure(perfect, key)) for key in both), strict=True)
    closer = [row[key] < flat[key] for key in both]
    said = {
        (True, True): f"closer to real images than {NAMES[colour]}, by both distances",
        (True, False): "closer to real images than flat colours by the distance, but not by the texture distance",
        (False, True): "closer to real images than flat colours by the texture distance alone",
        (False, False): f"no closer to real images than {NAMES[colour]}",
    }[tuple(closer)]
    low, high = row.get("frechet_interval") or (row["frechet"],) * 2
    sure = "not certain with these maps" if low <= flat["frechet"] <= high else "beyond the interval of its distance"
    return (
        f"**Realism**: the distance is {_figure(row, 'frechet')}, {times[0]} that of {BEST[best]} ({apart[0]}); "
        f"the texture distance is {_figure(row, 'frechet_texture')}, {times[1]} ({apart[1]}). It is {said} "
        f"({_figure(flat, 'frechet')}, {sure}, and {_figure(flat, 'frechet_texture')})."
    )


# rows that are as close to real images as can be; the last says least
BEST = {"redrawn": "a perfect sampler", "train": "other real images, of other maps", "real": "the very images"}


def _times(row: Row, other: Row, key: str) -> str:
    return f"{row[key] / other[key]:.1f} times" if other[key] else "above"


def _fidelity(row: Row, references: Mapping[str, Row]) -> str:
    """mIoU as a share of what real images reach, and whether flat colours reach it too."""
    real, flat = references["real"], references["class_mean"]
    if not real["miou"]:
        return "**Fidelity**: cannot be said: the segmenter finds nothing in real images."
    over = row["miou"] - flat["miou"]
    than = "more than" if over > 0.02 else "no more than" if over < -0.02 else "as much as"
    return (
        f"**Fidelity**: the segmenter finds {row['miou'] / real['miou']:.0%} of what it finds in real images (mIoU "
        f"{_figure(row, 'miou')} of {_figure(real, 'miou')}), {than} in flat colours ({_figure(flat, 'miou')})."
    )


def _diversity(row: Row, references: Mapping[str, Row]) -> str:
    """Distance between draws beside the known one, and moods that are hardly drawn."""
    between, known = row["diversity_l1"], references.get("redrawn", {}).get("diversity_l1")
    if between is None:
        said = ["not measured, with one image a map"]
    elif not between:
        said = ["every draw of a map is the same image"]
    elif known:
        said = [f"two draws of a map are {between / known:.2f} times as far apart as the known distribution has them"]
    else:
        said = [f"two draws of a map differ by {between:.3f} of the range of values; how far they should is not known"]
    if between and row["moods_per_six"] is not None:
        said.append(f"{_figure(row, 'moods_per_six')} moods in six draws (fair: {FAIR_MOODS:.2f})")
    if row["mood_shares"]:
        lost = [mood for mood, share in row["mood_shares"].items() if share < 0.05]
        said.append(f"hardly ever drawn: {', '.join(lost)}" if lost else "no mood is lost")
        said += _unequal(row)
    return f"**Diversity**: {'; '.join(said)}."


def _unequal(row: Row) -> list[str]:
    """Which moods are drawn too often or too rarely, where chance does not explain it: three standard deviations."""
    fair, images = 1 / len(row["mood_shares"]), row.get("num_images", 1)
    scatter = 3 * (fair * (1 - fair) / images) ** 0.5
    often = [mood for mood, share in row["mood_shares"].items() if share > fair + scatter]
    rarely = [mood for mood, share in row["mood_shares"].items() if 0.05 <= share < fair - scatter]
    words = [f"{', '.join(moods)} too {how}" for moods, how in ((often, "often"), (rarely, "rarely")) if moods]
    return [f"drawn {' and '.join(words)}, beyond chance"] if words else []


def mood_shares(row: Row) -> str:
    """The share of each mood in the images of a row, in words."""
    return ", ".join(f"{mood} {share:.1%}" for mood, share in row["mood_shares"].items())


def unsettled(rows: Mapping[str, Row], key: str = "frechet") -> str:
    """Which neighbours in the order of a figure have intervals that overlap, as a sentence.

    Args:
        rows: name -> figures; those without an interval are left out.
        key: the figure.
    """
    known = sorted(
        (row[key], *row[f"{key}_interval"], name) for name, row in rows.items() if row.get(f"{key}_interval")
    )
    pairs = [f"{a[-1]} and {b[-1]}" for a, b in zip(known, known[1:], strict=False) if b[1] <= a[2]]
    column = COLUMNS[key][0]
    if not pairs:
        return f"By the {column}, no two neighbours have intervals that overlap."
    return f"By the {column}, the intervals of these overlap, so other maps may turn them round: {'; '.join(pairs)}."


# what this project asks of a shipped generator (default): shares of a reference row, or of all images
BLUR_SHARE, MIOU_SHARE, MOOD_SHARES, DIVERSITY_RATIOS = 0.5, 0.85, (0.08, 0.3), (0.8, 1.2)
JUDGED_BY = {"real", "blur_3x3", "class_mean"}  # rows that `verdict` and `gates` need; all data have them


@dataclass(frozen=True)
class Gate:
    """One thing that is asked of a shipped generator."""

    asked: str
    found: str
    met: bool | None  # None: cannot be said; `found` has the reason


def gates(row: Row, references: Mapping[str, Row]) -> list[Gate]:
    """What is asked of a shipped generator, and whether it has it; arguments as in `verdict`."""
    blur, real, known = (references.get(name, {}) for name in ("blur_3x3", "real", "redrawn"))
    (low, high), (least, most) = MOOD_SHARES, DIVERSITY_RATIOS
    moods = Gate(f"every mood in {low:.0%} to {high:.0%} of the images", "cannot be said: moods are not known", None)
    if row["mood_shares"]:
        outside = {mood: share for mood, share in row["mood_shares"].items() if not low <= share <= high}
        shares = ", ".join(f"{mood} {share:.1%}" for mood, share in outside.items())
        moods = Gate(moods.asked, shares or "all are", not outside)
    of_known = f"diversity L1 {least:g} to {most:g} times that of the known distribution"
    return [
        _share(row, blur, "frechet", f"distance at most {BLUR_SHARE:g} times that of blurred real images"),
        _share(row, real, "miou", f"mIoU at least {MIOU_SHARE:g} times that of real images"),
        moods,
        _share(row, known, "diversity_l1", of_known),
    ]


BOUNDS = {"frechet": (0.0, BLUR_SHARE), "miou": (MIOU_SHARE, float("inf")), "diversity_l1": DIVERSITY_RATIOS}


def _share(row: Row, reference: Row, key: str, asked: str) -> Gate:
    """A gate on a figure as a share of that of a reference row."""
    if row.get(key) is None:
        return Gate(asked, "cannot be said: not measured, with one image a map", None)
    if not reference.get(key):
        return Gate(asked, f"cannot be said: {_figure(row, key)}, and there is nothing to compare it with", None)
    (low, high), share = BOUNDS[key], row[key] / reference[key]
    return Gate(asked, f"{_figure(row, key)} of {_figure(reference, key)}: {share:.2f}", low <= share <= high)


def gate_table(row: Row, references: Mapping[str, Row]) -> str:
    """What is asked of a shipped generator, and what was found, as a Markdown table under one sentence."""
    found = gates(row, references)
    words, met = {True: "met", False: "**missed**", None: "open"}, sum(gate.met is True for gate in found)
    lines = [[gate.asked, gate.found, words[gate.met]] for gate in found]
    said = f"Of {len(found)} things that this project asks of a model that it ships, {met} are met:"
    return f"{said}\n\n{markdown([['asked', 'found', 'so'], *lines])}"


def weakest_classes(row: Row, references: Mapping[str, Row], count: int = 3) -> str:
    """The classes whose IoU is the smallest share of that in real images, in words; "" where it was not measured."""
    real = references["real"].get("iou", {})
    shares = {name: iou / real[name] for name, iou in row.get("iou", {}).items() if iou is not None and real.get(name)}
    worst = sorted(shares, key=shares.__getitem__)[:count]
    return ", ".join(f"{name} (IoU {row['iou'][name]:.2f}, real {real[name]:.2f})" for name in worst)
