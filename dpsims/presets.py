"""The training presets, by name: those of the embedded Scenes, small enough for a CPU, and those of the paper's sizes.

Comments in the latter give the standing of each value as `dpsims.config` does: published, recalled or default. Fields
that they leave out are as `dpsims.config` has them.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from dpsims.config import Config, Data, Discriminator, Generator, Loss, Train, override
from dpsims.data.prepared import open_prepared, settings_of
from dpsims.errors import InputError

# training images of the benchmarks, as their owners publish them
TRAINING_IMAGES = {"ade20k": 20_210, "coco_stuff": 118_287, "cityscapes": 2_975}
BATCH = 64  # recalled
CHANNELS_256 = (1024, 1024, 1024, 512, 256, 128, 64)  # of G, levels of 8 to 256 rows; default (Dual-Pyramid GAN)


def _small_scenes(train: Train, loss: Loss) -> Config:
    """What images of 64 px need beside the defaults; each field says what it is, and the trials are in data/results."""
    return Config(
        discriminator=Discriminator(finest_stride=1, noise_field="image", noise_max=0.8),
        generator=Generator(noise_places=True, padding="replicate", noise_max_size=32),
        loss=loss,
        train=train,
    )


def scenes64() -> Config:
    """Scenes at 64 px: the recipe of the shipped checkpoint; an hour or less on one CPU core."""
    return _small_scenes(
        Train(
            steps=7000,
            lr_generator=1.5e-4,
            lr_discriminator=6e-4,
            warmup_steps=200,
            decay_from=0.4571429,  # step 3,200
            ema_decay=0.999,
            sample_every=1000,
            checkpoint_every=250,
        ),
        Loss(diversity_threshold_late=0.1),
    )


def scenes128() -> Config:
    """Scenes at 128 px, grown from the shipped checkpoint at 64: two hours on one CPU core."""
    small = scenes64()
    return replace(
        small,
        data=replace(small.data, height=128, width=128),
        generator=replace(small.generator, channels=(*small.generator.channels, 24)),
        train=replace(small.train, start_from="scenes-64", steps=5500, decay_from=0.3636364, sample_every=500),
    )


def scenes64_quick() -> Config:
    """Scenes at 64 px for the demo: 600 steps, a few minutes on two CPU cores."""
    return _small_scenes(Train(lr_generator=3e-4, lr_discriminator=1.2e-3), Loss())


def tiny() -> Config:
    """A model too small to be any good, for tests and for trying the code: seconds on one CPU core."""
    return Config(
        data=Data(num_images=64),
        discriminator=Discriminator(channels=(16, 16, 16, 16, 16, 16), statistics_images=32),
        generator=Generator(channels=(16, 16, 16, 16, 16, 16), label_channels=8, noise_tokens=4, noise_dim=8,
                            noise_heads=2),
        train=Train(steps=6, batch_size=4, warmup_steps=2, log_every=1, grad_norm_every=3, sample_every=3,
                    checkpoint_every=2),
    )  # fmt: skip


def _paper(dataset: str, num_classes: int, height: int, width: int, epochs: int, channels: tuple[int, ...]) -> Config:
    """The paper's recipe, as far as it is known; not run here, for want of the data, the weights and a GPU.

    `steps` are the epochs of OASIS: epochs * training images / images a step (default; its batches are smaller, so it
    takes more steps for them).
    """
    return Config(
        data=Data(
            dataset=dataset,
            num_classes=num_classes,
            height=height,
            width=width,
            rare_class_sampling=True,  # recalled
            flip=True,  # recalled
            crop=False,  # default: images are prepared at their size, the aspect not kept
        ),
        discriminator=Discriminator(
            backbone="convnext_large.fb_in22k",  # ConvNeXt-L published; which of its weights default
            pretrained="true",  # published: pre-trained; from the hub
            frozen=True,  # published
            noise_beta=0.999,  # default, for long runs
            finest_stride=4,  # default
            channels=(512, 512, 256, 256, 128, 64),  # default
        ),
        generator=Generator(
            channels=channels,
            label_channels=64,  # default (Dual-Pyramid GAN)
            noise_max_size=64,  # default
        ),
        loss=Loss(
            focal_gamma=2.0,  # name published, value recalled
            class_weights="inverse",  # recalled
            lambda_contrastive=100.0,  # recalled; strong: watch grad_contrastive (1 to 10 in CUT)
            contrastive_temperature=0.3,  # recalled
            contrastive_patches=128,  # recalled
            contrastive_backbone="vgg19.tv_in1k",  # VGG recalled; which one default (OASIS's perceptual loss)
            lambda_diversity=10.0,  # recalled
            diversity_on="features",  # recalled
            diversity_threshold=0.2,  # default: to be taken from the data, which has not been done
            diversity_threshold_late=0.2,  # default: the same to the end
        ),
        train=Train(
            steps=epochs * TRAINING_IMAGES[dataset] // BATCH,  # default
            batch_size=BATCH,  # recalled
            noises_per_map=2,  # default
            lr_generator=1e-3,  # recalled
            lr_discriminator=1e-3,  # recalled
            betas=(0.0, 0.99),  # recalled
            warmup_steps=1000,  # default
            decay_from=1.0,  # default: never, as OASIS
            ema_decay=0.9999,  # recalled
            log_every=50,  # default
            grad_norm_every=500,  # default
            sample_every=1000,  # default
            checkpoint_every=1000,  # default
        ),
    )


def ade20k256() -> Config:
    """ADE20K at 256 x 256 pixels."""
    return _paper(
        dataset="ade20k",  # published
        num_classes=150,  # published
        height=256,  # published
        width=256,  # published
        epochs=200,  # default (OASIS): 63,156 steps
        channels=CHANNELS_256,  # default
    )


def coco256() -> Config:
    """COCO-Stuff at 256 x 256 pixels."""
    return _paper(
        dataset="coco_stuff",  # published
        num_classes=182,  # published
        height=256,  # published
        width=256,  # published
        epochs=100,  # default (OASIS): 184,823 steps
        channels=CHANNELS_256,  # default
    )


def cityscapes512() -> Config:
    """Cityscapes at 256 x 512 pixels."""
    return _paper(
        dataset="cityscapes",  # published
        num_classes=33,  # default: all that occur; OASIS's 35 channels count void and one that never does
        height=256,  # published
        width=512,  # published
        epochs=200,  # default (OASIS): 9,296 steps
        channels=CHANNELS_256,  # default
    )


def ade20k512() -> Config:
    """ADE20K at 512 x 512 pixels, not known to be in the paper: one level more than at 256, from which it can be grown
    (`train.start_from`)."""
    return _paper(
        dataset="ade20k",  # published
        num_classes=150,  # published
        height=512,  # default
        width=512,  # default
        epochs=200,  # default (OASIS, at 256 pixels): 63,156 steps
        channels=(*CHANNELS_256, 32),  # default
    )


PAPER: dict[str, Callable[[], Config]] = {f.__name__: f for f in (ade20k256, coco256, cityscapes512, ade20k512)}
SMALL: dict[str, Callable[[], Config]] = {f.__name__: f for f in (scenes64, scenes64_quick, scenes128, tiny)}
PRESETS = SMALL | PAPER


def preset(name: str) -> Config:
    """A named training configuration; raises InputError for an unknown name."""
    if name not in PRESETS:
        raise InputError(f"unknown training preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]()


def configured(name: str, data: str | Path | None = None, settings: Iterable[str] = ()) -> Config:
    """A preset, for a prepared data set if one is given, with fields changed.

    Small presets take the size of the data. Those of the paper's sizes keep their own, for which their networks are
    meant; larger data can be cropped (``data.crop=true``).

    Args:
        name: of the preset.
        data: prepared data set; gives data set, classes and seed.
        settings: ``section.field=value``, as `dpsims.config.override` takes them.

    Raises:
        InputError: as of `preset`, `settings_of` and `override`; data of another size than a preset of the paper's.
    """
    if data is None:
        return override(preset(name), settings)
    of_data = settings_of(data)
    if name not in PAPER:
        return override(preset(name), [*of_data, *settings])
    sides = ("data.height=", "data.width=")
    config = override(preset(name), [*(s for s in of_data if not s.startswith(sides)), *settings])
    index, d = open_prepared(data).index, config.data
    there, wanted = (index["height"], index["width"]), (d.height, d.width)
    if there != wanted and not (d.crop and there[0] >= wanted[0] and there[1] >= wanted[1]):
        raise InputError(
            f"{data}: holds images of {there[0]} x {there[1]} pixels, but the preset {name} is for {wanted[0]} x "
            f"{wanted[1]}; prepare the data again with --size {wanted[0]}, or, to train networks meant for "
            f"another size, --set data.height={there[0]} --set data.width={there[1]}"
        )
    return config
