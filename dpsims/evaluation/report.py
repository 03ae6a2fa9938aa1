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
    """What the figures of a generator say beside the reference rows, one sentence a question; what cannot be said of
    data other than Scenes is told.

    Args:
        row: of the generator, as `protocol.evaluate` returns it.
        references: as `protocol.reference_rows` does.
    """
    return [_realism(row, references), _fidelity(row, references), _diversity(row, references)]


def _realism(row: dict[str, Any], references: dict[str, dict[str, Any]]) -> str:
    """Both distances beside flat colours, in the right moods where these are known, and the perfect sampler."""
    moods = "class_mood_mean" in references
    flat, name = (
        references["class_mood_mean" if moods else "class_mean"],
        f"flat colours{' in the right moods' * moods}",
    )
    closer = [row[key] < flat[key] for key in ("frechet", "frechet_texture")]
    said = {
        (True, True): f"closer to real images than {name}, by both distances",
        (True, False): "closer to real images than flat colours by the distance, but not by the texture distance",
        (False, True): "closer to real images than flat colours by the texture distance alone",
        (False, False): f"no closer to real images than {name}",
    }[tuple(closer)]
    low, high = row.get("frechet_interval") or (row["frechet"],) * 2
    sure = "not certain with these maps" if low <= flat["frechet"] <= high else "beyond its interval"
    return (
        f"**Realism**: {said} (distance {row['frechet']:.0f} against {flat['frechet']:.0f}, {sure}; texture "
        f"{row['frechet_texture']:.0f} against {flat['frechet_texture']:.0f}). {_best(references)}"
    )


def _best(references: dict[str, dict[str, Any]]) -> str:
    """What distances are as good as can be: those of the perfect sampler, or of other real images."""
    for name, who in {"redrawn": "A perfect sampler has", "train": "Other real images, of other maps, have"}.items():
        if best := references.get(name):
            return f"{who} {best['frechet']:.0f} and {best['frechet_texture']:.0f} here."
    return "What a perfect sampler would have is not known."


def _fidelity(row: dict[str, Any], references: dict[str, dict[str, Any]]) -> str:
    """mIoU as a share of what real images reach, and whether flat colours reach it too."""
    real, flat = references["real"]["miou"], references["class_mean"]["miou"]
    if not real:
        return "**Fidelity**: cannot be said: the segmenter finds nothing in real images."
    beside = "more than" if row["miou"] > flat + 0.02 else "no more than" if row["miou"] < flat - 0.02 else "as much as"
    return (
        f"**Fidelity**: the segmenter finds {100 * row['miou'] / real:.0f} % of what it finds in real images (mIoU "
        f"{row['miou']:.2f} of {real:.2f}), {beside} in flat colours ({flat:.2f})."
    )


def _diversity(row: dict[str, Any], references: dict[str, dict[str, Any]]) -> str:
    """Distance between draws beside the known one, and moods that are hardly drawn."""
    between, known = row["diversity_l1"], references.get("redrawn", {}).get("diversity_l1")
    said = []
    if between is None:
        said.append("not measured, with one image a map")
    elif not between:
        said.append("every draw of a map is the same image")
    elif known:
        said.append(
            f"two draws of a map are {between / known:.1f} times as far apart as the known distribution has them"
        )
    else:
        said.append(
            f"two draws of a map differ by {between:.3f} of the range of values; how far they should, nobody knows"
        )
    if between and row["moods_per_six"] is not None:
        said.append(f"{row['moods_per_six']:.1f} moods in six draws (fair: 4.0)")
    if row["mood_shares"]:
        lost = [mood for mood, share in row["mood_shares"].items() if share < 0.05]
        said.append(f"hardly ever drawn: {', '.join(lost)}" if lost else "no mood is lost")
    return f"**Diversity**: {'; '.join(said)}."


# what this project asks of a shipped generator (default): shares of a reference row, or of all images
BLUR_SHARE, MIOU_SHARE, MOOD_SHARES, DIVERSITY_RATIOS = 0.5, 0.85, (0.08, 0.3), (0.8, 1.2)
JUDGED_BY = {"real", "blur_3x3", "class_mean"}  # rows that `verdict` and `gates` need; all data have them


@dataclass(frozen=True)
class Gate:
    """One thing that is asked of a shipped generator."""

    asked: str
    found: str
    met: bool | None  # None: cannot be said; `found` has the reason


def gates(row: dict[str, Any], references: dict[str, dict[str, Any]]) -> list[Gate]:
    """What is asked of a shipped generator, and whether it has it; arguments as in `verdict`."""
    blur, real, known = (references.get(name, {}) for name in ("blur_3x3", "real", "redrawn"))
    (low, high), (least, most) = MOOD_SHARES, DIVERSITY_RATIOS
    found = [
        _share(row, blur, "frechet", 1, f"distance at most {BLUR_SHARE:g} of that of blurred real images"),
        _share(row, real, "miou", 3, f"mIoU at least {MIOU_SHARE:g} of that of real images"),
        Gate(f"every mood in {low:.0%} to {high:.0%} of the images", "cannot be said: moods are not known", None),
        _share(
            row, known, "diversity_l1", 3, f"diversity L1 {least:g} to {most:g} times that of the known distribution"
        ),
    ]
    if row["mood_shares"]:
        outside = {mood: share for mood, share in row["mood_shares"].items() if not low <= share <= high}
        shares = ", ".join(f"{mood} {share:.1%}" for mood, share in outside.items())
        found[2] = Gate(found[2].asked, shares or "all are", not outside)
    return found


BOUNDS = {"frechet": (0.0, BLUR_SHARE), "miou": (MIOU_SHARE, float("inf")), "diversity_l1": DIVERSITY_RATIOS}


def _share(row: dict[str, Any], reference: dict[str, Any], key: str, decimals: int, asked: str) -> Gate:
    """A gate on a figure as a share of that of a reference row."""
    value, whole = row.get(key), reference.get(key)
    if value is None:
        return Gate(asked, "cannot be said: not measured, with one image a map", None)
    if not whole:
        return Gate(asked, f"cannot be said: {value:.{decimals}f}, and there is nothing to compare it with", None)
    low, high = BOUNDS[key]
    share = value / whole
    return Gate(asked, f"{value:.{decimals}f} of {whole:.{decimals}f}: {share:.2f}", low <= share <= high)


def weakest_classes(row: dict[str, Any], references: dict[str, dict[str, Any]], count: int = 3) -> str:
    """The classes whose IoU is the smallest share of that in real images, in words; "" where it was not measured."""
    real = references["real"].get("iou", {})
    shares = {name: iou / real[name] for name, iou in row.get("iou", {}).items() if iou is not None and real.get(name)}
    worst = sorted(shares, key=shares.__getitem__)[:count]
    return ", ".join(f"{name} (IoU {row['iou'][name]:.2f}, real {real[name]:.2f})" for name in worst)
