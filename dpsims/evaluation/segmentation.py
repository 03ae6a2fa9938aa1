"""Mean intersection over union of a label map and what the evaluation network sees in the image made from it.

Counted over the whole set (one confusion matrix), never averaged over images; void pixels are left out; a class that
occurs neither in the label maps nor in the predictions has no IoU and is left out of the mean, so that a perfect
answer scores exactly 1 whatever classes are present. (A peer divides by all classes and gives a perfect answer 0.94.)
"""

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

VOID = 255  # outside 0..K-1, as torchmetrics wants it for ignored pixels


class SegmentationScore:
    """Accumulates pixels; `result` gives the scores of all that was added.

    Args:
        num_classes: K, without void.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        settings = {"num_classes": num_classes, "ignore_index": VOID, "validate_args": False}
        self._metrics = MetricCollection(  # one confusion matrix serves both: torchmetrics groups them
            {"iou": MulticlassJaccardIndex(average="none", **settings), "counts": MulticlassConfusionMatrix(**settings)}
        )

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        """Add predictions (B,H,W), integers 0..K-1 (channel of the class head), and label maps (B,H,W), ids 0..K."""
        if predictions.shape != labels.shape:
            raise ValueError(f"predictions {tuple(predictions.shape)} and labels {tuple(labels.shape)} differ")
        labels = labels.to(predictions.device).long()
        highest = int(labels.max())
        if highest > self.num_classes or int(labels.min()) < 0:
            raise ValueError(f"label {highest} is not an id of 0..{self.num_classes}")
        self._metrics.to(predictions.device).update(predictions, torch.where(labels == 0, VOID, labels - 1))

    def result(self) -> dict:
        """`miou` and `pixel_accuracy` in [0,1], `iou` per class (None: absent); None where no pixel was counted."""
        values = self._metrics.compute()
        counts = values["counts"].double()  # rows: label, columns: prediction
        present = (counts.sum(0) + counts.sum(1)) > 0
        iou = [float(v) if p else None for v, p in zip(values["iou"], present, strict=True)]
        kept = [v for v in iou if v is not None]
        total = float(counts.sum())
        return {
            "miou": sum(kept) / len(kept) if kept else None,
            "pixel_accuracy": float(counts.trace()) / total if total else None,
            "iou": iou,
        }
