"""Feature conditioning: what makes the features of a frozen backbone usable by a discriminator.

arXiv 2312.13314, Sec. 3.1. Published: raw features of discriminative backbones are ill-conditioned, a few channels
dominate; a contractive non-linearity (the sigmoid) and normalisation, feature decorrelation and dynamic noise injection
mend that. The exact forms below are recalled or defaults, and each is a field of the configuration:

1. Fhat_l = (sigmoid(F_l) - mu_l) / s_l, per channel (form recalled);
2. decorrelation of the channels: grouped ZCA whitening (operator default);
3. Ftilde_l = Fhat_l + eps, eps ~ N(0, sigma_t^2), with sigma_t following how far D is ahead (recalled).

Statistics (default): the encoder is frozen and the real data fixed, so mean, scale and covariance are *constants*,
computed once over real images before step 0, the same for real and generated images, never from a batch.

B batch, C channels, G group size, H and W height and width, L levels.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpsims.precision import exact

SCALE_FLOOR = 0.05  # of the median scale: a dead channel must not divide by nothing
SATURATED = 0.98  # a sigmoid beyond this (or below 1 - this) passes next to no gradient


def group_size(channels: int, most: int = 64) -> int:
    """The largest divisor of `channels` up to `most`: the size of the groups that are whitened together (default)."""
    return max(d for d in range(1, min(channels, most) + 1) if channels % d == 0)


class LevelConditioning(nn.Module):
    """Steps 1 and 2 of feature conditioning for one level, with constant statistics in buffers."""

    mean: Tensor
    scale: Tensor
    offset: Tensor
    mixing: Tensor

    def __init__(self, channels: int, nonlinearity: str, decorrelation: str, shrinkage: float, seed: int) -> None:
        super().__init__()
        self.nonlinearity, self.decorrelation, self.shrinkage = nonlinearity, decorrelation, shrinkage
        size = group_size(channels) if decorrelation == "zca" else channels
        self.groups = channels // size
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("offset", torch.zeros(channels))  # mean of what is decorrelated
        self.register_buffer("mixing", fixed_mixing(decorrelation, channels, size, seed))

    def normalise(self, features: Tensor) -> Tensor:
        """Step 1 (B, C, H, W) -> the same: non-linearity and normalisation, per channel."""
        shape = (1, -1, 1, 1)
        if self.nonlinearity == "none":
            return features
        if self.nonlinearity == "sigmoid_normalise":
            return (features.sigmoid() - self.mean.view(shape)) / self.scale.view(shape)
        return ((features - self.mean.view(shape)) / self.scale.view(shape)).sigmoid()

    def decorrelate(self, features: Tensor) -> Tensor:
        """Step 2 (B, C, H, W) -> the same: a fixed 1x1 convolution on centred features."""
        if self.decorrelation == "none":
            return features
        # W (x - offset) as W x + b: one fused convolution
        bias = -(self.mixing @ self.offset.view(self.groups, -1, 1)).flatten()
        return F.conv2d(features, self.mixing.flatten(0, 1)[:, :, None, None], bias, groups=self.groups)

    def saturation(self, features: Tensor) -> Tensor:
        """Share of the sigmoid's outputs that are saturated, a scalar in [0, 1]; 0 where there is no sigmoid."""
        if self.nonlinearity == "none":
            return features.new_zeros(())
        if self.nonlinearity == "normalise_sigmoid":
            squashed = self.normalise(features)
        else:
            squashed = features.sigmoid()
        return ((squashed > SATURATED) | (squashed < 1 - SATURATED)).float().mean()

    @torch.no_grad()
    def fit_scale(self, total: Tensor, squares: Tensor, count: float) -> None:
        """Sets mean and scale from float64 sums over real images; the scale is floored at 0.05 of its median."""
        mean = total / count
        scale = (squares / count - mean**2).clamp_min(0).sqrt()
        scale = scale.clamp_min(SCALE_FLOOR * float(scale.median())).clamp_min(1e-6)
        self.mean.copy_(mean)
        self.scale.copy_(scale)

    @torch.no_grad()
    def fit_whitening(self, total: Tensor, products: Tensor, count: float) -> None:
        """Sets offset and, for ``zca``, the whitening matrices from float64 sums (C) and (groups, G, G)."""
        mean = total / count
        self.offset.copy_(mean)
        if self.decorrelation != "zca":
            return
        grouped = mean.view(self.groups, -1)
        covariance = products / count - grouped[:, :, None] * grouped[:, None, :]  # (groups, G, G)
        trace = covariance.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None].clamp_min(1e-12)
        identity = torch.eye(grouped.shape[1], dtype=covariance.dtype, device=covariance.device)
        # (1-a) C + a I, with I at the scale of C so that `a` means the same for features that are not normalised
        values, vectors = torch.linalg.eigh((1 - self.shrinkage) * covariance + self.shrinkage * trace * identity)
        root = values.clamp_min(1e-6 * float(trace.mean())).rsqrt()
        self.mixing.copy_(vectors * root[:, None, :] @ vectors.transpose(1, 2))


def fixed_mixing(kind: str, channels: int, size: int, seed: int) -> Tensor:
    """The fixed matrices (groups, G, G) before any statistics: identity, a random rotation, or a random mixing.

    ``random_mixing`` is Projected GAN's cross-channel mixing (a 1x1 convolution with Kaiming weights that never train);
    both random kinds are controls for the whitening.
    """
    groups = channels // size
    generator = torch.Generator().manual_seed(seed)
    if kind == "random_orthogonal":
        gaussian = torch.randn(groups, size, size, generator=generator, dtype=torch.float64, device="cpu")
        return torch.linalg.qr(gaussian)[0].float()
    if kind == "random_mixing":
        return torch.randn(groups, size, size, generator=generator, device="cpu") * (2 / size) ** 0.5
    return torch.eye(size).repeat(groups, 1, 1)


