"""One step of the training of DP-SIMS, to be read in one sitting; `dpsims.training.fit` repeats it.

arXiv 2312.13314, Secs. 3 and 4; the standing of every choice is in `dpsims.config`. `Trainer.step`:

1. draw real images x with label maps t, and noise z; generate G(t, z), several z for one t;
2. D step: real pixels are to get their class, generated ones "fake";
3. G step: generated pixels are to get their class; generated and real patches are to agree; different z are to differ;
4. the feature noise follows how far D is ahead; the EMA of G follows G.

A batch that does not fit into memory is worked on in pieces (`train.accumulate`), whose mean gradient is that of the
batch; several processes share it in the same way (`dpsims.processes`).

B batch, H and W height and width, K classes, N noise tokens, d their width.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from tqdm.auto import tqdm

from dpsims import checkpoint, draws, losses
from dpsims.config import Config
from dpsims.data.loader import ReadAhead, TrainingBatches, in_order
from dpsims.data.prepared import PreparedData
from dpsims.models.patch_head import LEVELS, PatchHead
from dpsims.optimisation import gradient_norm, keep_freed_memory, learning_rate_factor, one_iteration, update_ema
from dpsims.precision import exact
from dpsims.processes import Processes
from dpsims.starting import start_from
from dpsims.synthesis import build_discriminator, build_generator
from dpsims.watch import is_dead


@dataclass
class Piece:
    """What is worked on at once: the batch, or a part of it, of b images and b / n label maps, n noises for each."""

    step: int
    samples: range  # global numbers, from which all random draws follow
    real: Tensor  # (b, 3, H, W)
    labels: Tensor  # (b, H, W), of the real images
    shown: Tensor  # (b / n, H, W): fewer maps for the generator, each under several noises, which L_div compares
    maps: Tensor  # (b, H, W): each of `shown` n times
    noise: Tensor  # (b, N, d)
    fake: Tensor | None = None  # (b, 3, H, W)
    features: Tensor | None = None  # of G before its RGB layer
    raw: list[Tensor] | None = None  # what a frozen encoder sees in the fakes


@dataclass(frozen=True)
class Weights:
    """Of the classes and pixels of a set of label maps, over the whole batch: all pieces, all processes."""

    alpha: Tensor  # (K+1,)
    count: Tensor  # non-void pixels of a piece, on average: the mean over pieces of a loss is that of the batch


class Trainer:
    """Networks, optimisers and one step of the training.

    Args:
        config: what to train.
        data: prepared data; its label space must have the configuration's classes.
        dtype: of weights and images; float64, without autocast, is for checks.
    """

    def __init__(self, config: Config, data: PreparedData, dtype: torch.dtype = torch.float32) -> None:
        keep_freed_memory()
        AcceleratorState._reset_state()  # else a second training in one notebook kernel could not change its precision
        self.accelerator = Accelerator(mixed_precision="bf16" if config.train.bf16 else "no")
        self.processes = Processes(self.accelerator)
        self.processes.check_batch(config.train.batch_size, config.train.noises_per_map, config.train.accumulate)
        self.config, self.device, self.dtype = config, self.accelerator.device, dtype
        self.data, self.t = data, config.train
        split, pixels = data.pairs("train"), data.index["splits"]["train"]["class_pixels"]
        self.size = (config.data.height, config.data.width)
        self.batches = TrainingBatches(
            split, pixels, self.t.batch_size, self.t.seed, config.data.rare_class_sampling, config.data.flip, self.size
        )
        self.alpha = None  # of the classes; each batch has its own where they are OASIS's
        if config.loss.class_weights != "batch":
            self.alpha = losses.class_weights(pixels, config.loss.class_weights).to(self.device)
        self.read = ReadAhead(partial(self.batches, rank=self.processes.rank, world=self.processes.number))
        torch.manual_seed(self.t.seed)  # initial weights
        self.generator = self._place(self.processes.synchronised(build_generator(config, folded=False)))
        self.discriminator = self._place(self.processes.synchronised(build_discriminator(config)))
        self.patch_head = None
        if config.loss.lambda_contrastive:
            self.patch_head = self._place(PatchHead(config.loss.contrastive_backbone))
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.g_parameters = list(self.generator.parameters())
        heads = [p for p in self.patch_head.parameters() if p.requires_grad] if self.patch_head else []
        self.d_parameters = self.discriminator.trainable_parameters()
        adam = partial(torch.optim.Adam, betas=self.t.betas, fused=True)
        self.g_optimiser = adam(self.g_parameters + heads, lr=self.t.lr_generator)
        self.d_optimiser = adam(self.d_parameters, lr=self.t.lr_discriminator)
        self.dead = torch.zeros((), dtype=torch.long, device=self.device)  # steps in a row without life
        self.started_from: dict[str, Any] = {}  # facts of the model that this one started from

    def _place(self, module: nn.Module) -> Any:
        return module.to(self.device, self.dtype, memory_format=torch.channels_last)

    def begin(self, progress: bool = True) -> None:
        """What comes before step 0: the weights of a trained model where one is given, and the statistics."""
        if self.t.start_from:
            self.started_from = start_from(self.t.start_from, self.generator, self.discriminator)
            self.ema.load_state_dict(self.generator.state_dict())
        self.fit_conditioning(progress)

    @torch.no_grad()
    def fit_conditioning(self, progress: bool = True) -> None:
        """The constant statistics of feature conditioning, from the first real images (default), before step 0."""
        count = min(self.config.discriminator.statistics_images, len(self.batches.split.images))

        def features() -> Any:
            images = in_order(self.batches.split, count, self.size)
            mine = islice(images, self.processes.rank, None, self.processes.number)
            total = -(-count // 32) // self.processes.number
            for batch in tqdm(mine, "conditioning statistics", total=total, disable=not progress, leave=False):
                yield self.discriminator.features(batch.to(self.device, self.dtype))

        self.discriminator.conditioning.fit(features, self.processes.sum)

    def step(self, step: int, measure: bool = False) -> dict[str, Any]:
        """One D step and one G step; returns every term as a detached tensor or number.

        Args:
            step: its number, from 0; all randomness follows from it and the seed.
            measure: also the gradient norm of every term of G's loss and the saturation of every level, in the first
                piece of the batch.
        """
        factor = learning_rate_factor(step, self.t.steps, self.t.warmup_steps, self.t.decay_from)
        self.g_optimiser.param_groups[0]["lr"] = factor * self.t.lr_generator
        self.d_optimiser.param_groups[0]["lr"] = factor * self.t.lr_discriminator
        pieces = self._pieces(step)
        log = {"lr_generator": self.g_optimiser.param_groups[0]["lr"]}
        of_maps = self._weights([piece.maps for piece in pieces])
        log |= self._discriminator_step(pieces, of_maps)
        log |= self._generator_step(pieces, of_maps, measure)
        self.dead = torch.where(is_dead(log), self.dead + 1, 0)
        update_ema(self.ema, self.generator, min(self.t.ema_decay, (1 + step) / (10 + step)))
        return log

    def _pieces(self, step: int) -> list[Piece]:
        """This process's share of a step's batch, in as many pieces as `train.accumulate` says."""
        batch, noises = self.read(step), self.t.noises_per_map
        real, labels = batch.images.to(self.device, self.dtype), batch.labels.to(self.device)
        shape = (self.generator.noise_tokens, self.generator.noise_dim)
        noise = draws.normal(self.t.seed, step, batch.samples, draws.NOISE, shape).to(real)
        size, pieces = len(real) // self.t.accumulate, []
        for start in range(0, len(real), size):
            some = slice(start, start + size)
            shown = labels[some][::noises]
            maps = shown.repeat_interleave(noises, dim=0)
            pieces.append(Piece(step, batch.samples[some], real[some], labels[some], shown, maps, noise[some]))
        return pieces

    def _weights(self, labels: list[Tensor]) -> Weights:
        """Of the label maps (b, H, W) of all pieces."""
        count = self.processes.mean(torch.stack([(some > 0).sum() for some in labels]).to(self.dtype).mean())
        if self.alpha is not None:
            return Weights(self.alpha, count)
        counts = sum(losses.class_counts(some, self.config.data.num_classes) for some in labels)
        return Weights(losses.batch_class_weights(self.processes.sum(counts)), count)

    def _each(self, pieces: list[Piece], with_graph: bool) -> Iterator[Piece]:
        """The pieces, one after another, with their generated images.

        With several pieces, D's step sees images without a graph and G's step draws them again with one, so that one
        graph at a time is in memory. Spectral norms take one iteration a step, whatever the number of pieces.
        """
        alone = len(pieces) == 1
        for number, piece in enumerate(pieces):
            networks = (self.generator, self.discriminator)
            with one_iteration(networks, first=number == 0 and (alone or not with_graph)):
                if piece.fake is None:
                    with self.accelerator.autocast(), torch.set_grad_enabled(with_graph or alone):
                        piece.fake, piece.features = self.generator(piece.shown, piece.noise)
                        # a frozen encoder sees the fakes once: D learns from these features, G through them
                        piece.raw = self.discriminator.features(piece.fake) if self.discriminator.frozen else None
                yield piece
            if not alone or with_graph:
                piece.fake = piece.features = piece.raw = None

    def _discriminator_step(self, pieces: list[Piece], of_maps: Weights) -> dict[str, Any]:
        """L_D: classes on real pixels, "fake" on generated ones; then the noise level follows the gap between them."""
        of_real = self._weights([piece.labels for piece in pieces])
        self.d_optimiser.zero_grad(set_to_none=True)
        logs = []
        for piece in self._each(pieces, with_graph=False):
            logits_real, logits_fake = self._judged(piece)
            gamma = self.config.loss.focal_gamma
            real = losses.focal_gan_loss(logits_real, piece.labels, of_real.alpha, gamma, of_real.count)
            fake = losses.focal_gan_loss(logits_fake, None, None, gamma)
            total = real + fake
            if self.config.loss.lambda_labelmix:
                total = total + self.config.loss.lambda_labelmix * self._labelmix(piece, logits_real, logits_fake)
            self.accelerator.backward(total / len(pieces))
            with torch.no_grad():
                gap = losses.class_cross_entropy(logits_fake, piece.maps, of_maps.count)
                gap = gap - losses.class_cross_entropy(logits_real, piece.labels, of_real.count)
                found = (logits_fake.argmax(1) == self.discriminator.num_classes).to(gap).mean()
            logs.append({"loss_d_real": real.detach(), "loss_d_fake": fake.detach(), "fakes_found": found, "gap": gap})
        log = _mean(logs)
        self.processes.average_gradients(self.d_parameters)
        norm = self.accelerator.clip_grad_norm_(self.d_parameters, self.t.clip_norm)
        self.d_optimiser.step()
        log["gap"], log["fakes_found"] = self.processes.mean(torch.stack([log["gap"], log["fakes_found"]])).unbind()
        self.discriminator.conditioning.update_noise(log["gap"])
        return log | {"grad_discriminator": norm.detach(), "sigma": self.discriminator.conditioning.sigma.clone()}

    def _judged(self, piece: Piece) -> tuple[Tensor, Tensor]:
        """D's logits (b, K+1, H, W) for the real images and for the generated ones, which it sees as given."""
        draw = draws.RealAndFake(self._noise(piece, draws.FEATURES_REAL), self._noise(piece, draws.FEATURES_FAKE))
        with self.accelerator.autocast():
            if piece.raw is None:
                levels = self.discriminator.features(torch.cat([piece.real, piece.fake.detach()]))
            else:
                pairs = zip(self.discriminator.features(piece.real), piece.raw, strict=True)
                levels = [torch.cat([r, f.detach()]) for r, f in pairs]
            conditioned = self.discriminator.conditioning(levels, draw)
            logits = self.discriminator.decode(conditioned, self.size)
        return exact(logits).chunk(2)

    def _labelmix(self, piece: Piece, logits_real: Tensor, logits_fake: Tensor) -> Tensor:
        """OASIS's LabelMix between real images and the generated ones of the same label maps."""
        some = slice(None, None, self.t.noises_per_map)
        shape = (self.config.data.num_classes + 1,)
        coins = draws.uniform(self.t.seed, piece.step, range(1), draws.LABELMIX, shape)[0]
        mask = losses.labelmix_mask(piece.shown, coins)
        with self.accelerator.autocast():
            mixed = self.discriminator(mask * piece.real[some] + (1 - mask) * piece.fake.detach()[some])
        return losses.labelmix_loss(mixed, logits_real[some], logits_fake[some], mask)

    def _generator_step(self, pieces: list[Piece], of_maps: Weights, measure: bool) -> dict[str, Any]:
        """L_G = L_pix + lambda_C L_NCE + lambda_D L_div."""
        self.g_optimiser.zero_grad(set_to_none=True)
        logs: list[dict[str, Any]] = []
        measured: dict[str, Any] = {}
        for piece in self._each(pieces, with_graph=True):
            terms, raw = self._generator_terms(piece, of_maps)
            logs.append({f"loss_g_{name}": term.detach() for name, term in terms.items()})
            if measure and not measured:
                measured = self._measured(terms, raw)
            self.accelerator.backward(sum(terms.values()) / len(pieces))
        self.processes.average_gradients(self.g_optimiser.param_groups[0]["params"])
        norm = self.accelerator.clip_grad_norm_(self.g_parameters, self.t.clip_norm).detach()
        self.g_optimiser.step()
        return _mean(logs) | measured | {"grad_generator": norm}

    def _generator_terms(self, piece: Piece, weights: Weights) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The terms of L_G, weighted, and the raw features of D's encoder that they came through."""
        loss = self.config.loss
        self.discriminator.requires_grad_(False).eval()  # no gradient in D, no power iteration either
        with self.accelerator.autocast():
            raw = self.discriminator.features(piece.fake) if piece.raw is None else piece.raw
            conditioned = self.discriminator.conditioning(raw, self._noise(piece, draws.FEATURES_G))
            logits = exact(self.discriminator.decode(conditioned, self.size))
        self.discriminator.train()
        for parameter in self.d_parameters:
            parameter.requires_grad_(True)
        pixel = losses.focal_gan_loss(logits, piece.maps, weights.alpha, loss.focal_gamma, weights.count)
        terms = {"pixel": pixel}
        if loss.lambda_contrastive:
            terms["contrastive"] = loss.lambda_contrastive * self._contrastive(piece)
        if loss.lambda_diversity:
            terms["diversity"] = loss.lambda_diversity * self._diversity(piece)
        return terms, raw

    def _measured(self, terms: dict[str, Tensor], raw: list[Tensor]) -> dict[str, Any]:
        """Gradient norms by term, and the saturated share of every level of feature conditioning."""
        log: dict[str, Any] = {f"grad_{name}": gradient_norm(term, self.g_parameters) for name, term in terms.items()}
        levels = self.discriminator.conditioning.levels  # OASIS's has none
        for stride, level, feature in zip(self.discriminator.strides, levels, raw, strict=True) if levels else ():
            log[f"saturated_{stride}"] = level.saturation(feature.detach().float())
        return log

    def _noise(self, piece: Piece, purpose: int) -> draws.FeatureNoise:
        return draws.FeatureNoise(self.t.seed, piece.step, piece.samples, purpose, self.device)

    def _contrastive(self, piece: Piece) -> Tensor:
        """Mean over the levels of the InfoNCE loss at random places, the same in the generated and the real image."""
        shape = (LEVELS, self.config.loss.contrastive_patches)
        places = draws.uniform(self.t.seed, piece.step, piece.samples, draws.PLACES, shape).to(self.device)
        per_map = self.t.noises_per_map
        target = piece.real[::per_map].repeat_interleave(per_map, dim=0)
        with self.accelerator.autocast():
            pairs = list(zip(self.patch_head(piece.fake, places), self.patch_head(target, places), strict=True))
        tau = self.config.loss.contrastive_temperature
        return sum(losses.patch_contrastive_loss(f, r, tau) for f, r in pairs) / len(pairs)

    def _diversity(self, piece: Piece) -> Tensor:
        """The diversity constraint between all pairs of noises of each map."""
        loss, late = self.config.loss, piece.step >= self.t.decay_from * self.t.steps
        x = piece.fake * 0.5  # images in units of [0, 1]
        if loss.diversity_on == "features":
            x = losses.rms_normalise(piece.features, self.processes.mean)
        x, z = (v.unflatten(0, (-1, self.t.noises_per_map)) for v in (x, piece.noise))  # (maps, noises, ...)
        i, j = torch.triu_indices(x.shape[1], x.shape[1], offset=1)
        pairs = (v[:, k].flatten(0, 1) for v in (x, z) for k in (i, j))
        return losses.diversity_loss(*pairs, loss.diversity_threshold_late if late else loss.diversity_threshold)

    def state(self) -> dict[str, Any]:
        """What a resumed training needs beside the weights of G, its EMA and D: plain tensors, lists and numbers."""
        return {
            "g_optimiser": self.g_optimiser.state_dict(),
            "d_optimiser": self.d_optimiser.state_dict(),
            "patch_head": checkpoint.without_backbone(self.patch_head) if self.patch_head else {},
            "dead": self.dead,
            "started_from": self.started_from,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """The reverse of `state`."""
        self.g_optimiser.load_state_dict(state["g_optimiser"])
        self.d_optimiser.load_state_dict(state["d_optimiser"])
        if self.patch_head:
            missing, unknown = self.patch_head.load_state_dict(state["patch_head"], strict=False)
            if unknown or any(not key.startswith("backbone.") for key in missing):
                raise KeyError(*unknown, *missing)
        self.dead = state["dead"].to(self.device)
        self.started_from = state.get("started_from", {})


def _mean(logs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of every term over the pieces, which all have the same ones."""
    return {name: torch.stack([log[name] for log in logs]).mean() for name in logs[0]}
