"""The figures of a result as text: one table for `dpsims evaluate` and for README.md.

Results of format 1 had fewer figures; a column appears where any row has its figure.
"""

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


def cells(rows: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Rows of a result, by name, as lines of text cells, the first of them the names of the columns.

    Args:
        rows: as `protocol.evaluate` returns them; a figure that a row lacks is an empty cell.
    """
    shown = [key for key in COLUMNS if any(row.get(key) is not None for row in rows.values())]
    lines = [["images", *(COLUMNS[key][0] for key in shown)]]
    for name, row in rows.items():
        lines.append([name.replace("_", " "), *(_cell(row, key) for key in shown)])
    return lines


def _cell(row: dict[str, Any], key: str) -> str:
    value, decimals = row.get(key), COLUMNS[key][1]
    if value is None:
        return ""
    bounds = row.get(f"{key}_interval") if key == WITH_INTERVAL else None
    interval = "" if bounds is None else f" [{bounds[0]:.{decimals}f}, {bounds[1]:.{decimals}f}]"
    return f"{value:.{decimals}f}{interval}"


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


def verdict(row: dict[str, Any], references: dict[str, dict[str, Any]]) -> list[str]:
    """What the figures of a generator say beside the reference rows, one sentence a question.

    Args:
        row: of the generator, as `protocol.evaluate` returns it.
        references: as `protocol.reference_rows` does.
    """
    return [_realism(row, references), _fidelity(row, references), _diversity(row, references)]


def _realism(row: dict[str, Any], references: dict[str, dict[str, Any]]) -> str:
    """Both distances beside flat colours in the right moods and the perfect sampler."""
    flat, perfect = references["class_mood_mean"], references["redrawn"]
    closer = [row[key] < flat[key] for key in ("frechet", "frechet_texture")]
    said = {
        (True, True): "closer to real images than flat colours in the right moods, by both distances",
        (True, False): "closer to real images than flat colours by the distance, but not by the texture distance",
        (False, True): "closer to real images than flat colours by the texture distance alone",
        (False, False): "no closer to real images than flat colours in the right moods",
    }[tuple(closer)]
    low, high = row.get("frechet_interval") or (row["frechet"],) * 2
    sure = "not certain with these maps" if low <= flat["frechet"] <= high else "beyond its interval"
    return (
        f"**Realism**: {said} (distance {row['frechet']:.0f} against {flat['frechet']:.0f}, {sure}; texture "
        f"{row['frechet_texture']:.0f} against {flat['frechet_texture']:.0f}). A perfect sampler has "
        f"{perfect['frechet']:.0f} and {perfect['frechet_texture']:.0f} here."
    )


def _fidelity(row: dict[str, Any], references: dict[str, dict[str, Any]]) -> str:
    """mIoU as a share of what real images reach, and whether flat colours reach it too."""
    real, flat = references["real"]["miou"], references["class_mean"]["miou"]
    beside = "more than" if row["miou"] > flat + 0.02 else "no more than" if row["miou"] < flat - 0.02 else "as much as"
    return (
        f"**Fidelity**: the segmenter finds {100 * row['miou'] / real:.0f} % of what it finds in real images (mIoU "
        f"{row['miou']:.2f} of {real:.2f}), {beside} in flat colours ({flat:.2f})."
    )


def _diversity(row: dict[str, Any], references: dict[str, dict[str, Any]]) -> str:
    """Distance between draws beside the known one, and moods that are hardly drawn."""
    known = references["redrawn"]["diversity_l1"]
    lost = [mood for mood, share in row["mood_shares"].items() if share < 0.05]
    moods = f"hardly ever drawn: {', '.join(lost)}" if lost else "no mood is lost"
    if not row["diversity_l1"] or not known:
        return f"**Diversity**: every draw of a map is the same image; {moods}."
    return (
        f"**Diversity**: two draws of a map are {row['diversity_l1'] / known:.1f} times as far apart as the known "
        f"distribution has them; {row['moods_per_six']:.1f} moods in six draws (fair: 4.0); {moods}."
    )


# what this project asks of a shipped generator (default): shares of a reference row, or of all images
BLUR_SHARE, MIOU_SHARE, MOOD_SHARES, DIVERSITY_RATIOS = 0.5, 0.85, (0.08, 0.3), (0.8, 1.2)
JUDGED_BY = {"real", "blur_3x3", "class_mean", "class_mood_mean", "redrawn"}  # rows that `verdict` and `gates` need


@dataclass(frozen=True)
class Gate:
    """One thing that is asked of a shipped generator."""

    asked: str
    found: str
    met: bool


def gates(row: dict[str, Any], references: dict[str, dict[str, Any]]) -> list[Gate]:
    """What is asked of a shipped generator of Scenes, and whether it has it; arguments as in `verdict`."""
    blur, real, known = (references[name] for name in ("blur_3x3", "real", "redrawn"))
    low, high = MOOD_SHARES
    outside = {mood: share for mood, share in row["mood_shares"].items() if not low <= share <= high}
    ratio = row["diversity_l1"] / known["diversity_l1"]
    return [
        Gate(
            f"distance at most {BLUR_SHARE:g} of that of blurred real images",
            f"{row['frechet']:.1f} of {blur['frechet']:.1f}: {row['frechet'] / blur['frechet']:.2f}",
            row["frechet"] <= BLUR_SHARE * blur["frechet"],
        ),
        Gate(
            f"mIoU at least {MIOU_SHARE:g} of that of real images",
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


def weakest_classes(row: dict[str, Any], references: dict[str, dict[str, Any]], count: int = 3) -> str:
    """The classes whose IoU is the smallest share of that in real images, in words; "" where it was not measured."""
    real = references["real"].get("iou", {})
    shares = {name: iou / real[name] for name, iou in row.get("iou", {}).items() if iou is not None and real.get(name)}
    worst = sorted(shares, key=shares.__getitem__)[:count]
    return ", ".join(f"{name} (IoU {row['iou'][name]:.2f}, real {real[name]:.2f})" for name in worst)
