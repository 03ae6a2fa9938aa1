"""Writes the results into README.md from the files that hold them, so that no number there is typed by hand.

``python -m dpsims.readme`` reads data/checkpoints/*/evaluation.json, made by `dpsims evaluate`, and
data/results/bench.json, made by `dpsims bench`; ``--check`` only tells whether README.md is up to date.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from dpsims.errors import InputError
from dpsims.evaluation import report
from dpsims.paths import CHECKPOINTS, DATA, ROOT

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def evaluation_table(name: str, evaluation: dict[str, Any], provenance: dict[str, Any]) -> str:
    """One checkpoint's figures as a Markdown table, beside its reference rows."""
    protocol, generated = evaluation["protocol"], evaluation["generator"]
    lines = [
        f"`{name}`: {provenance['step']:,} steps, seed {provenance['seed']}, {provenance['seconds'] / 60:.0f} minutes "
        f"on {provenance['hardware']}. Measured on {protocol['maps']} held-out label maps of {protocol['height']} x "
        f"{protocol['width']} pixels (`dpsims evaluate --checkpoint data/checkpoints/{name} --data DIR --out FILE`). "
        "The distance is a Fréchet distance in the shipped evaluation network, lower is better: read it against the "
        "rows beside it, not against distances of other projects. One training, one seed: its spread was not measured.",
        "",
        report.markdown(report.cells({f"**{name}**": generated, **(evaluation["references"] or {})})),
    ]
    if "frechet_interval" in generated:
        lines += ["", _reading(evaluation)]
    shares = generated["mood_shares"] or {}
    lines += ["", "Share of each mood in its images: " + ", ".join(f"{m} {s:.0%}" for m, s in shares.items()) + "."]
    return "\n".join(lines)


def _reading(evaluation: dict[str, Any]) -> str:
    """How to read the columns that results of format 1 lack."""
    level, judge = evaluation["protocol"]["intervals"]["level"], evaluation["evaluator"]
    ratio = evaluation["generator"].get("diversity_ratio")
    known = "" if ratio is None else f" Its diversity is {ratio:.2f} times that of the known distribution (*redrawn*)."
    return (
        f"In brackets: the interval of {level:.0%} over label maps, not over trainings. The texture distance is taken "
        f"in features that know nothing of scenes; the training shares with them {evaluation['texture_shares']}. The "
        "re-balanced distance gives the moods that are drawn their real shares: realism apart from coverage. The "
        f"evaluation network itself reaches mIoU {judge['miou']:.3f} and names {judge['mood_accuracy']:.1%} of the "
        f"moods rightly on {judge['images']} real images.{known}"
    )


def bench_table(bench: dict[str, Any]) -> str:
    """The costs as a Markdown table."""
    lines = [
        f"Costs (`dpsims bench`; {bench['unit']}, medians of {bench['repeats']}, {bench['hardware']}, torch "
        f"{bench['torch']}):",
        "",
        "| work | median | least to most |",
        "|---|---|---|",
    ]
    for name, value in bench["figures"].items():
        if isinstance(value, dict):
            unit = "ms"
            label = name.removesuffix("_ms").replace("_", " ")
            lines.append(f"| {label} | {value['median']:.0f} {unit} | {value['least']:.0f} to {value['most']:.0f} |")
        else:
            lines.append(f"| {name.removesuffix('_mib').replace('_', ' ')} | {value} MiB | |")
    return "\n".join(lines)


def results() -> str:
    """The whole block between the marks of README.md."""
    parts = []
    for file in sorted(CHECKPOINTS.glob("*/evaluation.json")):
        try:
            provenance = json.loads((file.parent / "provenance.json").read_text())
            parts.append(evaluation_table(file.parent.name, json.loads(file.read_text()), provenance))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise InputError(
                f"{file}: not usable, with provenance.json beside it ({why}); run dpsims evaluate"
            ) from None
    bench = DATA / "results" / "bench.json"
    if bench.is_file():
        parts.append(bench_table(json.loads(bench.read_text())))
    return "\n\n".join(parts)


def updated(text: str) -> str:
    """README text with its results block made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"README.md: lacks {BEGIN} or, after it, {END}; put both marks where the results belong")
    return f"{before}{BEGIN}\n{results()}\n{END}{after}"


def main(arguments: list[str], readme: Path = ROOT / "README.md") -> int:
    """Updates README.md, or with ``--check`` returns 1 where it is out of date; 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m dpsims.readme", description="Write the results into README.md.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where README.md is out of date"
    )
    check = parser.parse_args(arguments).check
    try:
        text = readme.read_text()
        new = updated(text)
    except (InputError, OSError) as error:
        print(f"dpsims: {error}", file=sys.stderr)
        return 2
    if check:
        return int(new != text)
    readme.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
