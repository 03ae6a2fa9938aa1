"""The three losses of DP-SIMS as pure functions, the class weights, and what the OASIS baseline has in their place.

arXiv 2312.13314, Sec. 3.3. Published: the names (pixel-wise focal GAN loss, patch contrastive loss, diversity
constraint). Recalled: the forms. Means stand where the paper's lineage has sums, so that the lambdas mean the same at
every size.

B batch, C channels, H and W height and width, K classes, P patches, M features.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dpsims.precision import exact


def class_weights(pixels: Sequence[int], kind: str) -> Tensor:
    """alpha_c from the class frequencies of the whole data set, normalised so that sum_c f_c alpha_c = 1.

    Args:
        pixels: K+1 counts, void first; void gets no weight and does not count.
        kind: ``inverse`` 1/f (recalled), ``sqrt`` f^(-1/2) and ``clipped`` 1/f at most ten times the smallest (default,
            calmer: on Scenes 1/f spans a ratio of 57), ``none`` for ones.

    Returns:
        (K+1,) float, ``[0]`` (void) is 0. A class that never occurs has weight 0: nothing divides by zero.
    """
    counts = torch.tensor(pixels, dtype=torch.float64)
    counts[0] = 0
    frequency = counts / counts.sum().clamp_min(1)
    present = frequency > 0
    safe = torch.where(present, frequency, 1.0)
    if kind == "inverse":
        alpha = 1 / safe
    elif kind == "sqrt":
        alpha = safe.rsqrt()
    elif kind == "clipped":
        alpha = 1 / safe
        alpha = alpha.clamp_max(10 * float(alpha[present].min())) if bool(present.any()) else alpha
    elif kind == "none":
        alpha = torch.ones_like(safe)
    else:
        raise ValueError(f"class weights {kind!r} are not one of inverse, sqrt, clipped, none")
    alpha = torch.where(present, alpha, 0.0)
    return (alpha / (frequency * alpha).sum().clamp_min(1e-12)).float()


def class_counts(labels: Tensor, num_classes: int) -> Tensor:
    """Pixels of each id in label maps (B, H, W), 0 = void, 1..K -> (K+1,) int64, void first."""
    return torch.bincount(labels.flatten().long(), minlength=num_classes + 1)


def batch_class_weights(counts: Tensor) -> Tensor:
    """OASIS's weights, from a batch of label maps alone: pixels that are not void, divided by the number of classes
    present times the pixels of the class.

    Args:
        counts: (K+1,) pixels of each id, void first; see `class_counts`.

    Returns:
        (K+1,) float, 0 for void and for classes that are absent: under `focal_gan_loss`, which averages over pixels
        that are not void, every class present then has the same share.
    """
    counts = counts.double()
    counts[0] = 0
    present = counts > 0
    return torch.where(present, counts.sum() / (present.sum() * counts).clamp_min(1), 0.0).float()


def labelmix_mask(labels: Tensor, coins: Tensor) -> Tensor:
    """OASIS's LabelMix: (B, H, W) ids and one coin for each id (K+1,) in [0, 1) -> (B, 1, H, W), 1 where the mixed
    image takes the real one, 0 where it takes the generated one; whole classes at a time."""
    return (coins >= 0.5).to(labels.device)[labels.long()][:, None].float()


def labelmix_loss(mixed: Tensor, real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance of D's logits (B, K+1, H, W) for the mixed image from the same mix of its logits for the
    real and the generated one (OASIS; not part of DP-SIMS)."""
    return F.mse_loss(exact(mixed), mask * exact(real) + (1 - mask) * exact(fake))


