"""How much memory a training step takes, estimated from shapes alone; `dpsims train --dry-run` shows it.

**An estimate, not measured**: weights, gradients, Adam's two moments, the EMA of G, and what autograd saves for the
backward passes, at the fuller of two moments of a step: before the backward pass of D, and before that of G. What is
saved is counted by hooks while the forward passes of `dpsims.trainer` go through meta tensors; a storage counts once,
however many views of it are saved. For bf16 these are fake tensors of a GPU, which are meta tensors that know their
device: autocast works on them as on a GPU, so that types are counted and not guessed. Convolutions and matrix products
save bfloat16, norms, the conditioning and the losses float32; weights, gradients, moments and EMA stay float32. Not
counted: tensors that live for a moment, the kernels' own space and what the allocator loses. Where no GPU is, attention
in a backbone counts as plain products; fused kernels save less.

B batch, H and W height and width, K classes, N noise tokens, d their width.
"""

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from dpsims import losses
from dpsims.config import Config
from dpsims.models.patch_head import LEVELS, PatchHead
from dpsims.precision import exact
from dpsims.synthesis import build_discriminator, build_generator


@dataclass
class Networks:
    """What a training trains and looks through."""

    generator: nn.Module
    discriminator: nn.Module
    patch_head: nn.Module | None  # of the contrastive loss

    def all(self) -> list[nn.Module]:
        """Those that there are."""
        return [network for network in (self.generator, self.discriminator, self.patch_head) if network is not None]


def networks(config: Config) -> Networks:
    """The networks of a configuration on the meta device, the backbones without their weights.

    Raises:
        InputError: as of `discriminator`, or an unknown backbone of the contrastive loss.
    """
    with torch.device("meta"):
        head = PatchHead(config.loss.contrastive_backbone, pretrained=False) if config.loss.lambda_contrastive else None
        generator = build_generator(config, folded=False)
    return Networks(generator.to("meta"), discriminator(config), head)  # codes from a seed were drawn on the CPU


def discriminator(config: Config) -> nn.Module:
    """That of a configuration on the meta device, its backbone without weights.

    Raises:
        InputError: an unknown backbone, or one without the levels asked for.
    """
    with torch.device("meta"):
        made = build_discriminator(replace(config, discriminator=replace(config.discriminator, pretrained="false")))
    return made.to("meta")


def count(parts: Any, trainable: bool | None = None) -> int:
    """Numbers in the parameters of a network or in a list of them; only in those that train, or do not, if asked."""
    parameters = parts.parameters() if isinstance(parts, nn.Module) else parts
    return sum(p.numel() for p in parameters if trainable in (None, p.requires_grad))


class Memory(NamedTuple):
    """Bytes of a training step in one process."""

    fixed: int  # weights, gradients, moments, EMA
    moments: tuple[tuple[float, float], ...]  # saved before D's backward pass and before G's: of no image, of each more

    def at(self, batch: int) -> float:
        """With so many images worked on at once."""
        return self.fixed + max(base + each * batch for base, each in self.moments)

    def largest(self, room: float, multiple: int) -> int:
        """The most images at once, a multiple of this, that so many bytes hold; 0 where they hold none."""
        fits = min((room - self.fixed - base) / each for base, each in self.moments)
        return max(int(fits // multiple) * multiple, 0)


def memory(config: Config, made: Networks, bf16: bool, device: str = "cuda") -> Memory:
    """The estimate, from two small batches: what is saved grows in proportion to the batch.

    Args:
        config: of the training.
        made: its networks on the meta device.
        bf16: under autocast, or in float32 throughout.
        device: the type of device by whose rules autocast chooses.
    """
    n = config.train.noises_per_map
    if bf16:
        fakes = copy.deepcopy(made)
        with FakeTensorMode(allow_non_fake_inputs=True):
            for network in fakes.all():
                network.to_empty(device=device)
            small, twice = (saved_bytes(config, fakes, batch, True, device) for batch in (n, 2 * n))
    else:
        small, twice = (saved_bytes(config, made, batch, False, "meta") for batch in (n, 2 * n))
    lines = tuple((2 * a - b, (b - a) / n) for a, b in zip(small, twice, strict=True))
    return Memory(fixed_bytes(made), lines)


def fixed_bytes(made: Networks) -> int:
    """Bytes that do not depend on the batch: float32 weights and buffers of all networks and of the EMA of G;
    gradients and Adam's two moments of what trains."""
    tensors = [t for network in (*made.all(), made.generator) for t in chain(network.parameters(), network.buffers())]
    return sum(t.nbytes for t in tensors) + 3 * 4 * sum(count(network, trainable=True) for network in made.all())


class Saved(saved_tensors_hooks):
    """While it is entered, adds up the bytes that autograd saves, each storage once.

    Args:
        others: storages, by address, that count elsewhere.
    """

    def __init__(self, others: Collection[int]) -> None:
        self.others, self.storages = others, {}
        super().__init__(self._pack, lambda tensor: tensor)

    def __enter__(self) -> "Saved":
        super().__enter__()
        return self

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.others:
            self.storages[storage._cdata] = storage  # kept, or its address could be that of another one later
        return tensor

    @property
    def bytes(self) -> int:
        """So far."""
        return sum(storage.nbytes() for storage in self.storages.values())


@contextmanager
def _autocast(device: str, bf16: bool) -> Iterator[None]:
    """`torch.autocast`, which refuses to work for a GPU where there is none."""
    if not bf16:
        yield
        return
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])
        torch.clear_autocast_cache()


