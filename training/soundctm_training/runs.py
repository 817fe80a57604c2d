"""A run is a folder: the resolved configuration, metrics.jsonl, and a checkpoint from which it continues exactly.

A run has a budget of minutes, counted over all its parts; schedules follow the share of the budget spent.
"""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


@dataclass
class Run:
    """`spent_seconds` and `step` come from the checkpoint when the run is continued."""

    folder: Path
    budget_seconds: float
    spent_seconds: float = 0.0
    step: int = 0
    _resumed: float = field(default_factory=time.monotonic)
    _reported: float = field(default_factory=time.monotonic)

    @property
    def elapsed_seconds(self) -> float:
        return self.spent_seconds + time.monotonic() - self._resumed

    @property
    def share(self) -> float:
        """Of the budget, 0 to 1."""
        return min(self.elapsed_seconds / self.budget_seconds, 1.0)

    def due(self, every_seconds: float) -> bool:
        """True once every so often."""
        now = time.monotonic()
        if now - self._reported < every_seconds:
            return False
        self._reported = now
        return True

    def report(self, **values: float) -> None:
        """A line for people, and one in metrics.jsonl for programs."""
        row = {"step": self.step, "seconds": round(self.elapsed_seconds, 1), **values}
        logger.info("  ".join(f"{name} {value:.5g}" for name, value in row.items()))
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def save(self, state: dict[str, Any]) -> None:
        """Write aside, then rename: a stop at any moment leaves a whole checkpoint."""
        aside = self.folder / (CHECKPOINT + ".new")
        torch.save({**state, "step": self.step, "spent_seconds": self.elapsed_seconds}, aside)
        aside.rename(self.folder / CHECKPOINT)


def open_run(folder: Path, budget_minutes: float) -> tuple[Run, dict[str, Any] | None]:
    """A new run, or the checkpointed one in the folder with its state."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    if not path.is_file():
        return Run(folder, 60 * budget_minutes), None
    state = torch.load(path, weights_only=True)
    logger.info("continuing %s at step %d, %.0f s", folder, state["step"], state["spent_seconds"])
    return Run(folder, 60 * budget_minutes, state["spent_seconds"], state["step"]), state


def learning_rate_factor(step: int, share: float, warmup_steps: int, floor: float = 0.02) -> float:
    """Linear warm-up over steps, then a cosine down to `floor` as the share of the budget goes from 0 to 1."""
    cosine = 0.5 * (1 + math.cos(math.pi * share))
    return min(1.0, (step + 1) / max(warmup_steps, 1)) * (floor + (1 - floor) * cosine)


class Average:
    """Exponential moving average of a network's parameters; young averages forget faster."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.values = {name: p.detach().clone() for name, p in network.named_parameters()}

    def update(self, network: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = [p.detach() for _, p in network.named_parameters()]
        torch._foreach_lerp_(list(self.values.values()), current, 1 - decay)

    def state(self) -> dict[str, Any]:
        return {"updates": self.updates, "values": self.values}

    def load(self, state: dict[str, Any]) -> None:
        self.updates, self.values = state["updates"], state["values"]

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """The network's state dict with averaged parameters."""
        return {name: self.values.get(name, value) for name, value in network.state_dict().items()}
