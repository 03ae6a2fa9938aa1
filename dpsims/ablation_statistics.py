"""What the figures of an ablation say, and no more: spreads over seeds, pairs by seed, sentences made from them.

Standing: default of this project. Runs of one seed share the generator's initial weights, batches and noises, so arms
are compared seed by seed. Intervals are 95 % Student t intervals of the mean over seeds, from three seeds on; they
speak of the seeds and of nothing else (one data set, one size, one backbone).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpsims.errors import InputError
from dpsims.files import read_json

FORMAT = 1
MEASURES = {"frechet": ("Fréchet distance", -1), "miou": ("mIoU", 1), "diversity_l1": ("diversity L1", 0)}  # 1: up
CLOCKS = {"cpu_seconds": "CPU time of the steps, s", "seconds": "time, s"}
NUMBERS = ("seed", "step", "cpu_seconds", "seconds", *MEASURES)


@dataclass(frozen=True)
class Spread:
    """Numbers of several seeds: how many, mean, standard deviation (n - 1), 95 % t interval of the mean; NaN where
    there are too few (2 for the deviation, 3 for the interval)."""

    count: int
    mean: float
    deviation: float
    low: float
    high: float


def load_results(path: str | Path) -> dict[str, Any]:
    """Reads results.json of `dpsims.ablation`.

    Args:
        path: the file, or the folder of a study.

    Raises:
        InputError: missing, damaged or foreign.
    """
    file = Path(path) / "results.json" if Path(path).is_dir() else Path(path)
    results = read_json(file, "there are no results of `python -m dpsims.ablation`, which writes them")
    try:
        if results["format"] != FORMAT or results["clock"] not in CLOCKS:
            raise KeyError("format")
        for row in results["rows"]:
            if row["arm"] not in results["arms"] or not all(isinstance(row[key], int | float) for key in NUMBERS):
                raise KeyError("rows")
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: no results of `python -m dpsims.ablation` ({error})") from None
    return results


def student_t(freedom: int, confidence: float = 0.95) -> float:
    """The t at which Student's distribution with `freedom` degrees holds `confidence` in -t..t.

    By the substitution t = sqrt(freedom) tan(u) the density becomes cos(u)^(freedom - 1): integrated numerically.

    Raises:
        InputError: no degree of freedom, or a confidence outside (0, 1).
    """
    if freedom < 1 or not 0 < confidence < 1:
        raise InputError(f"freedom {freedom}, confidence {confidence}: give at least 1, and a value between 0 and 1")
    u = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(u) ** (freedom - 1)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(math.sqrt(freedom) * math.tan(np.interp(confidence, area / area[-1], u)))


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of the values of several seeds; NaN among them are left out."""
    known = np.array([v for v in values if math.isfinite(v)], dtype=float)
    count, nan = len(known), float("nan")
    if not count:
        return Spread(0, nan, nan, nan, nan)
    mean, deviation = float(known.mean()), float(known.std(ddof=1)) if count > 1 else nan
    half = student_t(count - 1) * deviation / math.sqrt(count) if count > 2 else nan
    return Spread(count, mean, deviation, mean - half, mean + half)