def saved_bytes(config: Config, made: Networks, batch: int, bf16: bool, device: str) -> tuple[int, int]:
    """Forward passes of one step, as `dpsims.trainer.Trainer.step` does them, on networks that hold real or fake
    tensors; returns the bytes saved before D's backward pass, and before G's, both with `batch` images at once."""
    d, n = made.discriminator, config.train.noises_per_map
    size = (config.data.height, config.data.width)
    labels = torch.ones(batch, *size, dtype=torch.long, device=device)
    real = torch.zeros(batch, 3, *size, device=device)
    noise = torch.zeros(batch, made.generator.noise_tokens, made.generator.noise_dim, device=device)
    own = {t.untyped_storage()._cdata for network in made.all() for t in chain(network.parameters(), network.buffers())}
    with Saved(own) as both:
        with _autocast(device, bf16):
            fake, features = made.generator(labels[::n], noise)
            raw = d.features(fake) if d.frozen else None
    with Saved(own | both.storages.keys()) as for_d:
        _discriminator_pass(config, d, real, labels, fake.detach(), raw, bf16)
    with Saved(own | both.storages.keys()) as for_g:
        _generator_pass(config, made, real, labels, fake, features, noise, raw, bf16)
    alone = config.train.accumulate == 1  # else D's step sees generated images without a graph
    return both.bytes * alone + for_d.bytes, both.bytes + for_g.bytes


def _discriminator_pass(
    config: Config, d: Any, real: Tensor, labels: Tensor, fake: Tensor, raw: list[Tensor] | None, bf16: bool
) -> Tensor:
    """As far as L_D."""
    device, gamma = real.device.type, config.loss.focal_gamma
    with _autocast(device, bf16):
        if raw is None:
            levels = d.features(torch.cat([real, fake]))
        else:
            levels = [torch.cat([r, f.detach()]) for r, f in zip(d.features(real), raw, strict=True)]
        logits = d.decode(d.conditioning(levels, partial(torch.zeros, device=device)), real.shape[-2:])
    logits_real, logits_fake = exact(logits).chunk(2)
    alpha = torch.ones(config.data.num_classes + 1, device=device)
    loss = losses.focal_gan_loss(logits_real, labels, alpha, gamma) + losses.focal_gan_loss(
        logits_fake, None, None, gamma
    )
    if config.loss.lambda_labelmix:
        some = slice(None, None, config.train.noises_per_map)
        mask = losses.labelmix_mask(labels[some], alpha)
        with _autocast(device, bf16):
            mixed = d(mask * real[some] + (1 - mask) * fake[some])
        loss = loss + losses.labelmix_loss(mixed, logits_real[some], logits_fake[some], mask)
    return loss


def _generator_pass(
    config: Config, made: Networks, real: Tensor, labels: Tensor, fake: Tensor, features: Tensor, noise: Tensor,
    raw: list[Tensor] | None, bf16: bool,
) -> Tensor:  # fmt: skip
    """As far as L_G."""
    d, n, device = made.discriminator, config.train.noises_per_map, real.device.type
    trainable = d.trainable_parameters()
    d.requires_grad_(False).eval()
    with _autocast(device, bf16):
        raw = d.features(fake) if raw is None else raw
        logits = exact(d.decode(d.conditioning(raw, partial(torch.zeros, device=device)), fake.shape[-2:]))
    d.train()
    for parameter in trainable:
        parameter.requires_grad_(True)
    alpha = torch.ones(config.data.num_classes + 1, device=device)
    loss = losses.focal_gan_loss(logits, labels, alpha, config.loss.focal_gamma)
    if made.patch_head is not None:
        places = torch.zeros(len(real), LEVELS, config.loss.contrastive_patches, device=device)
        with _autocast(device, bf16):
            pairs = list(zip(made.patch_head(fake, places), made.patch_head(real, places), strict=True))
        loss = loss + sum(losses.patch_contrastive_loss(f, r) for f, r in pairs)
    if config.loss.lambda_diversity:
        x = fake * 0.5 if config.loss.diversity_on == "image" else losses.rms_normalise(features)
        x, z = (v.unflatten(0, (-1, n)) for v in (x, noise))
        i, j = torch.triu_indices(n, n, offset=1, device=device)
        pairs = (v[:, k].flatten(0, 1) for v in (x, z) for k in (i, j))
        loss = loss + losses.diversity_loss(*pairs, threshold=config.loss.diversity_threshold)
    return loss
