"""The Fréchet distance of a generator in training: what `dpsims.training.fit` keeps the best checkpoint by."""

import torch
from torch import Tensor, nn

from dpsims.config import Config
from dpsims.data.loader import prepared_data
from dpsims.evaluation.measuring import Protocol, Yardstick
from dpsims.evaluation.references import Reference
from dpsims.evaluation.segmenter import ensure_evaluator, load_evaluator
from dpsims.processes import Processes
from dpsims.synthesis import noise_of_seed


class FrechetJudge:
    """Calling it gives a generator's distance on the first `train.judge_maps` held-out maps, as `dpsims evaluate` gives
    it for as many. These maps then have a say in which checkpoint is kept: a figure of it on the same maps flatters.

    Args:
        config: of the training; the evaluation network of its data is trained now where it is missing (minutes).
        progress: show bars.
        processes: that share the maps; all are to call it at the same step. None: this one draws them all.

    Raises:
        InputError: data without held-out photographs, or with fewer than four.
    """

    def __init__(self, config: Config, progress: bool = True, processes: Processes | None = None) -> None:
        self.data, self.processes = prepared_data(config), processes
        self.evaluator = ensure_evaluator(self.data.path, progress=progress)
        self.protocol = Protocol(max_maps=config.train.judge_maps)
        self.protocol.count(self.data)  # complains of too few held-out images now, and not at the first call
        self.yardstick: Yardstick | None = None  # made where the generator is

    def __call__(self, generator: nn.Module) -> float:
        """Fréchet distance, at least 0, of a generator in evaluation mode."""
        device = next(generator.parameters()).device
        if self.yardstick is None:
            self.yardstick = Yardstick(self.data, load_evaluator(self.evaluator, device), self.protocol, self.processes)
        shape = (generator.noise_tokens, generator.noise_dim)

        def draw(labels: Tensor, seeds: list[int]) -> Tensor:
            noise = torch.stack([noise_of_seed(seed, shape) for seed in seeds])
            return generator(labels.to(device), noise.to(device))[0]

        return self.yardstick.frechet(Reference("generator", "in training", draw, range(self.yardstick.count)))
