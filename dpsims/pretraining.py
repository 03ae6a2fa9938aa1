"""Makes the small backbone that is shipped with the project (`dpsims pretrain`), so that it runs without any download.

A slim ResNet learns to name textures and lights in the texture world (`data.texture_world`), a procedural distribution
that shares no class, colour rule or drawing code with the Scenes data set. It plays the part that ImageNet pre-training
plays in the paper, at a size that trains in minutes on one core. Standing: a default of this project; the paper's
backbones are ImageNet models.

Texture classes and the mean colour of a cell are asked for at every level the discriminator reads (strides 4, 8, 16,
32), each through one 1x1 convolution, so that every level is informative by itself; the light is asked for from pooled
stride 32. The heads are thrown away. Colour is asked for because the colours of a texture are random here: without it
the network learns to look past them, which ImageNet's classes never taught, and a discriminator that is blind to colour
lets grass turn red (seen in a trial).

Files: `weights.safetensors` (float16) has the keys of `timm.create_model("resnet10t", channels=(32, 64, 128, 256),
num_classes=0)`. timm keeps these names in the `features_only=True` model of this family, so the same file loads there
with `strict=True`.

Shapes: B batch, H x W image, K = 24 texture classes, l a level of stride s_l.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from dpsims import checkpoint
from dpsims.checks import as_device, as_seeds, check_pool
from dpsims.data.texture_world import LIGHTS, TextureBatch, render
from dpsims.data.textures import TEXTURES
from dpsims.data.workers import in_order
from dpsims.errors import InputError
from dpsims.files import make_folder
from dpsims.images import channels_first, from_bytes

ARCHITECTURE, CHANNELS = "resnet10t", (32, 64, 128, 256)
STRIDES = (4, 8, 16, 32)
PEAK_RATE, WEIGHT_DECAY, WARM_UP = 2e-3, 0.05, 0.05  # AdamW; the last is a share of the steps
LABEL_STRIDE = 4  # textures are read at one pixel of each 4x4 block; coarser levels get the histogram of these
CALIBRATION, VALIDATION = 2048, 1024  # images
COLOUR_WEIGHT = 5.0  # brings the squared error to the size of the other terms


class _Student(nn.Module):
    """The trunk with its heads.

    (B, 3, H, W) in [-1, 1] -> texture logits [(B, K, H/s, W/s) for s in STRIDES], colours [(B, 3, H/s, W/s) ...],
    light logits (B, 8).
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = timm.create_model(ARCHITECTURE, channels=CHANNELS, num_classes=0)
        self.textures = nn.ModuleList(nn.Conv2d(c, len(TEXTURES), 1) for c in CHANNELS)
        self.colours = nn.ModuleList(nn.Conv2d(c, 3, 1) for c in CHANNELS)
        self.light = nn.Linear(CHANNELS[-1], len(LIGHTS))
        cfg = self.trunk.pretrained_cfg
        self.register_buffer("mean", torch.tensor(cfg["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(cfg["std"]).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        trunk = self.trunk
        x = ((images + 1) / 2 - self.mean) / self.std
        x = trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(x))))  # (B, 64, H/4, W/4)
        logits, colours = [], []
        stages = (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4)
        for stage, texture, colour in zip(stages, self.textures, self.colours, strict=True):
            x = stage(x)
            logits.append(texture(x))
            colours.append(colour(x))
        return logits, colours, self.light(x.mean((2, 3)))


