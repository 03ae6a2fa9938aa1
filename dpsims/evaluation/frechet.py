"""Fréchet distance between two sets of images in the features of the evaluation network.

d^2 = |m_r - m_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2)), m and S the mean and covariance of the features of real and
generated images (Heusel et al. 2017, published; computed by torchmetrics in float64). The features here are those of
`unet.py`, not Inception's: values compare with the reference rows of the same protocol and with nothing else.
Like every such distance it depends on the number of images, which results therefore carry.
"""

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance


class _Given(nn.Module):
    """The extractor that torchmetrics asks for; our features are made before, once for all metrics, and pass through.

    torchmetrics hands images to a custom extractor exactly as they were given, whatever `normalize` says.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


class FrechetDistance:
    """Compare many sets of generated images with one set of real ones, whose statistics are computed once.

    Args:
        real: features (N,F) of the real images, N >= 2.
    """

    def __init__(self, real: Tensor) -> None:
        if real.ndim != 2 or len(real) < 2:
            raise ValueError(f"real features: shape {tuple(real.shape)}, expected (N,F) with N >= 2")
        self.num_features = real.shape[1]
        self._metric = FrechetInceptionDistance(_Given(self.num_features), reset_real_features=False)
        self._metric.set_dtype(torch.float64)
        self._metric.update(real.cpu().double(), real=True)

    def __call__(self, generated: Tensor) -> float:
        """The distance d^2 (that is what "FID" denotes) of features (N,F), N >= 2; 0 for the real set itself."""
        if generated.ndim != 2 or generated.shape[1] != self.num_features or len(generated) < 2:
            raise ValueError(
                f"generated features: shape {tuple(generated.shape)}, expected (N,{self.num_features}) with N >= 2"
            )
        self._metric.reset()  # forgets the generated side only
        self._metric.update(generated.cpu().double(), real=False)
        return max(0.0, float(self._metric.compute()))  # rounding leaves about -1e-9 for identical sets
