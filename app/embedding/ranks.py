"""The processes that train one network together: which one this is, and what they must agree on.

Started by torchrun (app.embedding.training_process), each process is a rank and holds the whole data set; of every batch
it takes each count-th row. Gradients are averaged by DistributedDataParallel; batch-norm statistics are rank 0's.

Invariants: every rank draws the same random numbers for the whole batch and keeps its share, so that order and
augmentation do not depend on how many there are; rank 0 alone speaks and writes.
Source: PyTorch's notes on DistributedDataParallel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process's place among `count`."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Tell whether this is the process that speaks."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """Give this rank's part of a batch's rows."""
        return rows[self.rank :: self.count]

    def wrap(self, network: nn.Module) -> nn.Module:
        """Give the network as the ranks train it together."""
        return network if self.count == 1 else DistributedDataParallel(network)

    def settle(self, network: nn.Module) -> None:
        """Give every rank the first one's buffers (batch-norm statistics), so that all answer alike."""
        if self.count > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, src=0)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.count > 1:
            dist.barrier()

    def send_bytes(self, data: bytes) -> bytes:
        """Give every rank the bytes that the first one has; the others pass none."""
        if self.count == 1:
            return data
        size = torch.tensor([len(data)], dtype=torch.int64)
        dist.broadcast(size, src=0)
        values = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.is_first and data else None
        if values is None:
            values = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(values, src=0)
        return values.numpy().tobytes()


ALONE = Ranks()
