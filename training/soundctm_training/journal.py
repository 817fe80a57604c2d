"""Where a run's numbers go: the terminal, metrics.jsonl, TensorBoard, and Weights & Biases where it is asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from soundctm_training.config import ConfigError, TrainingConfig
from soundctm_training.runs import Run, plain

logger = logging.getLogger(__name__)

TENSORBOARD_FOLDER = "tensorboard"


class _Sink(Protocol):
    def write(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, run: Run) -> None:
        # its import takes seconds; a run that does not log to it should not wait
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: F401 - absence must show here
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.folder / TENSORBOARD_FOLDER), purge_step=run.step + 1)

    def write(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, run: Run, config: TrainingConfig) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                "reporting.wandb_project is set but the package wandb is not installed; "
                "pip install wandb, or take it out"
            ) from error
        self._run = wandb.init(
            project=config.reporting.wandb_project, name=run.folder.name, dir=str(run.folder), config=plain(config)
        )

    def write(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


@dataclass
class Journal:
    sinks: list[_Sink] = field(default_factory=list)

    def report(self, run: Run, values: Mapping[str, float]) -> None:
        """A line for people, a row in metrics.jsonl, and a point in every open sink."""
        row = run.row(values)
        logger.info("  ".join(f"{name} {value:.5g}" for name, value in row.items()))
        run.append_metrics(row)
        for sink in self.sinks:
            sink.write(values, run.step)


@contextmanager
def open_journal(run: Run, config: TrainingConfig, *, on: bool) -> Iterator[Journal]:
    """`on` False: a worker that reports nothing. Raises ConfigError when what was asked for is not installed."""
    sinks: list[_Sink] = []
    if on and config.reporting.tensorboard:
        try:
            sinks.append(_TensorBoard(run))
        except ImportError as error:
            raise ConfigError(
                "reporting.tensorboard is on but the package tensorboard is not installed; "
                "pip install 'soundctm-daw[train]', or set reporting.tensorboard=false"
            ) from error
    if on and config.reporting.wandb_project is not None:
        sinks.append(_WeightsAndBiases(run, config))
    try:
        yield Journal(sinks)
    finally:
        for sink in sinks:
            sink.close()
