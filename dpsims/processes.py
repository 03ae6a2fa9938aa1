"""What several processes share, on one GPU each or on CPUs: sums, averages, gradients, work, and one that writes.

In a training every process works on its share of each batch, and all draws are functions of the global sample
(`dpsims.draws`), so the sum over processes is what one process with the whole batch has. Networks are not wrapped:
gradients are averaged once a step, in one piece, by `average_gradients`. In an evaluation each process measures its
share of the label maps. With one process everything here returns what it was given.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from dpsims.checks import as_device
from dpsims.errors import InputError

T = TypeVar("T")
PATIENCE = timedelta(hours=1)  # with a process that others wait for: it may have data to check


@contextmanager
def launched(device: str | None = None) -> Iterator[tuple["Processes", torch.device | str | None]]:
    """Joins the processes that `torchrun` or `accelerate launch` started, and leaves them at the end of the block.

    On a machine without GPUs they are joined on CPUs: accelerate alone would take each of them for the only one.

    Args:
        device: what this process would compute on if it were alone; "cpu" has several compute on CPUs beside GPUs.

    Yields:
        The processes, and where this one computes: `device` where it is the only one, else a GPU of its own or the CPU.

    Raises:
        InputError: a device by number for several processes, or one that cannot be used.
    """
    if "LOCAL_RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Processes(), device
        return
    place = as_device(device)
    if device is not None and place.index is not None:
        raise InputError(f"device: {device}, but each of several processes takes a GPU of its own; leave it out")
    patience = InitProcessGroupKwargs(timeout=PATIENCE)
    accelerator = Accelerator(cpu=place.type == "cpu", kwargs_handlers=[patience])
    yield Processes(accelerator), accelerator.device
    accelerator.end_training()  # not after an error: others may wait for this process, and the launcher ends them


class Processes:
    """The processes that were started together, this one among them.

    Args:
        accelerator: of this process; None: it is the only one.
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.accelerator = accelerator
        self.number, self.rank, self.main = 1, 0, True
        self.device = torch.device("cpu")
        if accelerator is not None:
            self.number, self.rank = accelerator.num_processes, accelerator.process_index
            self.main = accelerator.is_main_process  # of all hosts: it alone writes
            self.device = accelerator.device

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Those that this process is to work on, so that each is one process's."""
        return items[self.rank :: self.number]

    def table(self, mine: Tensor) -> Tensor:
        """Rows of all processes, on the CPU: each brings a table of the same shape, with zeros in the others' rows."""
        return mine if self.number == 1 else self.sum(mine.to(self.device)).cpu()

    def sum(self, x: Tensor) -> Tensor:
        """Over all processes, of the same shape; without gradient."""
        return x if self.number == 1 else self.accelerator.reduce(x.detach(), "sum")

    def mean(self, x: Tensor) -> Tensor:
        """Over all processes, of the same shape; without gradient."""
        return x if self.number == 1 else self.sum(x) / self.number

    def any(self, flag: bool) -> bool:
        """Whether it is True in one of them: a signal reaches some earlier than others."""
        return flag if self.number == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def average(self, log: dict[str, Tensor | float]) -> dict[str, float]:
        """The mean of every number over the processes, which all have the same names."""
        values = torch.tensor([float(value) for value in log.values()], dtype=torch.float64)
        return dict(zip(log, self.mean(values.to(self.device)).tolist(), strict=True))

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
        if self.device.type == "cpu":
            raise InputError(
                "batch norm over several processes needs GPUs; set generator.norm=group and discriminator.frozen=true "
                "(or a backbone without batch norm), or use one process"
            )
        return convert_sync_batchnorm(network)  # timm's knows batch norms with an activation in them
