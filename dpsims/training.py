"""The training algorithm of DP-SIMS, to be read in one sitting: `fit` runs it, `Trainer.step` is it.

arXiv 2312.13314, Secs. 3 and 4; the standing of every choice is in `dpsims.config`. One step:

1. draw real images x with label maps t, and noise z; generate G(t, z), several z for one t;
2. D step: real pixels are to get their class, generated ones "fake";
3. G step: generated pixels are to get their class; generated and real patches are to agree; different z are to differ;
4. the feature noise follows how far D is ahead; the EMA of G follows G.

B batch, H and W height and width, K classes, N noise tokens, d their width.
"""

import copy
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from tqdm.auto import tqdm

from dpsims import checkpoint, draws, losses
from dpsims.config import Config
from dpsims.data.guard import stop_signals
from dpsims.data.loader import Batch, ReadAhead, TrainingBatches, in_order, prepared_data
from dpsims.data.prepared import PreparedData
from dpsims.models.patch_head import LEVELS, PatchHead
from dpsims.optimisation import gradient_norm, keep_freed_memory, learning_rate_factor, update_ema
from dpsims.precision import exact
from dpsims.processes import Processes
from dpsims.run_folder import KEEP, RunFolder
from dpsims.starting import start_from
from dpsims.synthesis import build_discriminator, build_generator
from dpsims.watch import DeadRun, is_dead, stop_if_hopeless

__all__ = ["DeadRun", "FitResult", "Trainer", "fit"]


