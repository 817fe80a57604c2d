"""Two training processes are one: the same draws cut in two, the same losses, the same weights."""

from __future__ import annotations

import dataclasses
import functools
import json
import socket
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import distributed, multiprocessing, nn

from small_training import CONFIG, dataset
from soundctm.networks.dit import DiT
from soundctm_training.distill import STUDENT_FILE, Distiller
from soundctm_training.distillation.settings import MethodName
from soundctm_training.lengths import LengthMix
from soundctm_training.loop import train
from soundctm_training.runs import METRICS, Budget
from soundctm_training.train_teacher import TeacherTrainer
from soundctm_training.workers import ALONE, Workers, WorkersError, join_workers

RUN = dataclasses.replace(
    CONFIG, reporting=dataclasses.replace(CONFIG.reporting, report_steps=1, tensorboard=False)
)
STEPS = Budget(steps=4)
METHODS = tuple(MethodName)
# Batches of two clips, of which the DSM loss sees one: the second worker has none.
FEW = LengthMix(frames=(16,), shares=(1.0,), batch_frames=32, odd_share=0.0)


def distiller(method: MethodName, workers: Workers = ALONE, **changes: LengthMix) -> Distiller:
    """Of a teacher drawn from a seed; its DSM loss sees half of each batch."""
    assert RUN.network is not None and RUN.distillation is not None
    torch.manual_seed(0)
    config = dataclasses.replace(RUN, distillation=dataclasses.replace(RUN.distillation, method=method, **changes))
    return Distiller(config, dataset(), DiT(RUN.network), workers)


def join(rank: int, port: int) -> Workers:
    with pytest.MonkeyPatch.context() as patch:
        settings = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in settings.items():
            patch.setenv(name, str(value))
        return join_workers("cpu")


def work(rank: int, port: int, folder: str) -> None:
    """One of two processes: average known gradients, agree on a value, write both down; then train together."""
    torch.set_num_threads(1)
    workers = join(rank, port)
    network = nn.Linear(3, 1)
    network.weight.grad = torch.full((1, 3), float(rank))
    network.bias.grad = torch.tensor([10.0 * rank])
    workers.average_gradients(network.parameters())
    agreed = [workers.agree(0.25 + rank), workers.any(rank == 1), workers.any(False)]
    torch.save([network.weight.grad, network.bias.grad, agreed], Path(folder) / f"{rank}.pt")
    train(lambda: TeacherTrainer(RUN, dataset(), workers), RUN, Path(folder) / "teacher", STEPS, workers)
    for method in METHODS:
        train(functools.partial(distiller, method, workers), RUN, Path(folder) / method.value, STEPS, workers)
    few = functools.partial(distiller, MethodName.CTM, workers, lengths=FEW)
    train(few, RUN, Path(folder) / "few", STEPS, workers)
    group = weakref.ref(distributed.group.WORLD)
    distributed.destroy_process_group()
    (Path(folder) / f"{rank}.json").write_text(json.dumps({"group_is_left": group() is not None}))


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder two workers left."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (port, str(folder)), nprocs=2)
    return folder


def test_gradients_are_averaged_and_the_first_worker_decides(together: Path) -> None:
    for rank in range(2):
        weight, bias, agreed = torch.load(together / f"{rank}.pt", weights_only=True)
        assert torch.equal(weight, torch.full((1, 3), 0.5)) and float(bias) == 5.0 and agreed == [0.25, True, False]


def test_nothing_is_left_of_the_process_group_whose_threads_could_abort_a_worker_at_its_exit(together: Path) -> None:
    for rank in range(2):
        assert json.loads((together / f"{rank}.json").read_text()) == {"group_is_left": False}


def losses(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in rows]


def test_two_workers_train_the_teacher_of_one(together: Path, tmp_path: Path) -> None:
    train(lambda: TeacherTrainer(RUN, dataset()), RUN, tmp_path, STEPS, ALONE)
    alone, shared = losses(tmp_path), losses(together / "teacher")
    assert len(alone) == len(shared) == STEPS.steps
    for one, two in zip(alone, shared, strict=True):  # sums over rows in another order: float32's rounding
        assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize(
    ("folder", "alone_too"),
    [
        *((method.value, functools.partial(distiller, method)) for method in METHODS),
        ("few", functools.partial(distiller, MethodName.CTM, lengths=FEW)),
    ],
    ids=[*(method.value for method in METHODS), "a worker without a row of the DSM loss"],
)
def test_two_workers_distil_the_student_of_one(
    folder: str, alone_too: Callable[[], Distiller], together: Path, tmp_path: Path
) -> None:
    train(alone_too, RUN, tmp_path, STEPS, ALONE)
    alone, shared = losses(tmp_path), losses(together / folder)
    assert len(alone) == len(shared) == STEPS.steps
    for one, two in zip(alone, shared, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
    alone_weights, shared_weights = (load_file(place / STUDENT_FILE) for place in (tmp_path, together / folder))
    for name, weight in alone_weights.items():
        torch.testing.assert_close(shared_weights[name], weight, rtol=1e-3, atol=1e-5)


def test_rows_are_shared_out_and_too_few_are_an_error() -> None:
    workers = [Workers(rank, 3) for rank in range(3)]
    rows = [list(range(8))[worker.rows(8)] for worker in workers]
    assert [*rows[0], *rows[1], *rows[2]] == list(range(8)) and min(len(part) for part in rows) == 2
    assert sum(worker.weight(8) for worker in workers) == pytest.approx(3)
    with pytest.raises(WorkersError, match="a batch of 2 clips for 3 workers"):
        workers[0].rows(2)


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(WorkersError, match="wants a GPU of its own and torch sees 0"):
        join_workers("cuda")
