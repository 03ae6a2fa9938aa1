"""The console script `dpsims`: thin commands over the library, which is imported only by the command that needs it.

How they end when they cannot do what they were asked: `dpsims.polite`.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from dpsims import __version__
from dpsims.errors import InputError
from dpsims.polite import PoliteGroup

app = typer.Typer(
    cls=PoliteGroup,
    name="dpsims",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain text: brackets in examples stay, and logs stay readable
    pretty_exceptions_enable=False,  # a bug shows Python's own traceback
    help="Semantic image synthesis with a pre-trained backbone in the discriminator (DP-SIMS). "
    "`dpsims reproduce --preset demo` shows everything at once.",
)

Size = Annotated[int, Option(help="Height and width in pixels, 16 to 512.")]
Seed = Annotated[int, Option(help="Same seed, same result.")]
Device = Annotated[str | None, Option(help="cpu, cuda, cuda:1, ...; the GPU where there is one if not given.")]
Settings = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Change one value; may be given many times.")
]


class Dataset(StrEnum):
    """Data sets by name."""

    scenes = "scenes"
    ade20k = "ade20k"
    coco_stuff = "coco_stuff"
    cityscapes = "cityscapes"
    custom = "custom"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dpsims {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def prepare(
    dataset: Annotated[Dataset, Argument(help="Which data set. Scenes is drawn by code and needs no files.")],
    out: Annotated[Path | None, Option(help="Folder for the prepared arrays (uint8 .npy and index.json).")] = None,
    root: Annotated[Path | None, Option(help="Folder of the files as published; custom: with dataset.yml.")] = None,
    size: Annotated[int, Option(help="Height and width in pixels, 16 to 512; cityscapes are twice as wide.")] = 64,
    encoding: Annotated[str, Option(help="What label files hold: raw (as published), oasis, spade, rgb.")] = "raw",
    labels_only: Annotated[
        bool, Option("--labels-only", help="Look for no images: label maps alone, to draw images of with generate.")
    ] = False,
    limit: Annotated[int | None, Option(help="At most so many pairs of each split, the first by name.")] = None,
    check_only: Annotated[bool, Option("--check-only", help="Check all files, list bad ones, write nothing.")] = False,
    skip_bad: Annotated[
        bool, Option("--skip-bad", help="Leave bad files out, and list them in OUT-skipped.txt.")
    ] = False,
    n: Annotated[int, Option(help="Training images to draw (scenes only); 12 kB of disk each at 64 px.")] = 3000,
    n_val: Annotated[int, Option(help="Held-out images to draw (scenes only).")] = 500,
    seed: Annotated[int, Option(help="Same seed, same drawn images (scenes only).")] = 0,
) -> None:
    """Prepare a data set once: images, label maps and class counts as arrays that training maps into memory.

    Every pair of files is checked first. Asked again with the same arguments it returns at once, and after a kill it
    goes on where it was. Training and held-out scenes never share a seed.

    Example: dpsims prepare custom --root data/custom_example --size 64 --out data/cache/mine
    """
    if out is None and not check_only:
        raise InputError("prepare: give --out, the folder for the arrays, or --check-only")
    if dataset is Dataset.scenes:
        if root is not None or check_only or skip_bad or labels_only or limit is not None or encoding != "raw":
            raise InputError("scenes: is drawn by code, so there is no --root to read and nothing for --check-only, "
                             "--skip-bad, --limit, --encoding or --labels-only")  # fmt: skip
        from dpsims.data.prepare import prepare_scenes

        print(prepare_scenes(out, size=size, n=n, n_val=n_val, seed=seed))
        return
    if root is None or (n, n_val, seed) != (3000, 500, 0):
        raise InputError(f"{dataset}: is read from its folder, --root, and not drawn with --n, --n-val and --seed")
    from dpsims.data.prepare_folders import check_folders, prepare_folders, size_of

    photos = not labels_only
    if check_only:
        report = check_folders(dataset.value, root, encoding=encoding, photos=photos, limit=limit)
        print("\n".join(report.lines()))
        raise typer.Exit(2 if report.bad else 0)
    shape = size_of(dataset.value, size)
    path, found = prepare_folders(
        dataset.value, root, out, size=shape, encoding=encoding, photos=photos, limit=limit, skip_bad=skip_bad
    )
    if found is not None:
        print("\n".join(found.lines()))
    print(path)


@app.command()
def pretrain(
    out: Annotated[Path, Option(help="Folder for weights.safetensors (float16, 2.5 MB) and provenance.json.")],
    size: Size = 64,
    steps: Annotated[int, Option(help="Optimiser steps.")] = 6000,
    batch_size: Annotated[int, Option(help="Images a step.")] = 32,
    pool: Annotated[int, Option(help="Drawn images kept in memory, 12 kB each at 64 px.")] = 8192,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Pre-train the embedded backbone on the texture world, which knows nothing of the scenes or their labels.

    Makes data/backbones/texture_resnet10t again; minutes on a CPU.
    """
    from dpsims.pretraining import pretrain as run

    run(out, size=size, steps=steps, batch_size=batch_size, pool=pool, seed=seed, device=device)


