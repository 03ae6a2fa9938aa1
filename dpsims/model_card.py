"""The model card of a shipped checkpoint, from its own files: nothing in it is typed by hand.

It says what config.json, provenance.json and evaluation.json say, with the standing of every setting as the comments of
`dpsims/config.py` have it. `python -m dpsims.readme` writes it beside the weights. This module imports no torch.
"""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpsims import config as configuration
from dpsims.config import Config
from dpsims.errors import InputError
from dpsims.evaluation import report
from dpsims.labels import classes_of
from dpsims.paths import BACKBONES
from dpsims.presets import PRESETS

FILES = {
    "generator.safetensors": "the generator, averaged over the training (EMA), float16, spectral norm folded",
    "discriminator.safetensors": "decoder, conditioning statistics and noise level of the discriminator, float16",
    "config.json": "every setting",
    "classes.csv": "names and colours of the classes",
    "provenance.json": "how it was made",
    "evaluation.json": "every figure, with the reference rows",
    "growth.png": "label maps, samples as the training went on, and real images; steps in provenance.json",
}
SOME = ("classes.csv", "growth.png")  # of the files: not in every model
# where a setting departs from what the paper publishes: field, when, what the paper has
PUBLISHED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("data.height", lambda v: v < 256, "photographs of 256 pixels and more"),
    ("discriminator.backbone", lambda v: (BACKBONES / v).is_dir(), "backbones trained on photographs; here, textures"),
    ("discriminator.pretrained", lambda v: v.lower() == "false", "a pre-trained backbone"),
    ("discriminator.frozen", lambda v: not v, "a fixed backbone"),
    ("discriminator.nonlinearity", lambda v: v == "none", "a contractive non-linearity on the features"),
    ("discriminator.finest_stride", lambda v: v == 1, "features of the backbone alone; here, D sees the image too"),
    ("generator.attention", lambda v: v == "none", "self-attention for context"),
    ("loss.focal_gamma", lambda v: v == 0, "a focal loss"),
    ("loss.lambda_contrastive", lambda v: v == 0, "a patch contrastive loss; here, none"),
    ("loss.lambda_diversity", lambda v: v == 0, "a diversity constraint"),
)


def card(folder: Path) -> str:
    """The card of an exported model, as Markdown.

    Args:
        folder: with the files of `FILES`.

    Raises:
        InputError: one of them is missing, damaged or of another form.
    """
    config = configuration.load(folder / "config.json")
    try:
        facts, evaluation = (json.loads((folder / f"{n}.json").read_text()) for n in ("provenance", "evaluation"))
        parts = [_what(folder, config), _training(config, facts), _departures(config), _figures(evaluation)]
        return "\n\n".join([*parts, _files(folder, config)]) + "\n"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"{folder}: no model card can be made ({why}); run dpsims evaluate") from None


def _what(folder: Path, config: Config) -> str:
    name, size = folder.name, f"{config.data.height} x {config.data.width}"
    space = classes_of(folder, config.data.dataset)
    return f"""# {name}

<!-- made by `python -m dpsims.readme` from the files beside it; changes made here are lost -->

Generator and discriminator of [dpsims](../../../README.md), an open implementation of DP-SIMS (arXiv 2312.13314),
trained on {config.data.dataset.capitalize()}: images drawn by code, with {space.num_classes} classes. The generator
takes a label map of {size} pixels and a noise, and returns an image of that size.

## Intended use, and limits
- For the notebooks and tests of dpsims, for the label map explorer, and as a small model to study or to start from.
- It draws procedural scenes of {size} pixels and nothing else. It has never seen a photograph: label maps of ADE20K,
  COCO-Stuff or Cityscapes mean nothing to it.
- It is not one of the paper's models and its figures are on a scale of their own: they say nothing about the paper's.
- What is visibly wrong with its images: [README](../../../README.md#what-is-visibly-wrong).
- Classes: {", ".join(space.names[1:])}.

```python
from dpsims import load_generator

images = load_generator("data/checkpoints/{name}")(labels, seed=0)  # (B,H,W) ids, 0 = void -> (B,3,H,W) in [-1,1]
```"""


def _training(config: Config, facts: dict[str, Any]) -> str:
    ran = f"\nThe command that ran, as recorded: `{facts['command']}`\n" if facts.get("command") else ""
    notes = f"\nNote: {facts['notes'].rstrip('.')}.\n" if facts.get("notes") else ""
    rows = {
        "steps": f"{facts['step']:,} of {config.train.batch_size} images",
        "seed": facts["seed"],
        "time": duration(facts["seconds"]),
        "hardware": f"{facts['hardware']}, {facts['threads']} thread{'s' if facts['threads'] != 1 else ''}",
        "commit": f"`{facts['commit']}`",
        "versions": f"Python {facts['python']}, torch {facts['torch']}",
    }
    if config.discriminator.kind != "oasis":  # which has none
        rows["backbone"] = f"`{facts['backbone']}`, sha256 `{facts['backbone_sha256'][:16]}...`"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""## Training