def _targets(textures: Tensor) -> list[Tensor]:
    """Texture ids (B, H, W) -> the share of each class in each cell, (B, K, H/s, W/s) for s in STRIDES."""
    at = LABEL_STRIDE // 2
    ids = textures[:, at::LABEL_STRIDE, at::LABEL_STRIDE].long()
    shares = F.one_hot(ids, len(TEXTURES)).permute(0, 3, 1, 2).float()
    return [F.avg_pool2d(shares, s // LABEL_STRIDE) if s > LABEL_STRIDE else shares for s in STRIDES]


def _loss(student: _Student, images: Tensor, textures: Tensor, lights: Tensor) -> Tensor:
    """Mean over levels of the cross-entropy to the texture shares and of the squared error of the colour, and the
    cross-entropy of the light; in float32.
    """
    logits, colours, light = student(images)
    dense = [F.cross_entropy(z.float(), t) for z, t in zip(logits, _targets(textures), strict=True)]
    colour = [F.mse_loss(c.float(), F.avg_pool2d(images, s)) for c, s in zip(colours, STRIDES, strict=True)]
    light_loss = F.cross_entropy(light.float(), lights.long())
    return torch.stack(dense).mean() + COLOUR_WEIGHT * torch.stack(colour).mean() + 0.5 * light_loss


class _Pool:
    """A ring of rendered images: `refresh` puts `fresh` newly drawn ones in place of the oldest, as often as `times`;
    `batch` draws with random flips. `jobs` processes draw ahead.
    """

    def __init__(
        self, count: int, size: int, seed: int, progress: bool, fresh: int = 0, times: int = 0, jobs: int = 1
    ) -> None:
        self.drawn = 0
        first = [range(start, min(start + 64, count)) for start in range(0, count, 64)]
        later = [range(start, start + fresh) for start in range(count, count + times * fresh, fresh or 1)]
        self.renders = in_order(partial(render, size=size, seed=seed), first + later, jobs)
        self.images = np.empty((count, size, size, 3), np.uint8)
        self.textures = np.empty((count, size, size), np.uint8)
        self.lights = np.empty(count, np.uint8)
        self.random = np.random.Generator(np.random.Philox(key=[seed, 0x9001]))
        with tqdm(total=count, desc="texture world", unit="image", disable=not progress) as bar:
            while self.drawn < count:
                bar.update(self.refresh())

    def refresh(self) -> int:
        fresh = next(self.renders)
        n = len(fresh.lights)
        at = np.arange(self.drawn, self.drawn + n) % len(self.lights)
        self.images[at], self.textures[at], self.lights[at] = fresh.images, fresh.textures, fresh.lights
        self.drawn += n
        return n

    def batch(self, n: int) -> TextureBatch:
        at = self.random.integers(len(self.lights), size=n)
        images, textures = self.images[at], self.textures[at]
        for axis in (1, 2):  # upside down, left to right: neither changes a class or a light
            flip = self.random.random(n) < 0.5
            images[flip], textures[flip] = np.flip(images[flip], axis), np.flip(textures[flip], axis)
        return TextureBatch(images, textures, self.lights[at])


def _to_device(batch: TextureBatch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, 3, H, W) in [-1, 1] channels-last, textures (B, H, W), lights (B,)."""
    return (
        from_bytes(channels_first(batch.images).to(device)),
        torch.from_numpy(batch.textures).to(device),
        torch.from_numpy(batch.lights).to(device),
    )


def _train(student: _Student, pool: _Pool, steps: int, batch_size: int, device: torch.device, progress: bool) -> None:
    decayed = [p for p in student.parameters() if p.ndim > 1]
    plain = [p for p in student.parameters() if p.ndim <= 1]  # norms and biases
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_RATE, total_steps=steps + 1, pct_start=WARM_UP, cycle_momentum=False
    )
    student.train()
    with tqdm(total=steps, desc="pretrain", unit="step", disable=not progress) as bar:
        for step in range(steps):
            pool.refresh()  # so each image is seen about four times
            inputs = _to_device(pool.batch(batch_size), device)
            with torch.autocast(device.type, torch.bfloat16):
                loss = _loss(student, *inputs)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}")


@torch.no_grad()
def _calibrate(student: _Student, pool: _Pool, batch_size: int, device: torch.device) -> None:
    """Batch-norm statistics afresh for the final weights, as plain averages in float32: the running ones lag behind and
    come from bfloat16.
    """
    norms = [m for m in student.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # a cumulative average
    student.train()
    for _ in range(max(1, min(CALIBRATION, len(pool.lights)) // batch_size)):
        student(_to_device(pool.batch(batch_size), device)[0])
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    student.eval()


@torch.no_grad()
def _validate(student: _Student, count: int, size: int, seed: int, device: torch.device) -> dict[str, float]:
    """On split "val", in float32: shares of right answers, for textures at each stride (a cell's right answer is its
    most frequent class) and the light; and the root mean square error of the colour, in units of [-1, 1].
    """
    student.eval()
    right = dict.fromkeys((*(f"texture_accuracy_stride_{s}" for s in STRIDES), "light_accuracy"), 0.0)
    squared = dict.fromkeys((f"colour_rmse_stride_{s}" for s in STRIDES), 0.0)
    for start in range(0, count, 64):
        n = min(64, count - start)
        images, textures, lights = _to_device(render(range(start, start + n), size, seed=seed, split="val"), device)
        logits, colours, light = student(images)
        for stride, c in zip(STRIDES, colours, strict=True):
            squared[f"colour_rmse_stride_{stride}"] += F.mse_loss(c, F.avg_pool2d(images, stride)).item() * n
        for stride, z, t in zip(STRIDES, logits, _targets(textures), strict=True):
            right[f"texture_accuracy_stride_{stride}"] += (z.argmax(1) == t.argmax(1)).float().mean().item() * n
        right["light_accuracy"] += (light.argmax(1) == lights).float().sum().item()
    rmse = {name: round((total / count) ** 0.5, 4) for name, total in squared.items()}
    return {name: round(total / count, 4) for name, total in right.items()} | rmse


def pretrain(
    out: str | Path,
    *,
    size: int = 64,
    steps: int = 6000,
    batch_size: int = 32,
    seed: int = 0,
    pool: int = 8192,
    device: str | torch.device | None = None,
    progress: bool = True,
    jobs: int = 1,
) -> dict:
    """Train the backbone on the texture world and write OUT/weights.safetensors and OUT/provenance.json.

    `size`: pixels, a multiple of 32. `steps` of `batch_size` images, a quarter of them newly drawn at each step;
    `pool`: images kept in memory for the rest. `device`: default the GPU where there is one. `jobs`: processes that
    draw; the images are the same. The default arguments take about 9 minutes on one free core. Returns the provenance:
    command, commit, seed, hardware, seconds, metrics on 1,024 held-out images (measured with the float16 weights as
    saved), sha256 of the weights. Raises `InputError` for arguments out of range, a device that is not here, an `out`
    that cannot be written; all before anything is made.
    """
    if size < 32 or size % 32:
        raise InputError(f"pretrain: size {size} is not a multiple of 32; choose 64, 96, 128, ...")
    if steps < 1 or not 4 <= batch_size <= pool:
        raise InputError(
            f"pretrain: steps {steps}, batch size {batch_size}, pool {pool}: use steps >= 1 and 4 <= batch size <= pool"
        )
    check_pool(pool, size)
    (seed,), device, out = as_seeds([seed]), as_device(device), Path(out)
    make_folder(out, ("weights.safetensors", "provenance.json"))  # last: nothing is made where anything is wrong
    checkpoint.commit()  # now: the code that runs is that of the start
    started = time.time()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = _Student().to(device, memory_format=torch.channels_last)
    images = _Pool(pool, size, seed, progress, fresh=batch_size // 4, times=steps, jobs=jobs)
    _train(student, images, steps, batch_size, device, progress)
    _calibrate(student, images, batch_size, device)
    state = checkpoint.halved(student.trunk.state_dict())
    student.trunk.load_state_dict(state)  # judged as it is shipped
    cfg, given = student.trunk.pretrained_cfg, {"size": size, "steps": steps, "batch_size": batch_size, "pool": pool}
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in (given | {"seed": seed}).items())
    facts = {
        "format": 1,
        "name": "texture_resnet10t",
        "architecture": {"timm": ARCHITECTURE, "channels": CHANNELS, "mean": cfg["mean"], "std": cfg["std"]},
        "trained_on": "dpsims.data.texture_world (procedural; no real image, nothing of Scenes)",
        "command": f"dpsims pretrain --out {out} {options}",
        "seed": seed,
        "seconds": round(time.time() - started, 1),
        "images_drawn": images.drawn,
        "metrics": _validate(student, VALIDATION, size, seed, device),
        "parameters": sum(p.numel() for p in student.trunk.parameters()),
        "timm": timm.__version__,
        "numpy": np.__version__,
    }
    # one entry of metadata: several are written in random order, and so hash differently
    return checkpoint.write_network(out, save(state, metadata={"format": "pt"}), facts)