@app.command()
def train_evaluators(
    out: Annotated[Path, Option(help="Folder for weights.safetensors and provenance.json.")],
    data: Annotated[Path | None, Option(help="Prepared data set, of any classes; drawn Scenes if not given.")] = None,
    size: Annotated[
        int | None, Option(help="Side of drawn Scenes in pixels, 64 if not given; data have their own.")
    ] = None,
    steps: Annotated[int, Option(help="Optimiser steps of 16 images.")] = 1500,
    seed: Seed = 100,
    device: Device = None,
) -> None:
    """Train the network that evaluates: another architecture and seed than the discriminator's.

    Without --data it makes data/evaluators/scenes-64 again, from scenes that no model is trained on; minutes on a
    CPU. With --data it learns from the split "train" and is measured on "val": give its folder to dpsims evaluate as
    --evaluator.

    Example: dpsims train-evaluators --data data/cache/ade20k --steps 20000 --out data/cache/ade20k-evaluator
    """
    from dpsims.evaluation.segmenter import train_evaluator

    train_evaluator(out, data=data, size=size, steps=steps, seed=seed, device=device)


@app.command()
def train(
    preset: Annotated[
        str,
        Option(
            help="Training preset, such as scenes64, tiny or, of the paper's sizes, ade20k256, coco256, cityscapes512 "
            "(see dpsims/presets.py)."
        ),
    ],
    out: Annotated[
        Path | None, Option(help="Run folder: config.json, metrics.csv, sample sheets, checkpoints.")
    ] = None,
    settings: Settings = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in --out exactly where it stopped.")] = False,
    data: Annotated[Path | None, Option(help="Prepared data set; the preset's own, made on demand, if none.")] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print sizes, GMACs and an estimate of the memory in GB; train nothing.")
    ] = False,
) -> None:
    """Train a generator and a discriminator; Ctrl-C and SIGTERM save and say how to resume.

    Works on one GPU or a CPU as it is, and on several under accelerate launch or torchrun. Fields for --set are those
    of dpsims/config.py, as section.field=value. The two newest checkpoints are kept, and with train.judge_every the one
    of the least Frechet distance too.

    Example: dpsims train --preset scenes64 --set train.steps=2000 --set loss.lambda_diversity=4 --out runs/mine
    """
    from dpsims.presets import configured

    if out is None and not dry_run:
        raise InputError("train: give --out, the run folder, or --dry-run")
    config = configured(preset, data, settings or [])  # a typing error is told before torch is loaded
    if dry_run:
        from dpsims.dry_run import report

        print(report(config))
        return
    from dpsims.evaluation.judge import FrechetJudge
    from dpsims.processes import launched
    from dpsims.training import fit

    with launched() as (processes, _):
        judge = FrechetJudge(config, processes.main, processes) if config.train.judge_every else None
        result = fit(config, out, resume=resume, judge=judge)
    if not result.finished:
        raise typer.Exit(130)  # as the shell says of a program that Ctrl-C stopped


@app.command()
def generate(
    checkpoint: Annotated[Path, Option(help="Checkpoint folder, such as data/checkpoints/scenes-64.")],
    labels: Annotated[
        Path, Option(help="A label map (PNG), a folder of them, or a prepared data set: its held-out maps.")
    ],
    out: Annotated[Path, Option(help="Folder for the images (PNG).")],
    seed: Seed = 0,
    n: Annotated[int, Option(min=1, help="Images for each label map, each with its own noise.")] = 4,
    vary: Annotated[
        str | None, Option(metavar="CLASS,...", help="Change the noise inside these classes alone, such as tree,grass.")
    ] = None,
    lock: Annotated[bool, Option("--lock", help="With --vary: keep every other pixel, bit for bit.")] = False,
    encoding: Annotated[
        str | None,
        Option(
            help="What PNGs hold: ids (0 = void, 1 = the first class; meant if not given), or raw, oasis, spade, rgb "
            "as in prepare."
        ),
    ] = None,
    resize: Annotated[
        bool, Option("--resize", help="Bring maps to the model's size in pixels, by the nearest; else refused.")
    ] = False,
) -> None:
    """Draw images from label maps alone; no photograph is read. Of a prepared data set the held-out maps are drawn.

    Example: dpsims generate --checkpoint data/checkpoints/scenes-64 --labels map.png --n 4 --out runs/images
    """
    from dpsims.generation import generate_files

    classes = [name.strip() for name in vary.split(",")] if vary is not None else []
    written = generate_files(
        checkpoint, labels, out, seed=seed, n=n, vary=classes, lock=lock, encoding_name=encoding, resize=resize
    )
    print("\n".join(map(str, written)))