```sh
{training_command(config)}
dpsims export runs/mine --out runs/mine/export
```
{ran}{notes}
| | |
|---|---|
{table}

One training with one seed: how far another seed would be from it was not measured."""


def duration(seconds: float) -> str:
    """A time in the largest unit of which there are two or more."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}" if unit == "hours" else f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def training_command(config: Config) -> str:
    """`dpsims train` with the nearest preset and all that differs from it, apart from where prepared data lay."""
    wanted, differ = config.flat(), {}
    for name, make in PRESETS.items():
        there = make().flat()
        differ[name] = {k: v for k, v in wanted.items() if there[k] != v and k != "data.path"}
    name = min(differ, key=lambda name: len(differ[name]))
    settings = "".join(f" --set {key}={_written(value)}" for key, value in differ[name].items())
    return f"dpsims train --preset {name}{settings} --out runs/mine"


def _written(value: Any) -> str:
    """A value as --set takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def comments() -> dict[str, str]:
    """The trailing comment of every field of `dpsims/config.py`, by section.field; "" where there is none."""
    source = Path(configuration.__file__).read_text(encoding="utf-8")
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name != "Config":
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    comment = lines[field.lineno - 1].partition("  # ")[2]
                    found[f"{node.name.lower()}.{ast.unparse(field.target)}"] = comment
    return found


def _departures(config: Config) -> str:
    values, standing, default = config.flat(), comments(), Config().flat()
    from_paper = [
        f"| `{key}` | {_written(values[key])} | {paper} |" for key, differs, paper in PUBLISHED if differs(values[key])
    ]
    own = [
        f"| `{key}` | {_written(value)} | {standing[key]} |"
        for key, value in values.items()
        if value != default[key] and key != "data.path" and not key.endswith("_every")
    ]
    return f"""## Where it departs from what the paper publishes
| setting | here | published |
|---|---|---|
{chr(10).join(from_paper)}

The paper's text was not at hand: *published* is what its abstract, captions and public results say, *recalled* is not
checked against it, *default* is this project's own. Settings that are not the library's defaults, with the words of
`dpsims/config.py` on what they are and how sure we are of them:

| setting | here | what it is, and its standing |
|---|---|---|
{chr(10).join(own)}"""


def _figures(evaluation: dict[str, Any]) -> str:
    row, references, protocol = evaluation["generator"], evaluation["references"] or {}, evaluation["protocol"]
    judged = report.JUDGED_BY <= references.keys()
    few = {name: references[name] for name in ("real", "redrawn", "blur_3x3", "class_mood_mean") if name in references}
    parts = [
        f"## Figures\nMeasured on {protocol['maps']} held-out label maps by `dpsims evaluate`; the README says how to "
        "make them again and how to read them.",
        report.beside("this model", row, few),
    ]
    if judged:
        parts.append("\n".join(f"- {sentence}" for sentence in report.verdict(row, references)))
    if row.get("mood_shares"):
        parts.append(f"Share of each mood in its images: {report.mood_shares(row)}.")
    if judged:
        parts.append(report.gate_table(row, references))
        if worst := report.weakest_classes(row, references):
            parts.append(f"Furthest behind real images: {worst}.")
    return "\n\n".join(parts)


def _files(folder: Path, config: Config) -> str:
    sizes = {name: (folder / name).stat().st_size for name in FILES if name not in SOME or (folder / name).is_file()}
    lines = [f"| `{name}` | {sizes[name] / 1e3:,.0f} kB | {FILES[name]} |" for name in sizes]
    name = config.discriminator.backbone
    backbone = f"The backbone `{name}` is not stored here and keeps the licence of its publisher."
    licence = "MIT, as dpsims itself (`LICENSE`)."
    if config.discriminator.kind == "oasis":
        backbone = "The discriminator is OASIS's and had no backbone."
    elif (BACKBONES / name).is_dir():
        backbone = (
            f"The frozen backbone is in `data/backbones/{name}`, pre-trained on drawn textures; only the discriminator "
            "needs it."
        )
        licence += " All was made from images drawn by code; no photograph and no downloaded weights went into it."
    table = ["| file | size | what |", "|---|---|---|", *lines]
    return "\n".join(["## Files", *table, "", backbone, "", "## Licence", licence])