class FeatureConditioning(nn.Module):
    """Feature conditioning of all L levels of a backbone, and the level of the injected noise.

    Args:
        channels: C_l of each level.
        nonlinearity: ``sigmoid_normalise``, ``normalise_sigmoid`` or ``none`` (raw features).
        decorrelation: ``zca``, ``random_orthogonal``, ``random_mixing`` or ``none``.
        shrinkage: a in ``(1-a) C + a I``.
        noise: ``dynamic``, ``fixed`` (always noise_max) or ``off``.
        noise_max: sigma_max, in the units of a conditioned feature.
        noise_beta: memory of the dynamic level.
        noise_field: ``pixel``, a draw for every place (default), or ``image``, one for the whole image, as a change of
            light or colour is: D then cannot tell exactly how bright or red an image is, and a generator that has lost
            a mood feels a slope back to it.
        noise_last: noise after decorrelation (default) or before it (recalled); in the latter order whitening
            amplifies it.
    """

    sigma: Tensor

    def __init__(
        self,
        channels: list[int],
        nonlinearity: str = "sigmoid_normalise",
        decorrelation: str = "zca",
        shrinkage: float = 0.1,
        noise: str = "dynamic",
        noise_max: float = 0.1,
        noise_beta: float = 0.999,
        noise_field: str = "pixel",
        noise_last: bool = True,
    ) -> None:
        super().__init__()
        self.noise_field = noise_field
        self.noise, self.noise_max, self.noise_beta, self.noise_last = noise, noise_max, noise_beta, noise_last
        self.levels = nn.ModuleList(
            LevelConditioning(c, nonlinearity, decorrelation, shrinkage, seed=level) for level, c in enumerate(channels)
        )
        self.register_buffer("sigma", torch.tensor(noise_max if noise == "fixed" else 0.0))  # sigma_0 = 0

    def forward(
        self, features: list[Tensor], draw_noise: Callable[[tuple[int, ...]], Tensor] | None = None
    ) -> list[Tensor]:
        """L feature maps (B, C_l, H_l, W_l) -> the same, conditioned.

        Args:
            features: of the backbone.
            draw_noise: ``shape -> N(0, 1)`` on the features' device, level by level; None, as in evaluation: no noise.
        """
        conditioned = []
        for level, feature in zip(self.levels, features, strict=True):
            x = level.normalise(exact(feature))
            add = draw_noise is not None and self.noise != "off"
            if self.noise_last:
                x = level.decorrelate(x)
            if add:
                shape = (*x.shape[:2], 1, 1) if self.noise_field == "image" else tuple(x.shape)
                x = x + self.sigma * draw_noise(shape)
            if not self.noise_last:
                x = level.decorrelate(x)
            conditioned.append(x)
        return conditioned

    @torch.no_grad()
    def update_noise(self, gap: Tensor) -> None:
        """sigma_t = beta sigma_{t-1} + (1 - beta) sigma_max (tanh(gap_t) + 1) / 2 (recalled).

        Args:
            gap: CE(D(G(t, z)), t) - CE(D(x), t), a scalar; positive when D is ahead, which asks for more noise.
        """
        if self.noise == "dynamic":
            target = self.noise_max * (gap.to(self.sigma).tanh() + 1) / 2
            self.sigma.lerp_(target, 1 - self.noise_beta)

    @torch.no_grad()
    def fit(
        self, feature_batches: Callable[[], Iterable[list[Tensor]]], add_up: Callable[[Tensor], Tensor] = lambda x: x
    ) -> None:
        """Computes the constant statistics in float64, in two passes over features of real images.

        Args:
            feature_batches: starts a pass; each batch holds L feature maps (B, C_l, H_l, W_l).
            add_up: the sum over processes, each of which has its share of the batches.
        """
        squash = lambda level, x: x.sigmoid() if _squashed_first(level) else x  # noqa: E731
        self._pass(feature_batches(), squash, False, add_up)
        self._pass(feature_batches(), lambda level, x: level.normalise(x), True, add_up)

    def _pass(self, batches: Iterable[list[Tensor]], transform: Callable, whitening: bool, add_up: Callable) -> None:
        """One streaming pass: sums of ``transform(features)``, then the levels' constants."""
        sums: list[list[Tensor]] = []
        for level in self.levels:
            second = level.mixing if whitening and level.decorrelation == "zca" else level.mean
            sums.append([torch.zeros_like(x, dtype=torch.float64) for x in (level.mean, second, level.mean[0])])
        for batch in batches:
            for level, feature, entry in zip(self.levels, batch, sums, strict=True):
                x = transform(level, exact(feature)).double().transpose(0, 1).flatten(1)  # (C, B*H*W)
                second = x.square().sum(1)
                if whitening:
                    grouped = x.view(level.groups, -1, x.shape[1]) if level.decorrelation == "zca" else None
                    second = grouped @ grouped.transpose(1, 2) if grouped is not None else second
                entry[0], entry[1], entry[2] = entry[0] + x.sum(1), entry[1] + second, entry[2] + x.shape[1]
        for level, (total, second, count) in zip(self.levels, sums, strict=True):
            total, second, count = (add_up(x) for x in (total, second, count))
            (level.fit_whitening if whitening else level.fit_scale)(total, second, float(count))


def _squashed_first(level: nn.Module) -> bool:
    return level.nonlinearity == "sigmoid_normalise"
