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
    """What the figures of a generator say beside the reference rows, one sentence a question.

    Args:
        row: of the generator, as `protocol.evaluate` returns it.
        references: as `protocol.reference_rows` does.
    """
    return [_realism(row, references), _fidelity(row, references), _diversity(row, references)]


def _realism(row: Row, references: Mapping[str, Row]) -> str:
    """Both distances beside the perfect sampler and flat colours in the right moods."""
    flat, perfect = references["class_mood_mean"], references["redrawn"]
    both = ("frechet", "frechet_texture")
    times, apart = zip(*((_times(row, perfect, key), _figure(perfect, key)) for key in both), strict=True)
    closer = [row[key] < flat[key] for key in both]
    said = {
        (True, True): "closer to real images than flat colours in the right moods, by both distances",
        (True, False): "closer to real images than flat colours by the distance, but not by the texture distance",
        (False, True): "closer to real images than flat colours by the texture distance alone",
        (False, False): "no closer to real images than flat colours in the right moods",
    }[tuple(closer)]
    low, high = row.get("frechet_interval") or (row["frechet"],) * 2
    sure = "not certain with these maps" if low <= flat["frechet"] <= high else "beyond the interval of its distance"
    return (
        f"**Realism**: the distance is {_figure(row, 'frechet')}, {times[0]} that of a perfect sampler ({apart[0]}); "
        f"the texture distance is {_figure(row, 'frechet_texture')}, {times[1]} ({apart[1]}). It is {said} "
        f"({_figure(flat, 'frechet')}, {sure}, and {_figure(flat, 'frechet_texture')})."
    )


def _times(row: Row, other: Row, key: str) -> str:
    return f"{row[key] / other[key]:.1f} times" if other[key] else "above"


def _fidelity(row: Row, references: Mapping[str, Row]) -> str:
    """mIoU as a share of what real images reach, and whether flat colours reach it too."""
    real, flat = references["real"], references["class_mean"]
    over = row["miou"] - flat["miou"]
    than = "more than" if over > 0.02 else "no more than" if over < -0.02 else "as much as"
    return (
        f"**Fidelity**: the segmenter finds {row['miou'] / real['miou']:.0%} of what it finds in real images (mIoU "
        f"{_figure(row, 'miou')} of {_figure(real, 'miou')}), {than} in flat colours ({_figure(flat, 'miou')})."
    )


def _diversity(row: Row, references: Mapping[str, Row]) -> str:
    """Distance between draws beside the known one, and moods that are hardly drawn."""
    known = references["redrawn"]["diversity_l1"]
    lost = [mood for mood, share in row["mood_shares"].items() if share < 0.05]
    moods = f"hardly ever drawn: {', '.join(lost)}" if lost else "no mood is lost"
    if not row["diversity_l1"] or not known:
        return f"**Diversity**: every draw of a map is the same image; {moods}."
    return (
        f"**Diversity**: two draws of a map are {row['diversity_l1'] / known:.2f} times as far apart as the known "
        f"distribution has them; {_figure(row, 'moods_per_six')} moods in six draws (fair: {FAIR_MOODS:.2f}); {moods}."
    )


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
JUDGED_BY = {"real", "blur_3x3", "class_mean", "class_mood_mean", "redrawn"}  # rows that `verdict` and `gates` need


@dataclass(frozen=True)
class Gate:
    """One thing that is asked of a shipped generator."""

    asked: str
    found: str
    met: bool


def gates(row: Row, references: Mapping[str, Row]) -> list[Gate]:
    """What is asked of a shipped generator of Scenes, and whether it has it; arguments as in `verdict`."""
    blur, real, known = (references[name] for name in ("blur_3x3", "real", "redrawn"))
    low, high = MOOD_SHARES
    outside = {mood: share for mood, share in row["mood_shares"].items() if not low <= share <= high}
    ratio = row["diversity_l1"] / known["diversity_l1"]
    return [
        Gate(
            f"distance at most {BLUR_SHARE:g} times that of blurred real images",
            f"{row['frechet']:.1f} of {blur['frechet']:.1f}: {row['frechet'] / blur['frechet']:.2f}",
            row["frechet"] <= BLUR_SHARE * blur["frechet"],
        ),
        Gate(
            f"mIoU at least {MIOU_SHARE:g} times that of real images",
            f"{row['miou']:.3f} of {real['miou']:.3f}: {row['miou'] / real['miou']:.2f}",
            row["miou"] >= MIOU_SHARE * real["miou"],
        ),
        Gate(
            f"every mood in {low:.0%} to {high:.0%} of the images",
            ", ".join(f"{mood} {share:.1%}" for mood, share in outside.items()) or "all are",
            not outside,
        ),
        Gate(
            f"diversity L1 {DIVERSITY_RATIOS[0]:g} to {DIVERSITY_RATIOS[1]:g} times that of the known distribution",
            f"{row['diversity_l1']:.3f} of {known['diversity_l1']:.3f}: {ratio:.2f}",
            DIVERSITY_RATIOS[0] <= ratio <= DIVERSITY_RATIOS[1],
        ),
    ]


def gate_table(row: Row, references: Mapping[str, Row]) -> str:
    """What is asked of a shipped generator, and what was found, as a Markdown table under one sentence."""
    found = gates(row, references)
    lines = [[gate.asked, gate.found, "met" if gate.met else "**missed**"] for gate in found]
    said = (
        f"Of {len(found)} things that this project asks of a model that it ships, {sum(g.met for g in found)} are met:"
    )
    return f"{said}\n\n{markdown([['asked', 'found', 'so'], *lines])}"


def weakest_classes(row: Row, references: Mapping[str, Row], count: int = 3) -> str:
    """The classes whose IoU is the smallest share of that in real images, in words; "" where it was not measured."""
    real = references["real"].get("iou", {})
    shares = {name: iou / real[name] for name, iou in row.get("iou", {}).items() if iou is not None and real.get(name)}
    worst = sorted(shares, key=shares.__getitem__)[:count]
    return ", ".join(f"{name} (IoU {row['iou'][name]:.2f}, real {real[name]:.2f})" for name in worst)
