"""Random draws as pure functions of (seed, step, sample, purpose).

So position in a training is one integer: resuming, or sharing a batch between more processes, changes no draw
(default).
"""

import torch
from torch import Tensor

# purposes; distinct, or draws would repeat
INDEX, FLIP, NOISE, PLACES, FEATURES_REAL, FEATURES_FAKE, FEATURES_G, TOP, LEFT, LABELMIX = range(10)
_MASK = (1 << 64) - 1


def stream(seed: int, step: int, sample: int, purpose: int) -> torch.Generator:
    """A CPU random stream of its own for every combination of the four integers."""
    state = 0
    for part in (seed, step, sample, purpose):  # splitmix64 over the parts
        state = (state + part + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return torch.Generator().manual_seed(state & 0x7FFFFFFFFFFFFFFF)


def uniform(seed: int, step: int, samples: range, purpose: int, shape: tuple[int, ...] = ()) -> Tensor:
    """Uniform in [0, 1), (len(samples), *shape), one stream a sample, on the CPU."""
    return torch.stack([torch.rand(shape, generator=stream(seed, step, s, purpose)) for s in samples])


def normal(seed: int, step: int, samples: range, purpose: int, shape: tuple[int, ...] = ()) -> Tensor:
    """N(0, 1), (len(samples), *shape), one stream a sample, on the CPU."""
    return torch.stack([torch.randn(shape, generator=stream(seed, step, s, purpose)) for s in samples])


class FeatureNoise:
    """Draws for the noise on conditioned features: one stream a sample, from which one level after another draws.

    Drawn on `device`: on a GPU the values differ from the CPU's, but not between runs on the same device.
    """

    def __init__(self, seed: int, step: int, samples: range, purpose: int, device: torch.device) -> None:
        self.device = device
        self.generators = []
        for sample in samples:
            generator = torch.Generator(device).manual_seed(stream(seed, step, sample, purpose).initial_seed())
            self.generators.append(generator)

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """N(0, 1) of `shape` (B, C, H, W) for the next level; another call gives other draws."""
        return torch.stack([torch.randn(shape[1:], generator=g, device=self.device) for g in self.generators])


class RealAndFake:
    """Feature noise for a batch of real images followed by as many generated ones: draws of their own, one level."""

    def __init__(self, real: FeatureNoise, fake: FeatureNoise) -> None:
        self.real, self.fake = real, fake

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """As `FeatureNoise`."""
        half = (shape[0] // 2, *shape[1:])
        return torch.cat([self.real(half), self.fake(half)])
