"""What a training would be, told before anything starts: `dpsims train --dry-run`.

Everything follows from shapes: networks are built on the meta device, so that no weights are loaded, nothing is
downloaded and no image is read. Parameters and GMACs are exact (a backbone whose weights fit one size alone is counted
as built for the images' size); the memory is an estimate, see `dpsims.step_memory`.
"""

from dataclasses import replace

import torch
from tqdm.auto import tqdm

from dpsims.backbone_costs import gmacs
from dpsims.config import Config
from dpsims.data.prepared import open_prepared
from dpsims.errors import InputError
from dpsims.evaluation.report import plain
from dpsims.models.patch_head import LEVELS
from dpsims.presets import TRAINING_IMAGES
from dpsims.step_memory import Networks, count, discriminator, memory, networks

# of the paper, as far as it is known: published ConvNeXt-L and EfficientNet, the others recalled
BACKBONES = ("convnext_large", "convnext_base", "swin_base_patch4_window7_224", "tf_efficientnet_lite4", "resnet50")
CARDS = (16, 24, 40, 80)  # GB
GB = 1e9  # bytes
# share of a card left free for what the estimate does not count: with tensors of the moment a step of ade20k256 (8
# images, on meta tensors, backward passes too) had 13 to 15 % more alive at once; the rest is for kernels and allocator
SPARE = 0.25
KINDS = ("bf16", "float32")
ESTIMATE = (
    "Memory of a training step in GB (10^9 bytes) a process, by the images that it works on at once (train.batch_size\n"
    "over all processes and train.accumulate pieces). An estimate, not measured: weights, gradients, Adam's moments,\n"
    "the average of G, and what autograd saves for backward passes."
)
FITS = (
    f"The most images at once, with {SPARE:.0%} of a card left free for what the estimate does not count; - where\n"
    "none fit. Less is needed with a larger train.accumulate, and with discriminator.checkpointing=true."
)


def report(config: Config, progress: bool = True) -> str:
    """Networks, length and memory of a training, the last with other backbones too, as text.

    Args:
        config: of the training; where it names prepared data their index is read, and nothing else.
        progress: show a bar once it has taken five seconds.

    Raises:
        InputError: an unknown backbone, one without the levels asked for, or no prepared data where they should be.
    """
    length, own, n = _length(config), config.discriminator.backbone, config.train.noises_per_map
    others = [name for name in BACKBONES if name != own.split(".")[0]]
    names = ["none (oasis)"] if config.discriminator.kind == "oasis" else [own, *others]
    batches = sorted({max(config.train.batch_size // k // n, 1) * n for k in (1, 2, 4)})
    costs = [["backbone", "M", "GMACs", *(f"{kind}: {batch}" for kind in KINDS for batch in batches)]]
    largest = [["backbone", *(f"{kind}: {card} GB" for kind in KINDS for card in CARDS)]]
    made, parts, notes = networks(config), [], []
    for name in tqdm(names, "counting", unit="backbone", delay=5, leave=False, disable=not progress):
        if name in others:
            try:
                d = discriminator(replace(config, discriminator=replace(config.discriminator, backbone=name)))
            except InputError as error:
                notes.append(f"Left out: {error}")
                continue
            made = replace(made, discriminator=d)
        table = network_table(config, made)
        parts = parts or table
        found = [memory(config, made, kind == "bf16") for kind in KINDS]
        costs.append([name, *table[2][1:], *(f"{m.at(batch) / GB:.1f}" for m in found for batch in batches)])
        fits = (m.largest((1 - SPARE) * card * GB, n) for m in found for card in CARDS)
        largest.append([name, *(str(batch) if batch else "-" for batch in fits)])
    return "\n\n".join([length, plain(parts), ESTIMATE, plain(costs), FITS, plain(largest), *notes])


def _length(config: Config) -> str:
    """Steps, images and epochs in a sentence."""
    d, t = config.data, config.train
    images = TRAINING_IMAGES.get(d.dataset, d.num_images)
    if d.path:
        images = open_prepared(d.path).index["splits"]["train"]["count"]
    seen = t.steps * t.batch_size
    return (
        f"{t.steps:,} steps of {t.batch_size} images of {d.height} x {d.width} pixels: {seen:,} images, "
        f"{seen / images:,.1f} epochs of {images:,}."
    )


def network_table(config: Config, made: Networks) -> list[list[str]]:
    """Parameters in millions and GMACs of one image, a network a line, the backbone in the second."""
    size = (config.data.height, config.data.width)
    g, d, head = made.generator, made.discriminator.eval(), made.patch_head
    encoder = getattr(d, "backbone", None)  # OASIS has none
    encoder_parameters = count(encoder) if encoder else 0
    kind = "frozen" if d.frozen else "trained"
    with torch.device("meta"):
        image, labels = torch.zeros(1, 3, *size), torch.ones(1, *size, dtype=torch.long)
        noise, places = torch.zeros(1, g.noise_tokens, g.noise_dim), torch.zeros(1, LEVELS, 1)
        levels = d.features(image)
        lines = [
            ("generator", count(g), gmacs(lambda: g(labels, noise))),
            (f"encoder of D, {kind}", encoder_parameters, gmacs(lambda: d.features(image))),
            ("decoder of D", count(d) - encoder_parameters, gmacs(lambda: d.decode(d.conditioning(levels), size))),
        ]
        if head is not None:
            lines.append(("features of the contrastive loss", count(head), gmacs(lambda: head(image, places))))
    d.train()
    figures = [[name, f"{parameters / 1e6:.2f}", f"{macs:.2f}"] for name, parameters, macs in lines]
    return [["network", "parameters, M", "GMACs an image"], *figures]