def focal_gan_loss(
    logits: Tensor,
    labels: Tensor | None,
    weights: Tensor | None = None,
    gamma: float = 2.0,
    count: Tensor | None = None,
) -> Tensor:
    """Pixel-wise focal GAN loss of one set of images (name published, form recalled).

    With p the softmax of D's logits: ``- mean_ij alpha_t (1 - p_t)^gamma log p_t`` over non-void pixels for real
    images (and for generated ones in the generator's step), ``- mean_ij (1 - p_fake)^gamma log p_fake`` over all
    pixels for generated images in D's step. gamma = 0 is OASIS's cross-entropy.

    Args:
        logits: (B, K+1, H, W); channel k-1 is class k, channel K is "fake".
        labels: (B, H, W) ids, 0 = void, 1..K: the target is the class; None: the target is "fake" everywhere.
        weights: alpha, (K+1,), void first; None for ones. Not used for the "fake" target.
        gamma: focusing, at least 0.
        count: what the sum is divided by; None for the number of non-void pixels. With several processes it is the mean
            of that over them.

    Returns:
        Scalar, at least 0; 0 where every pixel is void.

    Raises:
        ValueError: sizes of logits and labels differ.
    """
    logits = exact(logits)
    fake = logits.shape[1] - 1
    if labels is None:
        target = torch.full_like(logits[:, 0], fake, dtype=torch.long)
        pixel_weights = torch.ones_like(logits[:, 0])
        count = pixel_weights.numel()
    else:
        if labels.shape != logits[:, 0].shape:
            raise ValueError(f"labels {tuple(labels.shape)} do not fit logits {tuple(logits.shape)}")
        labels = labels.long()
        solid = labels > 0
        target = (labels - 1).clamp_min(0)
        pixel_weights = solid.to(logits) if weights is None else weights.to(logits)[labels] * solid
        count = solid.sum().clamp_min(1) if count is None else count.clamp_min(1)
    log_p = logits.log_softmax(dim=1).gather(1, target[:, None])[:, 0]  # (B, H, W)
    if gamma:
        pixel_weights = pixel_weights * (1 - log_p.exp()).clamp_min(0) ** gamma
    return -(pixel_weights * log_p).sum() / count


def class_cross_entropy(logits: Tensor, labels: Tensor, count: Tensor | None = None) -> Tensor:
    """CE(D(x), t) over non-void pixels, unweighted and unfocused: what the dynamic noise level compares (recalled)."""
    return focal_gan_loss(logits, labels, weights=None, gamma=0.0, count=count)


def patch_contrastive_loss(fake: Tensor, real: Tensor, temperature: float = 0.3) -> Tensor:
    """InfoNCE between generated and real patches at the same places (name published, form recalled).

    Negatives are the other places of the *same* real image (CUT).

    Args:
        fake: (B, P, M) features of P places of generated images; they are L2-normalised here.
        real: (B, P, M) features of the same places of the real images.
        temperature: tau, greater than 0; 0.3 is recalled, CUT has 0.07.

    Returns:
        Scalar; log(P) where features tell nothing.

    Raises:
        ValueError: shapes differ.
    """
    if fake.shape != real.shape:
        raise ValueError(f"generated features {tuple(fake.shape)} and real ones {tuple(real.shape)} differ in shape")
    fake, real = F.normalize(exact(fake), dim=-1), F.normalize(exact(real), dim=-1)
    similarity = fake @ real.transpose(1, 2) / temperature  # (B, P, P)
    target = torch.arange(fake.shape[1], device=fake.device).expand(len(fake), -1)
    return F.cross_entropy(similarity.flatten(0, 1), target.flatten())


def diversity_loss(first: Tensor, second: Tensor, noise1: Tensor, noise2: Tensor, threshold: float) -> Tensor:
    """``[tau - |G^f(z1, t) - G^f(z2, t)|_1 / |z1 - z2|_1]_+`` (name published, form recalled, DSGAN's lineage).

    Absolute values are averaged, not summed (default), so that tau does not depend on the size. Two draws of N(0, 1)
    are 1.13 apart on average.

    Args:
        first, second: (B, C, H, W) features before the RGB layer, or images, for two noises of the same label maps.
            Features should come divided by their detached RMS, else G meets the loss by scaling them; see
            `rms_normalise`.
        noise1, noise2: z, (B, N, d).
        threshold: tau. Every pair is held to it, so a kind of image that is nearer than that to all others has no
            place: a tau that brings the extremes out drives what lies between them away.

    Returns:
        Scalar, 0 once every pair differs enough.

    Raises:
        ValueError: shapes differ.
    """
    if first.shape != second.shape or noise1.shape != noise2.shape:
        raise ValueError("the two images of a pair, and their noises, must have the same shape")
    apart = (exact(first) - exact(second)).abs().flatten(1).mean(1)
    apart_noise = exact(noise1 - noise2).abs().flatten(1).mean(1).clamp_min(1e-6)
    return (threshold - apart / apart_noise).clamp_min(0).mean()


def rms_normalise(features: Tensor, mean: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """Features (B, C, H, W) divided by their detached RMS over the batch (default); `mean` is that over processes."""
    return features / mean(exact(features.detach()).square().mean()).sqrt().clamp_min(1e-6)
