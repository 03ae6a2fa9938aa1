"""The two figures of README.md, made from a shipped generator: held-out scenes in several moods, and one in all.

Nothing in them is chosen by hand: the label maps are the first held-out ones of each layout, and the seed of a mood is
the one of which the evaluation network is surest. Each figure carries, as text in its PNG, what it was made from and
which seeds it shows, so that `dpsims.readme` can tell a stale one and name the seeds without drawing anything.

B maps, S seeds, M moods, H and W height and width.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from dpsims.data import scenes
from dpsims.data.loader import to_uint8
from dpsims.errors import InputError
from dpsims.evaluation.segmenter import load_evaluator
from dpsims.evaluation.unet import Segmenter, to_bytes
from dpsims.files import replacing
from dpsims.noise import interpolate
from dpsims.palette import with_palette
from dpsims.paths import EVALUATORS
from dpsims.plotting import image_grid
from dpsims.plotting_style import DPI
from dpsims.synthesis import Synthesizer, load_generator

CANDIDATES = 64  # seeds looked at
HERO_MAPS, HERO_MOODS = 6, 4
WALK_STEPS = 7
MISSING = 238  # grey of a mood that no seed gives
GAP = 6  # pixels between figures of one file
KEY = "dpsims"  # of the text in the PNG files


@dataclass(frozen=True)
class Chosen:
    """The seed of each mood that a generator draws."""

    seeds: dict[str, int]  # mood -> seed, in the order of the evaluation network's moods
    sureness: dict[str, float]  # mood -> mean probability that the evaluation network gives it


def held_out(count: int, seed: int) -> list[int]:
    """Numbers of held-out scenes: the first of each of LAYOUTS, then the second of each, and so on.

    Args:
        count: of numbers; 16 at most, so that the scenes looked at are sure to hold them.
        seed: of the data set.
    """
    layouts = scenes.render(range(64), 16, seed=seed, split="val", moods=0).layouts
    of_layout = [np.flatnonzero(layouts == number).tolist() for number in range(len(scenes.LAYOUTS))]
    return [numbers[turn] for turn in range(4) for numbers in of_layout][:count]


def seeds_of_moods(
    generator: Synthesizer, evaluator: Segmenter, labels: np.ndarray, candidates: int = CANDIDATES
) -> Chosen:
    """One seed a mood: of the seeds 0 to `candidates` - 1 the one that the evaluation network is surest of.

    Args:
        generator: of the size of the evaluation network.
        evaluator: names the mood.
        labels: (B, H, W) ids; a seed has to do for all of them, so its probabilities are averaged over B.
        candidates: S.

    Returns:
        Moods to which some seed gives more than half of the probability; the others are not drawn.
    """
    ids = torch.from_numpy(labels.astype(np.int64))
    surest = torch.stack([_moods(evaluator, generator(ids, [seed] * len(ids))).mean(0) for seed in range(candidates)])
    best, seeds = surest.max(0)  # (M,) each
    drawn = [m for m in range(len(evaluator.moods)) if best[m] > 0.5]
    return Chosen(
        {evaluator.moods[m]: int(seeds[m]) for m in drawn}, {evaluator.moods[m]: float(best[m]) for m in drawn}
    )


def _moods(evaluator: Segmenter, images: Tensor) -> Tensor:
    """Probabilities (B, M) of the moods of images (B, 3, H, W) in [-1, 1]."""
    return evaluator.judge(to_bytes(images)).moods.softmax(1).cpu()


def hero(generator: Synthesizer, evaluator: Segmenter) -> tuple[Figure, dict[str, Any]]:
    """Held-out maps, their real images, and the same maps in the moods that the generator is surest of.

    Returns:
        The figure, and its facts: `rows` (names), `maps` (B), `candidates` (seeds looked at), `seeds` (mood -> seed).
    """
    seed = generator.config.data.seed
    batch = scenes.render(held_out(HERO_MAPS, seed), generator.size, seed=seed, split="val")
    chosen = seeds_of_moods(generator, evaluator, batch.labels)
    surest = sorted(chosen.seeds, key=lambda mood: -chosen.sureness[mood])[:HERO_MOODS]
    seeds = {mood: chosen.seeds[mood] for mood in chosen.seeds if mood in surest}
    ids = torch.from_numpy(batch.labels.astype(np.int64))
    rows = {"label map": generator.space.colourise(batch.labels), "real image": batch.images}
    rows |= {f"seed {number}:\n{mood}": to_uint8(generator(ids, [number] * len(ids))) for mood, number in seeds.items()}
    facts = {"rows": [*rows], "maps": HERO_MAPS, "candidates": CANDIDATES, "seeds": seeds}
    return image_grid(rows, legend=generator.space, scale=_scale(generator)), facts


def gallery(generator: Synthesizer, evaluator: Segmenter) -> tuple[list[Figure], dict[str, Any]]:
    """One held-out map in all its real moods and in all that the generator draws; a walk between two of its seeds.

    Returns:
        Three figures, to stand one below the other, and their facts: `rows`, `candidates`, `seeds` (mood -> seed),
        `missing` (moods that no seed gives), `walk` (mood -> seed, of its two ends).

    Raises:
        InputError: no mood is found in any image.
    """
    seed = generator.config.data.seed
    lake = held_out(len(scenes.LAYOUTS), seed)[scenes.LAYOUTS.index("lake")]  # the layout with the most classes
    real = scenes.render_moods(lake, generator.size, seed=seed, split="val")
    chosen = seeds_of_moods(generator, evaluator, real.labels[:1])
    if not chosen.seeds:
        raise InputError("the evaluation network finds no mood in the generator's images; is it trained?")
    drawn = to_uint8(generator(real.labels[[0] * len(chosen.seeds)].astype(np.int64), [*chosen.seeds.values()]))
    cells = dict(zip(chosen.seeds, drawn, strict=True))
    grey = np.full_like(real.images[0], MISSING)
    above = np.stack([generator.space.colourise(real.labels[0]), *real.images])
    below = np.stack([np.full_like(grey, 255), *(cells.get(mood, grey) for mood in scenes.MOODS)])
    seeds = ["", *(f"seed {chosen.seeds[mood]}" if mood in cells else "no seed" for mood in scenes.MOODS)]
    ends = _ends_of_walk(chosen, cells)
    walk = _walk(generator, real.labels[:1], [chosen.seeds[mood] for mood in ends])
    shares = [f"s = {share:.2f}" for share in np.linspace(0, 1, WALK_STEPS)]
    title = f"seed {chosen.seeds[ends[0]]}\nto seed {chosen.seeds[ends[1]]}"
    scale = _scale(generator)
    figures = [
        image_grid({"real": above}, ["label map", *scenes.MOODS], scale=scale),
        image_grid({"generated": below}, seeds, scale=scale),
        image_grid({title: walk}, shares, scale=scale),
    ]
    facts = {
        "rows": ["real", "generated", "walk"],
        "candidates": CANDIDATES,
        "seeds": chosen.seeds,
        "missing": [mood for mood in scenes.MOODS if mood not in cells],
        "walk": {mood: chosen.seeds[mood] for mood in ends},
    }
    return figures, facts


def _scale(generator: Synthesizer) -> int:
    """Small images are shown twice as large."""
    return 2 if generator.size[0] <= 64 else 1


def _ends_of_walk(chosen: Chosen, images: dict[str, np.ndarray]) -> list[str]:
    """The two moods whose images differ most; of a generator of one mood, that one twice."""
    moods = [*chosen.seeds]
    pairs = [(a, b) for i, a in enumerate(moods) for b in moods[i + 1 :]] or [(moods[0], moods[0])]
    return [*max(pairs, key=lambda pair: np.abs(images[pair[0]].astype(int) - images[pair[1]]).mean())]


def _walk(generator: Synthesizer, labels: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
    """(steps, H, W, 3) images of one map (1, H, W) on the great circle between the noises of two seeds."""
    start, end = generator.noise(list(seeds), 2)
    noise = torch.stack([interpolate(start, end, share) for share in np.linspace(0, 1, WALK_STEPS)])
    return to_uint8(generator(labels[[0] * WALK_STEPS].astype(np.int64), noise=noise))


def draw(checkpoint: Path, folder: Path, made_of: dict[str, str]) -> None:
    """Draws hero.png and gallery.png into `folder`.

    Args:
        checkpoint: exported model of Scenes; the shipped evaluation network of its size has the name of its folder.
        folder: is there.
        made_of: what the figures are to say that they were made from, name -> SHA-256.

    Raises:
        InputError: no such checkpoint, one that the evaluation network does not fit, or files that cannot be written.
    """
    generator, evaluator = load_generator(checkpoint), load_evaluator(EVALUATORS / checkpoint.name)
    figure, facts = hero(generator, evaluator)
    write([figure], folder / "hero.png", {"checkpoint": checkpoint.name, "made_of": made_of, **facts})
    figures, facts = gallery(generator, evaluator)
    write(figures, folder / "gallery.png", {"checkpoint": checkpoint.name, "made_of": made_of, **facts})


def write(figures: Sequence[Figure], file: Path, facts: dict[str, Any]) -> None:
    """Figures one below the other as a PNG of 256 colours, with `facts` as JSON in its text."""
    drawn = []
    for figure in figures:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
        drawn.append(Image.open(buffer).convert("RGB"))
    height = sum(image.height + GAP for image in drawn) - GAP
    whole, above = Image.new("RGB", (max(image.width for image in drawn), height), "white"), 0
    for image in drawn:  # flush right: the images stand below each other, whatever the length of the names
        whole.paste(image, (whole.width - image.width, above))
        above += image.height + GAP
    text = PngInfo()
    text.add_text(KEY, json.dumps(facts))
    with replacing(file) as temporary:
        with_palette(whole).save(temporary, format="PNG", optimize=True, pnginfo=text)
