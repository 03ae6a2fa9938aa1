"""Mean intersection over union of a label map and what the evaluation network sees in the image made from it.

Counted over the whole set (one confusion matrix), never averaged over images; void pixels are left out; a class that
occurs neither in the label maps nor in the predictions has no IoU and is left out of the mean, so that a perfect
answer scores exactly 1 whatever classes are present. (A peer divides by all classes and gives a perfect answer 0.94.)

B images, H and W pixels, K classes.
"""

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

VOID = 255  # outside 0..K-1, as torchmetrics wants it for ignored pixels


def class_iou(counts: Tensor) -> Tensor:
    """IoU of every class from confusion matrices (...,K,K), rows: label -> (...,K) float64, NaN for absent classes."""
    hits = counts.diagonal(dim1=-2, dim2=-1).double()
    return hits / (counts.sum(-1) + counts.sum(-2) - hits)


class SegmentationScore:
    """Accumulates pixels; `result` gives the scores of all that was added.

    Args:
        num_classes: K, without void.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._counts: list[Tensor] = []

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Add predictions (B,H,W), integers 0..K-1 (channel of the class head), and label maps (B,H,W), ids 0..K."""
        if predictions.shape != labels.shape:
            raise ValueError(f"predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)} differ")
        labels = labels.to(predictions.device).long()
        highest = int(labels.max())
        if highest > self.num_classes or int(labels.min()) < 0:
            raise ValueError(f"label {highest} is not an id of 0..{self.num_classes}")
        targets = torch.where(labels == 0, VOID, labels - 1)
        settings = {"num_classes": self.num_classes, "ignore_index": VOID, "validate_args": False}
        for prediction, target in zip(predictions, targets, strict=True):
            self._counts.append(multiclass_confusion_matrix(prediction[None], target[None], **settings).cpu())

    @property
    def counts(self) -> Tensor:
        """The confusion matrix of every image that was added (images,K,K), rows: label, columns: prediction."""
        return torch.stack(self._counts)

    def result(self) -> dict:
        """`miou` and `pixel_accuracy` in [0,1], `iou` per class (None: absent); None where no pixel was counted."""
        counts = self.counts.sum(0)
        iou, total = class_iou(counts), int(counts.sum())
        present = iou.isfinite()
        return {
            "miou": float(iou[present].mean()) if present.any() else None,
            "pixel_accuracy": int(counts.trace()) / total if total else None,
            "iou": [float(v) if p else None for v, p in zip(iou, present, strict=True)],
        }
