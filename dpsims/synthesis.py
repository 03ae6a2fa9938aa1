"""A trained generator in a user's hands: images from label maps alone.

B batch, H and W height and width, K classes, N noise tokens, d their width.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dpsims import checkpoint, draws
from dpsims import config as configuration
from dpsims.checks import as_device, as_integers, as_seeds
from dpsims.config import Config
from dpsims.data.loader import middle
from dpsims.data.prepared import PreparedData
from dpsims.errors import InputError
from dpsims.images import to_uint8
from dpsims.labels import LabelSpace
from dpsims.models import Discriminator, Generator
from dpsims.models.oasis import OasisDiscriminator, OasisGenerator
from dpsims.noise import as_noise, by_class, interpolate, locked


def build_generator(config: Config, folded: bool) -> Generator | OasisGenerator:
    """The generator of a configuration, with fresh weights; `folded`, as in exported models, has no spectral norm."""
    options, size = asdict(config.generator), (config.data.height, config.data.width)
    kind = options.pop("kind")
    options["spectral_norm"] = config.generator.spectral_norm and not folded
    if kind == "oasis":
        few = {name: options[name] for name in ("channels", "noise_dim", "spectral_norm")}
        return OasisGenerator(config.data.num_classes, *size, hidden=options["label_channels"], **few)
    return Generator(config.data.num_classes, *size, **options)


def build_discriminator(config: Config) -> Discriminator | OasisDiscriminator:
    """The discriminator of a configuration, its backbone loaded, its decoder fresh, its statistics not yet computed."""
    d = config.discriminator
    if d.kind == "oasis":
        return OasisDiscriminator(config.data.num_classes, d.channels[::-1], max(d.channels[-1] // 2, 1))
    pretrained = {"true": True, "false": False}.get(d.pretrained.lower(), d.pretrained)
    names = (
        "nonlinearity",
        "decorrelation",
        "shrinkage",
        "noise",
        "noise_max",
        "noise_beta",
        "noise_field",
        "noise_last",
    )
    return Discriminator(
        d.backbone,
        config.data.num_classes,
        pretrained=pretrained,
        frozen=d.frozen,
        channels=d.channels,
        finest_stride=d.finest_stride,
        conditioning={name: getattr(d, name) for name in names},
        size=(config.data.height, config.data.width),
        checkpointing=d.checkpointing,
    )


def noise_of_seed(seed: int, shape: tuple[int, int]) -> Tensor:
    """The noise z (N, d) ~ N(0, 1) that a seed stands for, the same on every device."""
    return torch.randn(shape, generator=draws.stream(seed, 0, 0, draws.NOISE))


def as_strength(given: float) -> float:
    """The strength of a noise; raises InputError unless it is a finite number of 0 or more."""
    if not isinstance(given, int | float) or not 0 <= given < math.inf:
        raise InputError(f"strength: {given!r}; give a number of 0 or more, 1 is as trained")
    return float(given)


class Synthesizer:
    """A generator that is ready to use; `load_generator` makes one.

    Calling it twice with the same label maps and the same seed or noise gives the same images.
    """

    def __init__(self, generator: Generator, config: Config, provenance: dict, space: LabelSpace) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.config, self.provenance = config, provenance
        self.space = space
        self.size = (config.data.height, config.data.width)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.generator.parameters()).device

    @property
    def noise_shape(self) -> tuple[int, int]:
        """(N, d) of one image's noise."""
        return self.generator.noise_tokens, self.generator.noise_dim

    def noise(self, seed: int | Sequence[int], batch: int = 1) -> Tensor:
        """z (B, N, d): of seeds seed, seed + 1, ... for a batch, or of the seeds given; InputError for a bad seed."""
        return torch.stack([noise_of_seed(s, self.noise_shape) for s in as_seeds(seed, batch)])

    @torch.inference_mode()
    def __call__(
        self,
        labels: Tensor | np.ndarray,
        seed: int | Sequence[int] = 0,
        noise: Tensor | np.ndarray | Mapping[str, Tensor | np.ndarray] | None = None,
        regions: Tensor | np.ndarray | None = None,
        strength: float = 1.0,
    ) -> Tensor:
        """Images of label maps.

        Args:
            labels: (B, H, W) or (H, W) integer ids, 0 = void, 1..K.
            seed: of the noise; image b of a batch takes seed + b, or the b-th of a sequence.
            noise: z (B, N, d) instead of a seed; what goes in is what is used, in float32. Or by classes, such as
                ``{"sky": z1, "default": z0}``, each (N, d) or (B, N, d); without "default" the others have the seed's.
            regions: (B, H, W), or (H, W) of one map, integers in 0..R-1: which of R noises a place listens to; `noise`
                is then (B, R, N, d).
            strength: what the noise adds to the features is multiplied by it: 0 draws without noise, 1 as trained, more
                exaggerates. Multiplying z itself would do next to nothing: the cross-attention normalises its values.

        Returns:
            (B, 3, H, W) float in [-1, 1], on the generator's device.

        Raises:
            InputError: wrong shape, size, ids, seed, noise, regions or strength.
        """
        labels = self._checked(labels)
        strength = as_strength(strength)
        if isinstance(noise, Mapping):
            if regions is not None:
                raise InputError("regions: the classes are the regions of a noise by classes; give one of the two")
            noise, regions = by_class(labels, self.space, noise, self.noise(seed, len(labels)))
        noise = self.noise(seed, len(labels)) if noise is None else as_noise(noise, "noise")
        noise = noise.to(self.device)
        count = () if regions is None else noise.shape[1:2]
        if tuple(noise.shape) != (len(labels), *count, *self.noise_shape):
            several = "" if regions is None else "R, "
            raise InputError(
                f"noise of shape {tuple(noise.shape)}: need ({len(labels)}, {several}N, d) with (N, d) = "
                f"{self.noise_shape}"
            )
        if regions is not None:
            regions = self._checked_regions(regions, labels, range(count[0]))
        images, _ = self.generator(labels.to(self.device), noise, regions, strength)
        return images

    def walk(
        self, labels: Tensor | np.ndarray, first: int, second: int, steps: int = 9, strength: float = 1.0
    ) -> Iterator[Tensor]:
        """Images of one label map from the noise of a seed to that of another, on the great circle between them.

        Args:
            labels: (H, W) or (1, H, W) integer ids.
            first, second: the seeds of both ends, whose images the first and the last are, bit for bit.
            steps: images, 2 or more.
            strength: as in calling.

        Returns:
            `steps` images (1, 3, H, W) in [-1, 1], one after the other; ``torch.cat(list(...))`` makes them a batch.

        Raises:
            InputError: as calling does; several label maps, or fewer steps.
        """
        labels = self._checked(labels)
        if len(labels) > 1 or steps < 2:
            raise InputError(f"walk: {len(labels)} label maps and {steps} steps; give one map, and 2 steps or more")
        strength = as_strength(strength)
        start, end = self.noise([first, second], 2).split(1)
        between = (interpolate(start, end, step / (steps - 1)) for step in range(1, steps - 1))
        return (self(labels, noise=z, strength=strength) for z in (start, *between, end))

    def vary(
        self, labels: Tensor | np.ndarray, region: Tensor | np.ndarray, seed: int, inside: int, lock: bool = False
    ) -> Tensor:
        """Images whose noise is that of one seed, and inside a region that of another.

        Args:
            labels: (B, H, W) or (H, W) integer ids.
            region: (B, H, W), or (H, W) of one map, integers or booleans, not 0 inside; `dpsims.noise.class_region`
                gives that of classes.
            seed: outside; image b takes seed + b.
            inside: the seed inside, of all images.
            lock: outside, every pixel is that of the image of `seed`, bit for bit; else the change may reach a little
                beyond the region, and light and shadow fit.

        Returns:
            (B, 3, H, W) float in [-1, 1], on the generator's device.

        Raises:
            InputError: as calling does.
        """
        labels = self._checked(labels)
        region = self._checked_regions(as_integers(region, "region") != 0, labels, range(2))
        z = torch.stack([self.noise(seed, len(labels)), self.noise([inside]).expand(len(labels), -1, -1)], dim=1)
        images = self(labels, noise=z, regions=region)
        return locked(images, self(labels, seed), region) if lock else images

    def _checked(self, labels: Tensor | np.ndarray) -> Tensor:
        labels = as_integers(labels, "labels")
        labels = labels[None] if labels.ndim == 2 else labels
        if labels.ndim != 3 or tuple(labels.shape[1:]) != self.size or not len(labels):
            raise InputError(
                f"labels of shape {tuple(labels.shape)}: the model takes (B, {self.size[0]}, {self.size[1]})"
            )
        self.space.check(labels.numpy(force=True), "labels")
        return labels

    def _checked_regions(self, regions: Tensor | np.ndarray, labels: Tensor, known: range) -> Tensor:
        """(B, H, W) int64 in 0..R-1 on the generator's device; those of one map may come without B."""
        regions = as_integers(regions, "regions").to(self.device)
        regions = regions[None] if regions.ndim == 2 else regions
        if regions.shape != labels.shape or regions.min() < known.start or regions.max() >= known.stop:
            raise InputError(f"regions: need {tuple(labels.shape)} integers in 0..{known.stop - 1}, one a noise")
        return regions