@app.command()
def evaluate(
    data: Annotated[Path, Option(help="Prepared data set whose held-out split is the reference.")],
    out: Annotated[Path, Option(help="JSON file for the figures.")],
    checkpoint: Annotated[
        Path | None, Option(help="Checkpoint folder, such as data/checkpoints/scenes-64; or give --images.")
    ] = None,
    images: Annotated[Path | None, Option(help="Folder of PNGs drawn elsewhere, instead of a checkpoint.")] = None,
    evaluator: Annotated[
        Path | None, Option(help="Folder of dpsims train-evaluators; the shipped one, of Scenes at 64 or 128 px, else.")
    ] = None,
    device: Device = None,
) -> None:
    """Measure a checkpoint: Frechet distances, mIoU and diversity, beside reference rows on the same scale.

    Several processes share the label maps: torchrun --nproc_per_node 2 -m dpsims evaluate ..., with the same figures.

    Files of --images have the size of the data, and the names of the held-out label maps (as they were when the data
    were prepared), or their positions in the split: 0.png, 1.png, ... All maps need one. Where each has several, as
    NAME_seed0.png, NAME_seed1.png, ..., diversity is measured too.

    Distances come from networks of this project, not from Inception: compare them only where these and the data are
    the same. The re-balanced one gives the moods that are drawn their real shares, so it tells poor images from lost
    moods; data other than Scenes have no moods. Other data need --evaluator, see dpsims train-evaluators.
    """
    if (checkpoint is None) == (images is None):
        raise InputError("evaluate: give --checkpoint, a trained model, or --images, a folder of images; one of them")
    from dpsims.evaluation import protocol, report
    from dpsims.processes import launched

    chosen = {} if evaluator is None else {"evaluator_path": evaluator}
    measure = protocol.evaluate_images if checkpoint is None else protocol.evaluate_checkpoint
    with launched(device) as (processes, place):
        chosen |= {"device": place, "processes": processes, "progress": processes.main}
        result = measure(images if checkpoint is None else checkpoint, data, out=out, **chosen)
    if not processes.main:
        return
    print(report.plain(report.cells({"generated": result["generator"], **result["references"]})))
    print(f"[low, high]: interval of {result['protocol']['intervals']['level']:.0%} over label maps")


@app.command()
def export(
    run: Annotated[Path, Argument(help="Run folder, as made by dpsims train.")],
    out: Annotated[Path, Option(help="Folder for the checkpoint (safetensors in float16, and JSON).")],
) -> None:
    """Make a small checkpoint of a run: averaged generator, discriminator decoder and statistics, backbone by name."""
    from dpsims.checkpoint import export_run

    print(export_run(run, out))


@app.command()
def bench(
    out: Annotated[Path, Option(help="JSON file for the costs (milliseconds a step, images/s, mebibytes).")],
) -> None:
    """Measure what a training step, an image, and reading and preparing files cost on this machine; two minutes."""
    from dpsims.bench import bench as run

    run(out)


@app.command()
def reproduce(
    preset: Annotated[str, Option(help="Notebook preset: a file in notebooks/presets.")] = "demo",
    out: Annotated[Path | None, Option(help="Output folder; runs/PRESET if not given.")] = None,
    settings: Settings = None,
    only: Annotated[str | None, Option(help="Run one notebook alone, by its number: 03.")] = None,
) -> None:
    """Run the notebooks in order; finished ones are skipped, and summary.md collects their figures.

    Parameters for --set are those in the notebooks' first cells: steps=300 for all that know it, 03.steps=300 for one.

    Example: dpsims reproduce --preset demo --set 03.steps=300 --out runs/short
    """
    from dpsims.reproduce import reproduce as run

    run(preset, out, settings or [], only)


@app.command("app")
def serve_app(
    checkpoint: Annotated[
        Path | None, Option(envvar="DPSIMS_CHECKPOINT", help="Model or run folder; the shipped scenes-64 if not given.")
    ] = None,
    data: Annotated[
        Path | None, Option(envvar="DPSIMS_DATA", help="Prepared data set whose held-out label maps are shown.")
    ] = None,
    host: Annotated[
        str, Option(envvar="DPSIMS_HOST", help="Address to listen on; 0.0.0.0 lets everyone in, without a password.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(min=1, max=65535, envvar="DPSIMS_PORT", help="TCP port of the page.")] = 8866,
) -> None:
    """Serve the label map explorer as a web page, on this machine only, until Ctrl-C.

    The page runs cells of notebook 05; a browser can move its controls, but neither run code nor read files.

    Example: dpsims app --checkpoint data/checkpoints/scenes-128 --port 8900
    """
    from dpsims.explorer.app import serve

    serve(checkpoint, data, host, port)