def curve(results: dict[str, Any], arm: str, seed: int, x: str, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """One run's measured points in order of steps: (P,) values of column `x`, such as "step", and (P,) of `measure`."""
    rows = sorted((r for r in results["rows"] if (r["arm"], r["seed"]) == (arm, seed)), key=lambda r: r["step"])
    return np.array([r[x] for r in rows], dtype=float), np.array([r[measure] for r in rows], dtype=float)


def common_end(results: dict[str, Any], x: str) -> float:
    """The largest value of column `x` (steps, or seconds) that every run which did not die has reached.

    Raises:
        InputError: no run was measured.
    """
    dead = {(run["arm"], run["seed"]) for run in results["died"]}
    ends: dict[tuple[str, int], float] = {}
    for row in results["rows"]:
        run = row["arm"], row["seed"]
        if run not in dead:
            ends[run] = max(ends.get(run, 0.0), float(row[x]))
    if not ends:
        raise InputError("the study has no run that lived to its end: nothing to compare")
    return min(ends.values())


def values_at(results: dict[str, Any], arm: str, x: str, where: float, measure: str) -> dict[int, float]:
    """`measure` of every seed of an arm where column `x` is `where`: seed -> value.

    Between measured points the value is interpolated linearly; outside them, and for a run that died earlier, it is
    NaN. At the last step nothing is interpolated.
    """
    found = {}
    for seed in results["study"]["seeds"]:
        places, values = curve(results, arm, seed, x, measure)
        inside = len(places) > 0
        found[seed] = float(np.interp(where, places, values, left=np.nan, right=np.nan)) if inside else float("nan")
    return found


def table_rows(results: dict[str, Any], x: str) -> dict[str, list[str]]:
    """For every arm the text "mean ± standard deviation" of each of `MEASURES` at `common_end` of column `x`."""
    where = common_end(results, x)
    rows = {}
    for arm, about in results["arms"].items():
        spreads = [spread(list(values_at(results, arm, x, where, m).values())) for m in MEASURES]
        rows[about["name"]] = [_text(s) for s in spreads] + [str(spreads[0].count)]
    return rows


def _text(s: Spread) -> str:
    if not s.count:
        return "–"
    return _short(s.mean) + (f" ± {_short(s.deviation)}" if math.isfinite(s.deviation) else "")


def _short(value: float) -> str:
    """Two significant digits or the whole part, whichever is longer: 138, 12, 3.1, 0.48, -0.0042."""
    return f"{value:.0f}" if abs(value) >= 9.95 else f"{value:#.2g}"


def comparison(results: dict[str, Any], other: str, measure: str, x: str, first: str = "pretrained") -> dict[str, Any]:
    """Two arms seed by seed where every run still is (`common_end`).

    Args:
        results: of a study.
        other: the arm that `first` is compared with.
        measure: of `MEASURES`, one that has a better direction.
        x: "step", or a clock.
        first: the arm that the claim is about.

    Returns:
        better: seeds on which `first` is better; seeds: how many could be compared; difference: `Spread` of `first`
        less `other`; where: the value of `x`.

    Raises:
        InputError: an arm that the study lacks, or a measure without a better direction.
    """
    sign = MEASURES.get(measure, ("", 0))[1]
    if not sign or not {first, other} <= set(results["arms"]):
        raise InputError(f"{first}, {other}, {measure}: arms of this study and a measure with a better direction")
    where = common_end(results, x)
    a, b = (values_at(results, arm, x, where, measure) for arm in (first, other))
    differences = [a[seed] - b[seed] for seed in a if math.isfinite(a[seed] - b[seed])]
    better = sum(sign * difference > 0 for difference in differences)
    return {"better": better, "seeds": len(differences), "difference": spread(differences), "where": where}


def findings(results: dict[str, Any], first: str = "pretrained") -> list[str]:
    """Sentences that say what these runs show, made from their figures."""
    if first not in results["arms"]:
        return [f"The study has no arm {first!r}: the claim was not tried."]
    said = [f"{results['arms'][d['arm']]['name']}, seed {d['seed']}, died: {d['reason']}." for d in results["died"]]
    lost = {(run["arm"], run["seed"]) for run in results["died"]}
    if {(row["arm"], row["seed"]) for row in results["rows"]} <= lost:
        return [*said, "No run lived to its end: nothing can be compared."]
    for other in (arm for arm in results["arms"] if arm != first):
        for x in ("step", results["clock"]):
            for measure in ("frechet", "miou"):
                said.append(_sentence(results, first, other, measure, x))
    return said


def verdict(results: dict[str, Any], first: str = "pretrained") -> str:
    """One sentence on the arm of the claim: in how many comparisons its interval excludes zero, and which way.

    Compared are distance and mIoU, with every other arm, at equal steps and at equal time.

    Raises:
        InputError: as of `comparison`.
    """
    others = [arm for arm in results["arms"] if arm != first]
    sides = []  # 1: better beyond doubt, -1: worse beyond doubt, 0: cannot be told
    for other, x, measure in itertools.product(others, ("step", results["clock"]), ("frechet", "miou")):
        d, sign = comparison(results, other, measure, x, first)["difference"], MEASURES[measure][1]
        sides.append(sign if d.low > 0 else -sign if d.high < 0 else 0)
    better, worse, name = sides.count(1), sides.count(-1), results["arms"][first]["name"]
    said = f"Of {len(sides)} comparisons of “{name}” with the other arms, the interval of the difference excludes zero "
    said += f"in {better} in its favour and in {worse} against it"
    if better and not worse:
        return f"{said}: these trainings speak for the claim."
    if worse and not better:
        return f"{said}: these trainings speak against the claim."
    return f"{said}: these trainings do not show that the claim holds, nor that it does not."


def _sentence(results: dict[str, Any], first: str, other: str, measure: str, x: str) -> str:
    c = comparison(results, other, measure, x, first)
    name, sign = MEASURES[measure]
    names = [results["arms"][arm]["name"] for arm in (first, other)]
    at = f"After {c['where']:.0f} steps"
    if x != "step":
        at = f"After {_short(c['where'])} s of {'CPU time' if x == 'cpu_seconds' else 'time'}"
    d = c["difference"]
    text = (
        f"{at}, “{names[0]}” has the {'lower' if sign < 0 else 'higher'} {name} than “{names[1]}” on {c['better']} of "
        f"{c['seeds']} seed{'s' if c['seeds'] != 1 else ''}"
    )
    if not d.count:
        return f"{at}, {name}: “{names[0]}” and “{names[1]}” cannot be compared; no seed was measured in both."
    text += f"; mean difference {_short(d.mean)}"
    if d.count > 2:
        crosses = d.low <= 0 <= d.high
        text += f", 95 % t interval {_short(d.low)} to {_short(d.high)}"
        return text + (": these seeds leave the sign open." if crosses else ": the interval excludes zero.")
    return text + f". With {d.count} seed{'s' if d.count != 1 else ''} no interval is given."
