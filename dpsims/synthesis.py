"""A trained generator in a user's hands: images from label maps alone.

B batch, H and W height and width, K classes, N noise tokens, d their width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from dpsims import checkpoint, draws
from dpsims import config as configuration
from dpsims.config import Config
from dpsims.data.loader import to_uint8
from dpsims.data.prepare import PreparedData
from dpsims.errors import InputError
from dpsims.labels import LabelSpace, label_space, read_label_map
from dpsims.models import Discriminator, Generator
from dpsims.noise import class_region, locked

MAX_SEED = 2**63 - 1


def build_generator(config: Config, folded: bool) -> Generator:
    """The generator of a configuration, with fresh weights; `folded`, as in exported models, has no spectral norm."""
    options = asdict(config.generator)
    options["spectral_norm"] = config.generator.spectral_norm and not folded
    return Generator(label_space(config.data.dataset).num_classes, config.data.height, config.data.width, **options)


def build_discriminator(config: Config) -> Discriminator:
    """The discriminator of a configuration, its backbone loaded, its decoder fresh, its statistics not yet computed."""
    d = config.discriminator
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
        label_space(config.data.dataset).num_classes,
        pretrained=pretrained,
        frozen=d.frozen,
        channels=d.channels,
        finest_stride=d.finest_stride,
        conditioning={name: getattr(d, name) for name in names},
    )


def noise_of_seed(seed: int, shape: tuple[int, int]) -> Tensor:
    """The noise z (N, d) ~ N(0, 1) that a seed stands for, the same on every device."""
    return torch.randn(shape, generator=draws.stream(seed, 0, 0, draws.NOISE))


class Synthesizer:
    """A generator that is ready to use; `load_generator` makes one.

    Calling it twice with the same label maps and the same seed or noise gives the same images.
    """

    def __init__(self, generator: Generator, config: Config, provenance: dict) -> None:
        self.generator = generator.eval().requires_grad_(False)
        self.config, self.provenance = config, provenance
        self.space: LabelSpace = label_space(config.data.dataset)
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
        """z (B, N, d): of seeds seed, seed + 1, ... for a batch, or of the seeds given."""
        seeds = range(seed, seed + batch) if isinstance(seed, int) else seed
        return torch.stack([noise_of_seed(int(s), self.noise_shape) for s in seeds])

    @torch.inference_mode()
    def __call__(
        self,
        labels: Tensor | np.ndarray,
        seed: int | Sequence[int] = 0,
        noise: Tensor | None = None,
        regions: Tensor | None = None,
    ) -> Tensor:
        """Images of label maps.

        Args:
            labels: (B, H, W) or (H, W) integer ids, 0 = void, 1..K.
            seed: of the noise; image b of a batch takes seed + b, or the b-th of a sequence.
            noise: z (B, N, d) instead of a seed; what goes in is what is used.
            regions: (B, H, W) integers in 0..R-1: which of R noises a place listens to; `noise` is then (B, R, N, d).

        Returns:
            (B, 3, H, W) float in [-1, 1], on the generator's device.

        Raises:
            InputError: wrong shape, size, ids or regions.
        """
        labels = self._checked(labels)
        if noise is None:
            noise = self.noise(seed, len(labels))
        count = () if regions is None else (noise.shape[1],)
        if tuple(noise.shape) != (len(labels), *count, *self.noise_shape):
            raise InputError(
                f"noise of shape {tuple(noise.shape)}: need ({len(labels)}, {'R, ' if count else ''}N, d) with (N, d) "
                f"= {self.noise_shape}"
            )
        if regions is not None:
            if regions.shape != labels.shape or regions.min() < 0 or regions.max() >= count[0]:
                raise InputError(f"regions: need {tuple(labels.shape)} integers in 0..{count[0] - 1}, one a noise")
            regions = regions.to(self.device)
        images, _ = self.generator(labels.to(self.device), noise.to(self.device), regions)
        return images

    def vary(self, labels: Tensor | np.ndarray, region: Tensor, seed: int, inside: int, lock: bool = False) -> Tensor:
        """Images whose noise is that of one seed, and inside a region that of another.

        Args:
            labels: (B, H, W) or (H, W) integer ids.
            region: (B, H, W), not 0 inside; `dpsims.noise.class_region` gives that of classes.
            seed: outside; image b takes seed + b.
            inside: the seed inside, of all images.
            lock: outside, every pixel is that of the image of `seed`, bit for bit; else the change may reach a little
                beyond the region, and light and shadow fit.

        Returns:
            (B, 3, H, W) float in [-1, 1], on the generator's device.
        """
        labels = self._checked(labels)
        z = torch.stack([self.noise(seed, len(labels)), self.noise([inside] * len(labels))], dim=1)
        images = self(labels, noise=z, regions=(region != 0).long())
        return locked(images, self(labels, seed), region.to(self.device)) if lock else images

    def _checked(self, labels: Tensor | np.ndarray) -> Tensor:
        labels = labels if isinstance(labels, Tensor) else torch.from_numpy(np.array(labels))  # maps may be read-only
        labels = labels[None] if labels.ndim == 2 else labels
        if labels.ndim != 3 or tuple(labels.shape[1:]) != self.size:
            raise InputError(
                f"labels of shape {tuple(labels.shape)}: the model takes (B, {self.size[0]}, {self.size[1]})"
            )
        self.space.check(labels.numpy(force=True), "labels")
        return labels


def load_generator(path: str | Path, device: str | torch.device = "cpu") -> Synthesizer:
    """Loads a trained generator.

    Args:
        path: an exported model (such as ``data/checkpoints/scenes-64``), a checkpoint, or a run folder (its newest).
        device: where to put it, such as ``"cuda"``.

    Returns:
        A callable: label maps (B, H, W) -> images (B, 3, H, W) in [-1, 1].

    Raises:
        InputError: no, a damaged or a foreign checkpoint.
    """
    folder = checkpoint.resolve(path)
    config = configuration.load(folder / "config.json")
    facts = checkpoint.read_provenance(folder)
    exported = bool(facts.get("exported"))
    generator = build_generator(config, folded=exported)
    checkpoint.load_weights(generator, folder / "generator.safetensors")
    generator = generator.eval() if exported else checkpoint.fold_spectral_norm(generator)
    return Synthesizer(generator.to(device, memory_format=torch.channels_last), config, facts)


def load_discriminator(path: str | Path, device: str | torch.device = "cpu") -> Discriminator:
    """Loads the discriminator of a checkpoint, in evaluation mode; its backbone is checked against the recorded hash.

    Raises:
        InputError: as `load_generator`, or other backbone weights than it was trained with.
    """
    folder = checkpoint.resolve(path)
    config = configuration.load(folder / "config.json")
    expected = checkpoint.read_provenance(folder).get("backbone_sha256")
    discriminator = build_discriminator(config)
    checkpoint.load_weights(discriminator, folder / "discriminator.safetensors")
    if expected and expected != checkpoint.backbone_sha256(config):
        raise InputError(f"{folder}: trained with other weights of {config.discriminator.backbone} than are here")
    return discriminator.to(device).eval()


@torch.inference_mode()
def sample_sheet(generator: nn.Module, data: PreparedData, maps: int = 8, noises: int = 3) -> np.ndarray:
    """Fixed label maps of the held-out split, their real images, and generated ones, as one picture.

    Args:
        generator: folded, in evaluation mode.
        data: its held-out split gives the maps.
        maps: columns.
        noises: rows of generated images; the same noise down a row's columns, seeds 0, 1, ...

    Returns:
        ((2 + noises) * H, maps * W, 3) uint8.
    """
    split = data.split("val")
    labels = np.array(split.labels[:maps])
    rows = [label_space(data.index["dataset"]).colourise(labels), np.array(split.images[:maps])]
    device = next(generator.parameters()).device
    ids = torch.from_numpy(labels).to(device)
    for seed in range(noises):
        noise = noise_of_seed(seed, (generator.noise_tokens, generator.noise_dim)).expand(len(ids), -1, -1)
        rows.append(to_uint8(generator(ids, noise.to(device))[0]))
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def generate_files(
    checkpoint_path: str | Path,
    labels: str | Path,
    out: str | Path,
    seed: int = 0,
    n: int = 4,
    *,
    vary: Sequence[str] = (),
    lock: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Images from label maps in files: ``OUT/<stem>_seed<seed>.png``, n a map, with seeds seed, seed + 1, ...

    Args:
        checkpoint_path: see `load_generator`.
        labels: a PNG of class ids, or a folder of them.
        out: folder for the images; made if need be.
        seed: of the first image of every map.
        n: images a map.
        vary: names of classes; if given, all images of a map have the noise of `seed`, and only inside these classes
            that of seed + 1, seed + 2, ...; the files are ``<stem>_seed<seed>_vary<other>.png``.
        lock: with `vary`, keep every other pixel bit for bit.

    Returns:
        The files written.

    Raises:
        InputError: bad checkpoint, label map (each is checked before the first image is made), class, seed or folder.
    """
    if n < 1:
        raise InputError(f"n: {n} must be at least 1")
    if not 0 <= seed < MAX_SEED - n:
        raise InputError(f"seed: {seed} must lie in 0..2^63-1, with the {n} seeds that follow it")
    if lock and not vary:
        raise InputError("lock: keeps what is outside the classes of vary; give them too")
    files = _label_files(Path(labels))
    synthesize = load_generator(checkpoint_path, "cuda" if torch.cuda.is_available() else "cpu")
    classes = [synthesize.space.id_of(name) for name in vary]
    maps = [read_label_map(path, synthesize.space, synthesize.size) for path in files]
    out, written = Path(out), []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, ids in tqdm(list(zip(files, maps, strict=True)), "generating", unit="map", disable=not progress):
            for name, image in _images_of(synthesize, torch.from_numpy(ids)[None], seed, n, classes, lock):
                target = out / f"{path.stem}_{name}.png"
                temporary = target.with_name(f".{target.name}")
                Image.fromarray(image).save(temporary, format="PNG")
                temporary.replace(target)
                written.append(target)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    return written


def _label_files(labels: Path) -> list[Path]:
    """The label map, or those of a folder, whose images would not replace one another."""
    files = sorted(p for p in labels.iterdir() if p.suffix.lower() == ".png") if labels.is_dir() else [labels]
    if not files:
        raise InputError(f"{labels}: holds no PNG; give a label map or a folder of them")
    for first, second in pairwise(sorted(files, key=lambda p: p.stem)):
        if first.stem == second.stem:
            raise InputError(f"{second}: its images would replace those of {first.name}; rename one of the two")
    return files


def _images_of(
    synthesize: Synthesizer, ids: Tensor, seed: int, n: int, classes: list[int], lock: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and images (H, W, 3) uint8 of one label map (1, H, W)."""
    for index in range(n):
        if classes:
            other = seed + 1 + index
            image = synthesize.vary(ids, class_region(ids, classes), seed, other, lock)
            yield f"seed{seed}_vary{other}", to_uint8(image)[0]
        else:
            yield f"seed{seed + index}", to_uint8(synthesize(ids, seed=seed + index))[0]