@dataclass(frozen=True)
class FitResult:
    """Where a training stands: `finished` is False after Ctrl-C or SIGTERM, which save and stop."""

    out: Path
    step: int
    finished: bool


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
        self.processes.check_batch(config.train.batch_size, config.train.noises_per_map)
        self.config, self.device, self.dtype = config, self.accelerator.device, dtype
        self.data, self.t = data, config.train
        split, pixels = data.pairs("train"), data.index["splits"]["train"]["class_pixels"]
        self.size = (config.data.height, config.data.width)
        self.batches = TrainingBatches(
            split, pixels, self.t.batch_size, self.t.seed, config.data.rare_class_sampling, config.data.flip, self.size
        )
        self.read = ReadAhead(partial(self.batches, rank=self.processes.rank, world=self.processes.number))
        torch.manual_seed(self.t.seed)  # initial weights
        self.generator = self._place(self.processes.synchronised(build_generator(config, folded=False)))
        self.discriminator = self._place(build_discriminator(config))
        self.patch_head = None
        if config.loss.lambda_contrastive:
            self.patch_head = self._place(PatchHead(config.loss.contrastive_backbone))
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.weights = None  # of the classes; each batch has its own where they are OASIS's
        if config.loss.class_weights != "batch":
            self.weights = losses.class_weights(pixels, config.loss.class_weights).to(self.device)
        self.g_parameters = list(self.generator.parameters())
        heads = [p for p in self.patch_head.parameters() if p.requires_grad] if self.patch_head else []
        self.d_parameters = self.discriminator.trainable_parameters()
        self.g_optimiser = torch.optim.Adam(
            self.g_parameters + heads, lr=self.t.lr_generator, betas=self.t.betas, fused=True
        )
        self.d_optimiser = torch.optim.Adam(
            self.d_parameters, lr=self.t.lr_discriminator, betas=self.t.betas, fused=True
        )
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
            measure: also the gradient norm of every term of G's loss and the saturation of every level.
        """
        factor = learning_rate_factor(step, self.t.steps, self.t.warmup_steps, self.t.decay_from)
        self.g_optimiser.param_groups[0]["lr"] = factor * self.t.lr_generator
        self.d_optimiser.param_groups[0]["lr"] = factor * self.t.lr_discriminator
        batch = self.read(step)
        real, labels = batch.images.to(self.device, self.dtype), batch.labels.to(self.device)
        # a batch of fakes shows fewer maps, each under several noises: the diversity constraint compares them
        shown = labels[:: self.t.noises_per_map]
        maps = shown.repeat_interleave(self.t.noises_per_map, dim=0)
        shape = (self.generator.noise_tokens, self.generator.noise_dim)
        noise = draws.normal(self.t.seed, step, batch.samples, draws.NOISE, shape).to(real)
        with self.accelerator.autocast():
            fake, features = self.generator(shown, noise)
            # a frozen encoder sees the fakes once: D learns from these features, G through them
            raw = self.discriminator.features(fake) if self.discriminator.frozen else None
        log = {"lr_generator": self.g_optimiser.param_groups[0]["lr"]}
        log |= self._discriminator_step(step, batch, real, labels, fake.detach(), maps, raw)
        log |= self._generator_step(step, batch, real, fake, features, maps, noise, measure, raw)
        self.dead = torch.where(is_dead(log), self.dead + 1, 0)
        update_ema(self.ema, self.generator, min(self.t.ema_decay, (1 + step) / (10 + step)))
        return log

    def _discriminator_step(
        self, step: int, batch: Batch, real: Tensor, labels: Tensor, fake: Tensor, maps: Tensor,
        raw: list[Tensor] | None,
    ) -> dict[str, Any]:  # fmt: skip
        """L_D: classes on real pixels, "fake" on generated ones; then the noise level follows the gap between them."""
        draw = draws.RealAndFake(
            self._noise(step, batch, draws.FEATURES_REAL), self._noise(step, batch, draws.FEATURES_FAKE)
        )
        with self.accelerator.autocast():
            if raw is None:
                levels = self.discriminator.features(torch.cat([real, fake]))
            else:
                pairs = zip(self.discriminator.features(real), raw, strict=True)
                levels = [torch.cat([r, f.detach()]) for r, f in pairs]
            conditioned = self.discriminator.conditioning(levels, draw)
            logits = self.discriminator.decode(conditioned, real.shape[-2:])
        logits_real, logits_fake = exact(logits).chunk(2)
        count = self._count(labels)
        gamma = self.config.loss.focal_gamma
        loss_real = losses.focal_gan_loss(logits_real, labels, self._alpha(labels), gamma, count)
        loss_fake = losses.focal_gan_loss(logits_fake, None, None, gamma)
        total = loss_real + loss_fake
        if self.config.loss.lambda_labelmix:
            mix = self._labelmix(step, real, labels, fake, logits_real, logits_fake)
            total = total + self.config.loss.lambda_labelmix * mix
        self.d_optimiser.zero_grad(set_to_none=True)
        self.accelerator.backward(total)
        self.processes.average_gradients(self.d_parameters)
        norm = self.accelerator.clip_grad_norm_(self.d_parameters, self.t.clip_norm)
        self.d_optimiser.step()
        with torch.no_grad():
            behind = losses.class_cross_entropy(logits_fake, maps, self._count(maps))
            gap = behind - losses.class_cross_entropy(logits_real, labels, count)
            found = (logits_fake.argmax(1) == self.discriminator.num_classes).to(gap).mean()
            gap, found = self.processes.mean(torch.stack([gap, found])).unbind()
            self.discriminator.conditioning.update_noise(gap)
        return {
            "loss_d_real": loss_real.detach(),
            "loss_d_fake": loss_fake.detach(),
            "grad_discriminator": norm.detach(),
            "fakes_found": found,
            "gap": gap,
            "sigma": self.discriminator.conditioning.sigma.clone(),
        }

    def _alpha(self, labels: Tensor) -> Tensor:
        """alpha, (K+1,)."""
        if self.weights is not None:
            return self.weights
        counts = losses.class_counts(labels, self.config.data.num_classes)
        return losses.batch_class_weights(self.processes.sum(counts))

    def _count(self, labels: Tensor) -> Tensor | None:
        """Non-void pixels of all processes' label maps, as a mean over them: so the mean over processes of a loss is
        that of the whole batch."""
        return None if self.processes.number == 1 else self.processes.mean((labels > 0).sum().to(self.dtype))

    def _labelmix(
        self, step: int, real: Tensor, labels: Tensor, fake: Tensor, logits_real: Tensor, logits_fake: Tensor
    ) -> Tensor:
        """OASIS's LabelMix between real images and the generated ones of the same label maps."""
        some = slice(None, None, self.t.noises_per_map)
        coins = draws.uniform(self.t.seed, step, range(1), draws.LABELMIX, (self.config.data.num_classes + 1,))[0]
        mask = losses.labelmix_mask(labels[some], coins)
        with self.accelerator.autocast():
            mixed = self.discriminator(mask * real[some] + (1 - mask) * fake[some])
        return losses.labelmix_loss(mixed, logits_real[some], logits_fake[some], mask)

    def _generator_step(
        self, step: int, batch: Batch, real: Tensor, fake: Tensor, features: Tensor, maps: Tensor, noise: Tensor,
        measure: bool, raw: list[Tensor] | None,
    ) -> dict[str, Any]:  # fmt: skip
        """L_G = L_pix + lambda_C L_NCE + lambda_D L_div."""
        self.discriminator.requires_grad_(False).eval()  # no gradient in D, no power iteration either
        with self.accelerator.autocast():
            raw = self.discriminator.features(fake) if raw is None else raw
            conditioned = self.discriminator.conditioning(raw, self._noise(step, batch, draws.FEATURES_G))
            logits = exact(self.discriminator.decode(conditioned, fake.shape[-2:]))
        self.discriminator.train()
        for parameter in self.d_parameters:
            parameter.requires_grad_(True)
        gamma = self.config.loss.focal_gamma
        terms = {"pixel": losses.focal_gan_loss(logits, maps, self._alpha(maps), gamma, self._count(maps))}
        if self.config.loss.lambda_contrastive:
            terms["contrastive"] = self.config.loss.lambda_contrastive * self._contrastive(step, batch, real, fake)
        if self.config.loss.lambda_diversity:
            terms["diversity"] = self.config.loss.lambda_diversity * self._diversity(step, fake, features, noise)
        log: dict[str, Any] = {f"loss_g_{name}": term.detach() for name, term in terms.items()}
        if measure:
            log |= {f"grad_{name}": gradient_norm(term, self.g_parameters) for name, term in terms.items()}
            levels = self.discriminator.conditioning.levels  # OASIS's has none
            for stride, level, feature in zip(self.discriminator.strides, levels, raw, strict=True) if levels else ():
                log[f"saturated_{stride}"] = level.saturation(feature.detach().float())
        self.g_optimiser.zero_grad(set_to_none=True)
        self.accelerator.backward(sum(terms.values()))
        self.processes.average_gradients(self.g_optimiser.param_groups[0]["params"])
        log["grad_generator"] = self.accelerator.clip_grad_norm_(self.g_parameters, self.t.clip_norm).detach()
        self.g_optimiser.step()
        return log

    def _noise(self, step: int, batch: Batch, purpose: int) -> draws.FeatureNoise:
        return draws.FeatureNoise(self.t.seed, step, batch.samples, purpose, self.device)

    def _contrastive(self, step: int, batch: Batch, real: Tensor, fake: Tensor) -> Tensor:
        """Mean over the levels of the InfoNCE loss at random places, the same in the generated and the real image."""
        shape = (LEVELS, self.config.loss.contrastive_patches)
        places = draws.uniform(self.t.seed, step, batch.samples, draws.PLACES, shape).to(self.device)
        per_map = self.t.noises_per_map
        target = real[::per_map].repeat_interleave(per_map, dim=0)
        with self.accelerator.autocast():
            pairs = list(zip(self.patch_head(fake, places), self.patch_head(target, places), strict=True))
        tau = self.config.loss.contrastive_temperature
        return sum(losses.patch_contrastive_loss(f, r, tau) for f, r in pairs) / len(pairs)

    def _diversity(self, step: int, fake: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """The diversity constraint between all pairs of noises of each map."""
        loss, late = self.config.loss, step >= self.t.decay_from * self.t.steps
        on_image = loss.diversity_on == "image"
        x = fake * 0.5 if on_image else losses.rms_normalise(features, self.processes.mean)  # images in units of [0, 1]
        x, z = (v.unflatten(0, (-1, self.t.noises_per_map)) for v in (x, noise))  # (maps, noises, ...)
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


def fit(config: Config, out: str | Path, resume: bool = False, progress: bool = True, keep: int = KEEP) -> FitResult:
    """Trains a DP-SIMS.

    Args:
        config: what to train; see `dpsims.config.preset`.
        out: run folder; see `dpsims.checkpoint` for what is in it.
        resume: go on from the newest checkpoint in `out`, exactly as if nothing had happened; starts afresh where there
            is none. Without it a folder that holds a run is refused.
        progress: show a bar with the time left.
        keep: checkpoints kept, the newest ones.

    Returns:
        Where the training stands; after Ctrl-C or SIGTERM it is saved but not finished.

    Raises:
        InputError: bad data or folder, or a run of another configuration there.
        DeadRun: the generator can no longer learn; the message says what to change.
    """
    data = prepared_data(config)
    trainer = Trainer(config, data)  # first: what is wrong with the configuration shows before a folder is made
    processes, progress = trainer.processes, progress and trainer.processes.main
    with trainer.accelerator.main_process_first():
        run = RunFolder(Path(out), config, resume, processes.main)
        done, seconds, cpu_seconds = run.restore(trainer)
    if done == 0:
        trainer.begin(progress)
    t, begin = config.train, time.monotonic() - seconds
    bar = tqdm(total=t.steps, initial=done, desc=f"training {run.out.name}", unit="step", disable=not progress)
    with stop_signals() as asked_to_stop, bar:
        for step in range(done, t.steps):
            before = time.process_time()
            log = trainer.step(step, measure=step % t.grad_norm_every == 0)
            cpu_seconds += time.process_time() - before
            done = step + 1
            stop = processes.any(asked_to_stop.is_set())
            save = done % t.checkpoint_every == 0 or done == t.steps or stop
            if step % t.log_every == 0 or save:
                row = processes.average(log) | {"cpu_seconds": cpu_seconds}
                if step % t.log_every == 0:
                    run.log(step, row)
                bar.set_postfix_str(f"D finds {row['fakes_found']:.0%} of fakes, gradient {row['grad_generator']:.2g}")
                stop_if_hopeless(
                    run.out, step, row, int(trainer.dead), t.dead_after
                )  # before weights that are no numbers push out good ones
            bar.update()
            if done % t.sample_every == 0 or done == t.steps:  # before the checkpoint: a kill in between draws it again
                run.sample(trainer.ema, data, done)
            if save:
                run.save(trainer, done, time.monotonic() - begin, cpu_seconds, keep)
            if stop and processes.main:
                print(f"Saved at step {done} of {t.steps}. To go on: dpsims train --resume with the same settings.")
            if stop:
                break
    return FitResult(run.out, done, done == t.steps)
