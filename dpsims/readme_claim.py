"""The part of README.md on the paper's central claim, from what `python -m dpsims.ablation` left in data/results."""

from pathlib import Path

from dpsims import ablation_statistics as statistics
from dpsims.evaluation import report
from dpsims.paths import DATA

STUDIES = {  # folder in data/results -> what D sees in it
    "ablation": "in this preset D sees the image itself beside the backbone's features, in all arms, so that the "
    "encoder matters less",
    "ablation_stride4": "here D sees the encoder's features alone, as in the paper",
}


def claim() -> str:
    """What the longer ablations say of the paper's central claim."""
    files = {name: DATA / "results" / name / "results.json" for name in STUDIES}
    parts = [study_tables(name, files[name], STUDIES[name]) for name in STUDIES if files[name].is_file()]
    if parts:
        parts.append(
            "Lower distances are better, and higher mIoU. This is one small backbone, pre-trained on procedural "
            "textures, and these trainings are far from their end: the paper's claim is about neither. Curves, "
            "intervals and images of the first study are in [notebook 2](notebooks/02_backbone_ablations.ipynb); its "
            "parameter `results` shows the other."
        )
    return "\n\n".join(parts)


def study_tables(name: str, file: Path, sees: str) -> str:
    """One study: what it was, its tables, and how to make them again.

    Args:
        name: of its folder in data/results.
        file: its results.json.
        sees: what D sees in it, in words.
    """
    found = statistics.load_results(file)
    study, about = found["study"], found["provenance"]
    names = [words for words, _ in statistics.MEASURES.values()]
    parts = [
        f"A pre-trained, frozen encoder in D against one trained from scratch; {sees}. {study['steps']} steps of "
        f"`{study['preset']}` for each of {len(study['seeds'])} seeds, {study['max_maps']} held-out maps, mean ± "
        f"standard deviation over the seeds. {statistics.verdict(found)}"
    ]
    for x, words in (("step", "at equal steps"), (found["clock"], "at equal CPU time of the steps")):
        rows = statistics.table_rows(found, x)
        lines = [[words, *names, "seeds"], *([arm, *row] for arm, row in rows.items())]
        parts.append(report.markdown(lines))
    arms, seeds = ",".join(found["arms"]), ",".join(map(str, study["seeds"]))
    command = f"--preset {study['preset']} --steps {study['steps']} --points {study['points']} --seeds {seeds}"
    command += "".join(f" --set {setting}" for setting in study["settings"])
    parts.append(
        f"To make these tables again ({about['hardware']}, {about['threads']} thread, on a machine with other work; an "
        f"hour and a half):\n\n```sh\npython -m dpsims.ablation {command} --arms {arms} --out runs/{name}\n"
        f"cp runs/{name}/results.* data/results/{name}/ && python -m dpsims.readme\n```"
    )
    return "\n\n".join(parts)
