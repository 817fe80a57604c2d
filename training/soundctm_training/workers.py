"""Several processes that train one network: each draws its own batch, gradients are averaged.

Started by `torchrun --nproc-per-node N -m soundctm_training.<command>`; without torchrun there is one worker.
On a CPU, one process per core trains faster than one process with as many threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import distributed, nn


@dataclass(frozen=True)
class Workers:
    """`rank` 0 reports and saves."""

    rank: int = 0
    count: int = 1

    def generators(self, seed: int, step: int) -> tuple[np.random.Generator, torch.Generator]:
        """This worker's randomness for one step: NumPy's for choices, torch's for noise."""
        return np.random.default_rng((seed, step, self.rank)), torch.Generator().manual_seed(step * 64 + self.rank)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the workers."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def agree(self, value: float) -> float:
        """The first worker's value, so that all stop at the same step."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(shared, 0)
        return float(shared)


ALONE = Workers()


def join_workers() -> Workers:
    """The worker this process is, from torchrun's environment."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return ALONE
    distributed.init_process_group("gloo")
    return Workers(distributed.get_rank(), count)
