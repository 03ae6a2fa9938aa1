"""Every choice of a training in one frozen object: unknown keys and wrong types are errors, and it is saved as JSON.

The trailing comment of a field gives its unit or its choices, then its standing: *published* (read in the paper's
public parts), *recalled* (by people who know the paper, not checked against its text) or *default* (ours, or from the
closest relatives: OASIS, Dual-Pyramid GAN, Projected GAN, CUT). Only the published ones are the paper's word.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from dpsims.errors import InputError
from dpsims.files import read_json, write_json
from dpsims.limits import check


@dataclass(frozen=True)
class Data:
    """What is learned from."""

    dataset: str = "scenes"  # name of the label space
    path: str = ""  # prepared data set (`dpsims prepare`); "" makes or finds Scenes in the cache
    num_classes: int = 12  # K, without void; `--data` sets these four, path and seed as the prepared data have them
    height: int = 64  # pixels
    width: int = 64  # pixels
    num_images: int = 3000  # training images of Scenes when path is ""
    seed: int = 0  # of Scenes when path is ""
    rare_class_sampling: bool = True  # P(image) proportional to f^(-1/2), f the frequency of its rarest class; recalled
    flip: bool = True  # horizontal flips with probability 1/2; recalled
    crop: bool = False  # a random part of height x width of larger prepared images, such as 286 to 256; default


@dataclass(frozen=True)
class Discriminator:
    """Encoder, feature conditioning and decoder."""

    kind: str = "dp_sims"  # or oasis, the baseline: a UNet from scratch, for which only `channels` counts here
    backbone: str = "texture_resnet10t"  # the embedded one, or a timm name; the paper's best is ConvNeXt-L: published
    pretrained: str = "true"  # "true", "false" (random weights), or a local state dict; pre-trained: published
    frozen: bool = True  # the encoder stays fixed: published; false trains it (a control)
    nonlinearity: str = "sigmoid_normalise"  # or normalise_sigmoid, none; sigmoid published, form recalled
    decorrelation: str = "zca"  # or random_orthogonal, random_mixing, none; recalled, operator default
    shrinkage: float = 0.1  # a in (1-a) C + a I before whitening; default
    noise: str = "dynamic"  # or fixed, off; recalled
    noise_max: float = 0.4  # sigma_max, in standard deviations of a conditioned feature; default
    noise_beta: float = 0.99  # memory of the dynamic level; 0.999 for long runs; default
    noise_field: str = "pixel"  # a draw for every place, or image: one for the whole image; default
    noise_last: bool = True  # noise after decorrelation (default); false: before it (recalled)
    finest_stride: int = 4  # of the levels D sees; 2 where the backbone has it (default); 1, the image too: a deviation
    channels: tuple[int, ...] = (128, 128, 96, 64, 40, 24)  # decoder, at strides 32, 16, 8, 4, 2, 1; default
    # (oasis: of the encoder at strides 64 to 2; published 512, 512, 256, 256, 128, 128)
    checkpointing: bool = False  # the encoder's activations are computed again in backward: less memory; default
    statistics_images: int = 2000  # real images behind the constant conditioning statistics; default


@dataclass(frozen=True)
class Generator:
    """Label pyramid, noise and image pyramid."""

    kind: str = "dp_sims"  # or oasis, the baseline: SPADE blocks; channels, noise_dim and spectral_norm count for it,
    # and label_channels, the width inside SPADE (published 128)
    channels: tuple[int, ...] = (128, 128, 96, 64, 48, 24)  # image network, coarse to fine: one block a level; default
    label_channels: int = 32  # of each level of the label pyramid (64 at 256 px); default
    attention: str = "label_encoder"  # self-attention there, or both, none; published, place recalled
    attention_max_size: int = 16  # self-attention at levels of at most this height; recalled
    noise_tokens: int = 32  # N; recalled to be tokens, number default
    noise_dim: int = 64  # d; default
    noise_heads: int = 4  # default
    noise_sharpness: float = 0.25  # of the attention at the start: 0, all classes hear the same noise; default
    noise_max_size: int = 64  # cross-attention noise at levels of at most this height; default
    noise_places: bool = False  # the cross-attention's queries know their place: grain instead of stripes; default
    upsample: str = "bilinear"  # or nearest (Dual-Pyramid GAN); default
    padding: str = "zeros"  # or replicate, in the image network: no frame around small images; default
    norm: str = "group"  # before the modulation: group, or batch (as OASIS); default
    spectral_norm: bool = True  # default (OASIS)


@dataclass(frozen=True)
class Loss:
    """The three losses and their weights."""

    focal_gamma: float = 2.0  # focusing; 0 is OASIS's cross-entropy; name published, value recalled
    class_weights: str = "sqrt"  # or inverse (recalled), clipped, none: of the data set; batch: OASIS's, of each batch
    lambda_contrastive: float = 0.0  # 100 recalled, 1 to 10 in CUT; 0 leaves the loss out
    contrastive_temperature: float = 0.3  # tau; recalled (CUT 0.07)
    contrastive_patches: int = 128  # M, a level; recalled
    contrastive_backbone: str = "texture_resnet10t_b"  # frozen features of the loss (the paper: VGG, recalled)
    lambda_diversity: float = 10.0  # recalled
    diversity_threshold: float = 0.2  # tau_div, here in units of images in [0, 1]; from data
    diversity_threshold_late: float = 0.2  # the same once the learning rates fall (train.decay_from); default
    lambda_labelmix: float = 0.0  # OASIS's LabelMix (10 there); not part of DP-SIMS
    diversity_on: str = "image"  # or features (before the RGB layer, recalled; divided by their detached RMS)


@dataclass(frozen=True)
class Train:
    """The recipe."""

    steps: int = 600  # optimiser steps of G and of D
    batch_size: int = 8  # images a step over all processes; 64 recalled
    accumulate: int = 1  # pieces in which each process works on its share of a batch, to save memory; default
    noises_per_map: int = 2  # fakes of one map in a batch; 2 serve the diversity loss
    lr_generator: float = 1e-3  # 1e-3 recalled; OASIS 1e-4
    lr_discriminator: float = 2e-3  # 1e-3 recalled; OASIS 4e-4
    betas: tuple[float, ...] = (0.0, 0.99)  # Adam; recalled
    warmup_steps: int = 50  # linear; default
    decay_from: float = 0.6  # share of the steps after which both rates fall linearly to a tenth; 1.0: never; default
    clip_norm: float = 10.0  # of both gradients; recalled for Swin, value default
    ema_decay: float = 0.99  # 0.9999 recalled for long runs
    start_from: str = ""  # a trained model, by folder or shipped name: see `dpsims.starting`; "": none; default
    seed: int = 0
    bf16: bool = True  # autocast; losses stay in float32
    log_every: int = 10  # steps between rows of metrics.csv
    grad_norm_every: int = 100  # steps between gradient norms by term
    sample_every: int = 200  # steps between sample sheets
    checkpoint_every: int = 200  # steps
    judge_every: int = 0  # steps between Fréchet distances of held-out maps; the best checkpoint is kept; 0: never
    judge_maps: int = 500  # at most so many of them
    dead_after: int = 200  # steps of a dead generator before the run stops


@dataclass(frozen=True)
class Config:
    """A training, whole. `dpsims.presets` makes one, `override` changes fields, `save` and `load` keep it as JSON."""

    data: Data = field(default_factory=Data)
    discriminator: Discriminator = field(default_factory=Discriminator)
    generator: Generator = field(default_factory=Generator)
    loss: Loss = field(default_factory=Loss)
    train: Train = field(default_factory=Train)

    def __post_init__(self) -> None:
        _check(self)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain dictionary, as written to config.json."""
        return dataclasses.asdict(self)

    def flat(self) -> dict[str, Any]:
        """``section.field`` -> value, in the order of the fields."""
        return {f"{section}.{name}": v for section, part in self.to_dict().items() for name, v in part.items()}

    def save(self, path: str | Path) -> None:
        """Writes JSON."""
        write_json(Path(path), self.to_dict())


