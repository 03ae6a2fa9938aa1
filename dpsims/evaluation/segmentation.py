"""Mean intersection over union of a label map and what the evaluation network sees in the image made from it.

Counted over the whole set, never averaged over images; void pixels are left out; a class that
occurs neither in the label maps nor in the predictions has no IoU and is left out of the mean, so that a perfect
answer scores exactly 1 whatever classes are present. (A peer divides by all classes and gives a perfect answer 0.94.)

Three numbers of each class and image are enough for that, and for its interval; confusion matrices of 5,000 images with
182 classes would take more than a gigabyte.

B images, H and W pixels, K classes.
"""

import torch
from torch import Tensor


def class_iou(counts: Tensor) -> Tensor:
    """IoU of every class, (...,K) float64, NaN for absent ones, from pixels (...,3,K): found rightly, labelled,
    predicted."""
    hits, labelled, predicted = counts.double().unbind(-2)
    return hits / (labelled + predicted - hits)


def pixel_counts(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Pixels of every image (B,3,K) int64 on the CPU: of each class found rightly, labelled, predicted.

    Args:
        predictions: (B,H,W), integers 0..K-1 (channel of the class head).
        labels: (B,H,W), ids 0..K.
        num_classes: K, without void.
    """
    if predictions.shape != labels.shape:
        raise ValueError(f"predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)} differ")
    labels = labels.to(predictions.device).long()
    highest = int(labels.max())
    if highest > num_classes or int(labels.min()) < 0:
        raise ValueError(f"label {highest} is not an id of 0..{num_classes}")
    found = []
    for prediction, label in zip(predictions.long() + 1, labels, strict=True):  # classes are 1..K in both
        known = label > 0
        prediction, label = prediction[known], label[known]
        pixels = (label[label == prediction], label, prediction)
        found.append(torch.stack([torch.bincount(ids, minlength=num_classes + 1)[1:] for ids in pixels]).cpu())
    return torch.stack(found)


class SegmentationScore:
    """Accumulates pixels; `result` gives the scores of all that was added.

    Args:
        num_classes: K, without void.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._counts: list[Tensor] = []

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Add images; arguments as of `pixel_counts`."""
        self.add(pixel_counts(predictions, labels, self.num_classes))

    def add(self, counts: Tensor) -> None:
        """Add images of which these pixels (B,3,K) were counted."""
        self._counts.append(counts)

    @property
    def counts(self) -> Tensor:
        """Pixels of every image that was added (images,3,K): of each class found rightly, labelled, predicted."""
        return torch.cat(self._counts)

    def result(self) -> dict:
        """`miou` and `pixel_accuracy` in [0,1], `iou` per class (None: absent); None where no pixel was counted."""
        counts = self.counts.sum(0)
        iou, (hits, total, _) = class_iou(counts), counts.sum(1).tolist()
        present = iou.isfinite()
        return {
            "miou": float(iou[present].mean()) if present.any() else None,
            "pixel_accuracy": hits / total if total else None,
            "iou": [float(v) if p else None for v, p in zip(iou, present, strict=True)],
        }
