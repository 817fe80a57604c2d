"""Two training processes take the same step: the mean of their gradients."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
from torch import multiprocessing, nn

from soundctm_training.workers import ALONE, join_workers


def work(rank: int, port: int, folder: str) -> None:
    """One of two processes: average known gradients, agree on a value, write both down."""
    with pytest.MonkeyPatch.context() as patch:
        settings = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in settings.items():
            patch.setenv(name, str(value))
        workers = join_workers()
    network = nn.Linear(3, 1)
    network.weight.grad = torch.full((1, 3), float(rank))
    network.bias.grad = torch.tensor([10.0 * rank])
    workers.average_gradients(network.parameters())
    agreed = workers.agree(0.25 + rank)
    torch.save([network.weight.grad, network.bias.grad, agreed], Path(folder) / f"{rank}.pt")


def test_gradients_are_averaged_and_the_first_worker_decides(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        weight, bias, agreed = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.equal(weight, torch.full((1, 3), 0.5)) and float(bias) == 5.0 and agreed == 0.25


def test_workers_draw_different_batches_and_one_alone_changes_nothing() -> None:
    network = nn.Linear(2, 1)
    network.weight.grad = torch.ones(1, 2)
    ALONE.average_gradients(network.parameters())
    assert torch.equal(network.weight.grad, torch.ones(1, 2)) and ALONE.agree(0.5) == 0.5
    first, second = (type(ALONE)(rank, 2).generators(3, 7)[0].random() for rank in range(2))
    assert first != second
