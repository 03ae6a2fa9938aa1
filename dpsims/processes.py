"""What the processes of one training share, on one GPU each or on CPUs: sums, averages, gradients, and one that writes.

Every process works on its share of each batch, and all draws are functions of the global sample (`dpsims.draws`), so
the sum over processes is what one process with the whole batch has. Networks are not wrapped: gradients are averaged
once a step, in one piece, by `average_gradients`. With one process everything here returns what it was given.
"""

import torch
from accelerate import Accelerator
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from dpsims.errors import InputError


class Processes:
    """The processes that `accelerate launch` started, this one among them.

    Args:
        accelerator: of this process.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.number, self.rank = accelerator.num_processes, accelerator.process_index
        self.main = accelerator.is_main_process  # of all hosts: it alone writes

    def sum(self, x: Tensor) -> Tensor:
        """Over all processes, of the same shape; without gradient."""
        return x if self.number == 1 else self.accelerator.reduce(x.detach(), "sum")

    def mean(self, x: Tensor) -> Tensor:
        """Over all processes, of the same shape; without gradient."""
        return x if self.number == 1 else self.sum(x) / self.number

    def any(self, flag: bool) -> bool:
        """Whether it is True in one of them: a signal reaches some earlier than others."""
        return flag if self.number == 1 else bool(self.sum(torch.tensor(float(flag), device=self.accelerator.device)))

    def average(self, log: dict[str, Tensor | float]) -> dict[str, float]:
        """The mean of every number over the processes, which all have the same names."""
        values = torch.tensor([float(value) for value in log.values()], dtype=torch.float64)
        return dict(zip(log, self.mean(values.to(self.accelerator.device)).tolist(), strict=True))

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Gives all processes the mean of their gradients; a missing one counts as zero."""
        if self.number == 1:
            return
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        flat = self.mean(torch.cat([p.grad.flatten() for p in parameters]))
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad.copy_(part.view_as(p))

    def check_batch(self, batch: int, noises_per_map: int, pieces: int) -> None:
        """Raises InputError where the images of a batch cannot be shared out."""
        if batch % (self.number * noises_per_map * pieces):
            raise InputError(
                f"train.batch_size: {batch} images cannot be shared by {self.number} process(es) in groups of "
                f"train.noises_per_map={noises_per_map}, in train.accumulate={pieces} pieces; give a multiple of "
                f"{self.number * noises_per_map * pieces}"
            )

    def synchronised(self, network: nn.Module) -> nn.Module:
        """Itself, with batch norms over all processes where there are several and it trains any."""
        frozen = getattr(network, "frozen", False)  # a frozen encoder's batch norms look at no batch
        if self.number == 1 or frozen or not any(isinstance(m, nn.BatchNorm2d) for m in network.modules()):
            return network
        if self.accelerator.device.type == "cpu":
            raise InputError(
                "batch norm over several processes needs GPUs; set generator.norm=group and discriminator.frozen=true "
                "(or a backbone without batch norm), or use one process"
            )
        return convert_sync_batchnorm(network)  # timm's knows batch norms with an activation in them