def load_generator(path: str | Path, device: str | torch.device | None = "cpu") -> Synthesizer:
    """Loads a trained generator.

    Args:
        path: an exported model (such as ``data/checkpoints/scenes-64``), a checkpoint, or a run folder (its newest).
        device: where to put it, such as ``"cuda"``; None: the GPU where there is one.

    Returns:
        A callable: label maps (B, H, W) -> images (B, 3, H, W) in [-1, 1].

    Raises:
        InputError: no, a damaged or a foreign checkpoint; a device that is not here.
    """
    device = as_device(device)
    folder = checkpoint.resolve(path)
    config = configuration.load(folder / "config.json")
    facts, space = checkpoint.read_provenance(folder), checkpoint.read_space(folder, config)
    exported = bool(facts.get("exported"))
    generator = build_generator(config, folded=exported)
    checkpoint.load_weights(generator, folder / "generator.safetensors")
    generator = generator.eval() if exported else checkpoint.fold_spectral_norm(generator)
    return Synthesizer(generator.to(device, memory_format=torch.channels_last), config, facts, space)


def load_discriminator(path: str | Path, device: str | torch.device = "cpu") -> Discriminator:
    """Loads the discriminator of a checkpoint, in evaluation mode; its backbone is checked against the recorded hash.

    Raises:
        InputError: as `load_generator`, or other backbone weights than it was trained with.
    """
    device = as_device(device)
    folder = checkpoint.resolve(path)
    config = configuration.load(folder / "config.json")
    expected = checkpoint.read_provenance(folder).get("backbone_sha256")
    discriminator = build_discriminator(config)
    checkpoint.load_weights(discriminator, folder / "discriminator.safetensors")
    if expected and expected != checkpoint.backbone_sha256(config):
        raise InputError(f"{folder}: trained with other weights of {config.discriminator.backbone} than are here")
    return discriminator.to(device).eval()


