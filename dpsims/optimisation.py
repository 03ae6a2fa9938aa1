"""What a training step needs beside the losses: learning rate, moving average, gradient norms, memory kept."""

import ctypes
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm


def learning_rate_factor(step: int, steps: int, warmup: int, decay_from: float) -> float:
    """Linear warm-up, then 1, then a linear fall to 0.1 from the share `decay_from` of the steps on (default)."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    start = decay_from * steps
    fall = 1.0 if step < start else 1.0 - 0.9 * (step - start) / max(1.0, steps - start)
    return rise * fall


@torch.no_grad()
def update_ema(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Parameters are averaged, buffers copied: averaged spectral norm vectors would no longer be unit vectors."""
    old, new = list(average.parameters()), [p.detach() for p in model.parameters()]
    torch._foreach_lerp_(old, new, 1 - decay)
    for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)


@contextmanager
def one_iteration(networks: Sequence[nn.Module], first: bool) -> Iterator[None]:
    """Inside, spectral norms take a step of their power iteration at every pass in training mode only if `first`: the
    pieces of one batch then see the same weights."""
    norms = [] if first else [m for n in networks for m in n.modules() if isinstance(m, _SpectralNorm) and m.training]
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


def gradient_norm(loss: Tensor, parameters: list[nn.Parameter]) -> float:
    """L2 norm of the gradient of one loss term, which stays usable for another backward pass."""
    if not loss.requires_grad:
        return 0.0
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return math.sqrt(sum(float(g.float().square().sum()) for g in grads if g is not None))


def keep_freed_memory() -> None:
    """Lets this process keep the memory that a step frees, for the next one: a tenth faster on a CPU with glibc.

    By default glibc gives every large block back to the system, which clears it page by page when it is asked for
    again: 9,000 page faults a step. No number of a training changes. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        for option, value in ((-4, 0), (-1, 2**31 - 1)):  # M_MMAP_MAX: none; M_TRIM_THRESHOLD: 2 GB
            mallopt(option, value)