def _check(config: Config) -> None:
    """Raises InputError for values of the wrong type, out of range, or that cannot work together."""
    for section in dataclasses.fields(config):  # types first: the comparisons of `limits` rely on them
        part = getattr(config, section.name)
        for name, hint in get_type_hints(type(part)).items():
            value, key = getattr(part, name), f"{section.name}.{name}"
            if coerce(hint, value, key) != value:
                raise InputError(f"{key}: {value!r} is not of type {_type_name(hint)}")
    check(config.flat())


def _type_name(hint: Any) -> str:
    return "list of int or float" if get_origin(hint) is tuple else hint.__name__


def coerce(hint: Any, value: Any, key: str) -> Any:
    """`value` as the type `hint`, from JSON, YAML, papermill or ``key=value`` text; raises InputError naming `key`."""
    wrong = InputError(f"{key}: {value!r} ({type(value).__name__}) is not of type {_type_name(hint)}")
    if get_origin(hint) is tuple:
        if isinstance(value, str):
            value = [part for part in value.strip("[]() ").split(",") if part.strip()]
        if not isinstance(value, (list, tuple)):
            raise wrong
        return tuple(coerce(get_args(hint)[0], v, key) for v in value)
    if hint is bool:
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if not isinstance(value, bool):
            raise wrong
        return value
    if isinstance(value, bool) or (hint is int and isinstance(value, float) and not value.is_integer()):
        raise wrong  # int(0.5) and float(True) would work, and hide a mistake
    if hint is str and not isinstance(value, str):
        raise wrong
    try:
        typed = hint(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if hint is float and not math.isfinite(typed):
        raise InputError(f"{key}: {value} is no finite number")
    return typed


def override(config: Config, settings: Iterable[str]) -> Config:
    """A copy with fields replaced; each setting is ``section.field=value``, such as ``loss.lambda_diversity=4``.

    Raises:
        InputError: unknown section or field (the nearest names are given), or a value of the wrong type.
    """
    nested = config.to_dict()
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator:
            raise InputError(f"--set {setting}: write section.field=value, such as loss.lambda_diversity=4")
        section, _, name = key.strip().partition(".")
        if section not in nested or name not in nested[section]:
            raise InputError(f"--set {setting}: unknown field {key.strip()!r}{_nearest(key.strip())}")
        nested[section][name] = text.strip()
    return from_dict(nested)


def _nearest(key: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, Config().flat(), n=3, cutoff=0.4) or [f"{name}.*" for name in get_type_hints(Config)]
    return f"; did you mean {', '.join(close)}?"


def from_dict(nested: dict[str, Any]) -> Config:
    """A Config from plain dictionaries; absent fields take their defaults; unknown ones raise InputError."""
    sections = get_type_hints(Config)
    parts: dict[str, Any] = {}
    for section, values in nested.items():
        if section not in sections or not isinstance(values, dict):
            raise InputError(f"unknown section {section!r}; known: {', '.join(sections)}")
        hints = get_type_hints(sections[section])
        for name in values:
            if name not in hints:
                raise InputError(f"unknown field {section}.{name}{_nearest(f'{section}.{name}')}")
        typed = {name: coerce(hints[name], value, f"{section}.{name}") for name, value in values.items()}
        parts[section] = sections[section](**typed)
    return Config(**parts)


def load(path: str | Path) -> Config:
    """Reads config.json; raises InputError for a missing, damaged or foreign file."""
    path = Path(path)
    nested = read_json(path, "is this folder a dpsims run or checkpoint?")
    try:
        return from_dict(nested)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