@torch.inference_mode()
def discriminator_view(discriminator: Discriminator | OasisDiscriminator, images: Tensor) -> tuple[Tensor, Tensor]:
    """What a discriminator sees in images, pixel by pixel.

    Args:
        discriminator: in evaluation mode, such as `load_discriminator` gives; no noise is then added to its features.
        images: (B, 3, H, W) in [-1, 1].

    Returns:
        The class that it holds each pixel for, were it real: (B, H, W) ids in 1..K; and the probability of "fake" among
        the K classes and "fake", (B, H, W).
    """
    logits = discriminator(images.to(next(discriminator.parameters()).device)).float()
    return logits[:, :-1].argmax(1) + 1, logits.softmax(1)[:, -1]


@torch.inference_mode()
def sample_sheet(generator: nn.Module, data: PreparedData, maps: int = 8, noises: int = 3) -> np.ndarray:
    """Fixed label maps of the held-out split, their real images, and generated ones, as one picture.

    Args:
        generator: folded, in evaluation mode.
        data: its held-out split gives the maps; the middle of larger ones.
        maps: columns.
        noises: rows of generated images; the same noise down a row's columns, seeds 0, 1, ...

    Returns:
        ((2 + noises) * H, maps * W, 3) uint8.
    """
    split = data.split("val")
    size = (generator.height, generator.width)
    labels = np.array(middle(split.labels[:maps], size))
    rows = [data.space.colourise(labels), np.array(middle(split.images[:maps], size))]
    device = next(generator.parameters()).device
    ids = torch.from_numpy(labels).to(device)
    for seed in range(noises):
        noise = noise_of_seed(seed, (generator.noise_tokens, generator.noise_dim)).expand(len(ids), -1, -1)
        rows.append(to_uint8(generator(ids, noise.to(device))[0]))
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
