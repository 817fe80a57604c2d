"""Several processes that train one network, each on its rows of one batch; the result is that of a single process.

Started by `torchrun --nproc-per-node N -m -- soundctm_training.cli <stage>`, on one machine or many; without torchrun
there is one worker. All draws are made for the whole batch and cut, so the count of workers changes no draw.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed, nn

from soundctm.errors import SoundCTMError


class WorkersError(SoundCTMError):
    """The workers cannot share the work as asked."""

    reason = "TRAINING_WORKERS"


CPU = torch.device("cpu")


@dataclass(frozen=True)
class Workers:
    """`rank` 0 reports and saves."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU

    def generators(self, seed: int, step: int) -> tuple[np.random.Generator, torch.Generator]:
        """The randomness of one step, the same for all workers: NumPy's for choices, torch's (CPU) for noise."""
        return np.random.default_rng((seed, step)), torch.Generator().manual_seed((seed << 40) + step)

    def rows(self, batch: int) -> slice:
        """This worker's rows of a batch. Raises WorkersError where a batch has fewer rows than there are workers."""
        if batch < self.count:
            raise WorkersError(
                f"a batch of {batch} clips for {self.count} workers; raise batch_frames, or start fewer workers"
            )
        bounds = np.linspace(0, batch, self.count + 1).astype(int)
        return slice(int(bounds[self.rank]), int(bounds[self.rank + 1]))

    def weight(self, batch: int) -> float:
        """What this worker's mean over its rows counts in the mean over the batch, times the count of workers."""
        rows = self.rows(batch)
        return float((rows.stop - rows.start) * self.count / batch)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its mean over the workers, in place."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the workers."""
        self.average([p.grad for p in parameters if p.grad is not None])

    def agree(self, value: float) -> float:
        """The first worker's value, so that all stop at the same step."""
        if self.count == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        return float(shared.item())

    def any(self, value: bool) -> bool:
        """Whether it holds for one of them: a signal to one stops all after the same step."""
        if self.count == 1:
            return value
        shared = torch.tensor([float(value)], device=self.device)
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
        return bool(shared > 0)

    @contextmanager
    def one_after_the_first(self) -> Iterator[None]:
        """The first worker goes ahead; the others find what it wrote."""
        if self.rank:
            self.agree(0.0)
        yield
        if not self.rank:
            self.agree(0.0)

    def share(self, batch: int) -> Share:
        """Raises WorkersError where a batch has fewer rows than there are workers."""
        return Share(batch, self.rows(batch), self)


@dataclass(frozen=True)
class Share:
    """One worker's rows of a batch, and how its own values become the batch's."""

    batch: int
    rows: slice
    workers: Workers

    def mean(self, values: Tensor, count: int | None = None) -> Tensor:
        """Sum of this worker's values, weighted so that its mean over the workers is the mean over the `count` values
        all of them hold (None: one per row of the batch)."""
        return torch.mul(values.sum(), self.workers.count / (count or self.batch))

    def own(self, index: Tensor) -> Tensor:
        """Which of the batch's rows [n] are this worker's: bool [n]."""
        return torch.logical_and(index >= self.rows.start, index < self.rows.stop)


ALONE = Workers()


def join_workers(device: str = "auto") -> Workers:
    """The worker this process is, from torchrun's environment; `device` "auto" is this rank's GPU where there is one.

    Raises WorkersError for a GPU that is not there.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.device_count()
    if device == "cuda" and local >= gpus:
        raise WorkersError(f"worker {local} of this machine wants a GPU of its own and torch sees {gpus}; "
                           "start as many workers as there are GPUs, or set hardware.device=\"cpu\"")
    on_gpu = device != "cpu" and local < gpus
    place = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(place)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Workers(device=place)
    # Its functions hold, as default arguments, the process group there is when they are first imported, and the first
    # step of an optimiser imports them. The group would then outlive `destroy_process_group`, and its threads, cut off
    # as the interpreter ends, now and then abort a worker that had finished.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    return Workers(distributed.get_rank(), count, place)


@contextmanager
def joined(device: str = "auto") -> Iterator[Workers]:
    """`join_workers` for the time of a stage."""
    workers = join_workers(device)
    try:
        yield workers
    finally:
        if workers.count > 1:
            distributed.destroy_process_group()
