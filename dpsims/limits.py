"""Which values a configuration may take: choices, ranges, and what must fit together. Fields are ``section.name``."""

from typing import Any

from dpsims.errors import InputError

CHOICES = {
    "discriminator.kind": ("dp_sims", "oasis"),
    "generator.kind": ("dp_sims", "oasis"),
    "discriminator.nonlinearity": ("sigmoid_normalise", "normalise_sigmoid", "none"),
    "discriminator.decorrelation": ("zca", "random_orthogonal", "random_mixing", "none"),
    "discriminator.noise": ("dynamic", "fixed", "off"),
    "discriminator.noise_field": ("pixel", "image"),
    "discriminator.finest_stride": (1, 2, 4),
    "generator.attention": ("label_encoder", "both", "none"),
    "generator.upsample": ("bilinear", "nearest"),
    "generator.padding": ("zeros", "replicate"),
    "generator.norm": ("group", "batch"),
    "loss.class_weights": ("inverse", "sqrt", "clipped", "none", "batch"),
    "loss.diversity_on": ("image", "features"),
}
SEED, COUNT, POSITIVE, WEIGHT, SHARE, WIDTHS = (
    (0, 2**63 - 1),
    (1, 10**9),
    (1e-12, 1e6),
    (0.0, 1e6),
    (0.0, 1.0),
    (1, 4096),
)
RANGES = {  # lowest and highest value, of every entry where a field has several
    "data.num_classes": (1, 255), "data.height": (16, 4096), "data.width": (16, 4096),
    "data.num_images": COUNT, "data.seed": SEED,
    "discriminator.shrinkage": SHARE, "discriminator.noise_max": (0.0, 100.0), "discriminator.noise_beta": SHARE,
    "discriminator.statistics_images": COUNT, "discriminator.channels": WIDTHS,
    "generator.channels": WIDTHS, "generator.label_channels": WIDTHS, "generator.attention_max_size": (0, 4096),
    "generator.noise_tokens": WIDTHS, "generator.noise_dim": WIDTHS, "generator.noise_heads": WIDTHS,
    "generator.noise_sharpness": (0.0, 5.0), "generator.noise_max_size": (0, 4096),
    "loss.focal_gamma": (0.0, 100.0), "loss.lambda_contrastive": WEIGHT, "loss.contrastive_temperature": POSITIVE,
    "loss.contrastive_patches": COUNT, "loss.lambda_diversity": WEIGHT, "loss.diversity_threshold": WEIGHT,
    "loss.diversity_threshold_late": WEIGHT, "loss.lambda_labelmix": WEIGHT,
    "train.steps": COUNT, "train.batch_size": COUNT, "train.accumulate": COUNT, "train.noises_per_map": COUNT,
    "train.lr_generator": POSITIVE,
    "train.lr_discriminator": POSITIVE, "train.betas": (0.0, 1 - 1e-9), "train.warmup_steps": (0, 10**9),
    "train.decay_from": SHARE, "train.clip_norm": POSITIVE, "train.ema_decay": (0.0, 1 - 1e-9), "train.seed": SEED,
    "train.log_every": COUNT, "train.grad_norm_every": COUNT, "train.sample_every": COUNT,
    "train.checkpoint_every": COUNT, "train.dead_after": COUNT,
    "train.judge_every": (0, 10**9), "train.judge_maps": (4, 10**9),
}  # fmt: skip


def check(values: dict[str, Any]) -> None:
    """Raises InputError, naming field, value and what would do, for values that cannot work.

    Args:
        values: every field of a configuration, as ``section.name``, of the right type.
    """
    for key, choices in CHOICES.items():
        if values[key] not in choices:
            raise InputError(f"{key}: {values[key]!r} is not one of {', '.join(map(str, choices))}")
    for key, (lowest, highest) in RANGES.items():
        for value in values[key] if isinstance(values[key], tuple) else (values[key],):
            if not lowest <= value <= highest:
                raise InputError(f"{key}: {value!r} must lie between {lowest:g} and {highest:g}")
    for key, count in (("discriminator.channels", 6), ("train.betas", 2)):
        if len(values[key]) != count:
            raise InputError(f"{key}: has {len(values[key])} numbers, needs {count}; see dpsims/config.py")
    if not 2 <= len(values["generator.channels"]) <= 11:
        raise InputError(f"generator.channels: has {len(values['generator.channels'])} numbers, needs 2 to 11")
    _check_together(values)


def _check_together(values: dict[str, Any]) -> None:
    """What one field asks of another."""
    height, width, channels = values["data.height"], values["data.width"], values["generator.channels"]
    reduction = 2 ** (len(channels) - 2)
    if height % reduction or width % reduction:
        raise InputError(
            f"data.height, data.width: {height} x {width} must be multiples of {reduction}, since generator.channels "
            f"has {len(channels)} entries; give other sizes or another number of channels"
        )
    if values["discriminator.kind"] == "oasis" and (height % 64 or width % 64):
        raise InputError(
            f"data.height, data.width: {height} x {width} must be multiples of 64, which discriminator.kind=oasis "
            "halves six times; give other sizes or the other kind"
        )
    batch, noises = values["train.batch_size"], values["train.noises_per_map"]
    if batch % noises:
        raise InputError(f"train.batch_size: {batch} is not a multiple of noises_per_map {noises}")
    if values["loss.lambda_diversity"] and noises < 2:
        raise InputError("train.noises_per_map: must be at least 2 while loss.lambda_diversity is not 0")
    label_channels, heads = values["generator.label_channels"], values["generator.noise_heads"]
    if label_channels % heads or label_channels % 4:
        raise InputError(
            f"generator.label_channels: {label_channels} is not a multiple of 4 and of noise_heads {heads}"
        )
