"""Averages of networks' parameters, running or of two networks, and the learning rate's course."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def learning_rate_factor(step: int, share: float, warmup_steps: int, floor: float = 0.02) -> float:
    """Linear warm-up over steps, then a cosine down to `floor` as the share of the budget goes from 0 to 1."""
    cosine = 0.5 * (1 + math.cos(math.pi * share))
    return min(1.0, (step + 1) / max(warmup_steps, 1)) * (floor + (1 - floor) * cosine)


def follow(target: nn.Module, network: nn.Module, decay: float) -> None:
    """Target = decay target + (1 - decay) network, of the parameters; buffers stay (SoundCTM section 2, mu)."""
    kept, current = ([p.detach() for p in module.parameters()] for module in (target, network))
    torch._foreach_mul_(kept, decay)
    torch._foreach_add_(kept, current, alpha=1 - decay)


def between(one: Mapping[str, Tensor], other: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights `share` of the way from one network's to another's (Wortsman et al. 2022). Networks of one descent: a
    student and one trained on from it, or both from one teacher. Both must have the same tensors."""
    return {name: value.lerp(other[name], share) for name, value in one.items()}


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
        self.updates = int(state["updates"])
        for name, value in self.values.items():
            value.copy_(state["values"][name])

    def weights(self, network: nn.Module) -> dict[str, Tensor]:
        """The network's state dict with averaged parameters."""
        return {name: self.values.get(name, value) for name, value in network.state_dict().items()}
