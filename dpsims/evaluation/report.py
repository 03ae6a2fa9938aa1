"""The figures of a result as text: one table for `dpsims evaluate` and for README.md.

Results of format 1 had fewer figures; a column appears where any row has its figure.
"""

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
