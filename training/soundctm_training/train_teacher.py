"""`soundctm train teacher`: the EDM teacher."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from soundctm.networks.dit import DiT
from soundctm_training.averaging import Average
from soundctm_training.config import OptimiserKind, Precision, TeacherTraining, TrainingConfig, need
from soundctm_training.dataset import Dataset, describe, draw_batch
from soundctm_training.loop import require_finite
from soundctm_training.memory import trainable_copy
from soundctm_training.runs import write_weights
from soundctm_training.samples import Sampler
from soundctm_training.teacher import Disturbance, draw_disturbance, teacher_loss
from soundctm_training.wordings import require_wordings, wordings_loss
from soundctm_training.workers import ALONE, Workers

TEACHER_FILE = "teacher.safetensors"
_LARGEST_GRADIENT = 1.0
_BETAS = (0.9, 0.99)


def make_optimiser(network: nn.Module, settings: TeacherTraining) -> torch.optim.Optimizer:
    parameters, rate, decay = network.parameters(), settings.learning_rate, settings.weight_decay
    if settings.optimiser is OptimiserKind.RADAM:
        return torch.optim.RAdam(parameters, rate, _BETAS, weight_decay=decay, decoupled_weight_decay=True)
    return torch.optim.AdamW(parameters, rate, _BETAS, weight_decay=decay, fused=True)


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """A CPU's fused attention is slow backwards: with the plain one a step of the starter takes a tenth less."""
    return nullcontext() if device.type != "cpu" else sdpa_kernel(SDPBackend.MATH)


class TeacherTrainer:
    """Network, optimiser and average; `train_step` is a function of the state and the run's step alone."""

    def __init__(
        self,
        config: TrainingConfig,
        data: Dataset,
        workers: Workers = ALONE,
        start: DiT | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        """`start`: an earlier teacher to begin from; None begins from a seeded random network."""
        self.config, self.data, self.workers, self.sampler = config, data, workers, sampler
        self.settings = need(config.teacher, "teacher", config)
        torch.manual_seed(self.settings.seed)
        self.text = need(config.text, "text", config)
        self.network = trainable_copy(start) if start else DiT(need(config.network, "network", config))
        self.network.to(workers.device)
        self.optimiser = make_optimiser(self.network, self.settings)
        require_wordings(data.text, self.text, self.network)
        self.average = Average(self.network, self.settings.ema)

    @property
    def warmup_steps(self) -> int:
        return self.settings.warmup_steps

    def train_step(self, step: int, rate: float) -> dict[str, float]:
        """One optimiser step; returns the mean loss of the whole batch."""
        choice, noise = self.workers.generators(self.settings.seed, step)
        batch = draw_batch(self.data, self.settings.lengths, self.text, self.network.spec.patch_frames, choice)
        disturbance = draw_disturbance(batch.latent.shape, self.settings, self.config.diffusion, noise)
        share, device = self.workers.share(len(batch.latent)), self.workers.device
        rows = share.rows
        lower = self.config.hardware.precision is Precision.BFLOAT16
        with torch.autocast(device.type, torch.bfloat16, enabled=lower), _attention(device):
            context = self.network.encode_context(batch.tokens[rows].to(device), batch.masks[rows].to(device))
            own = Disturbance(disturbance.level[rows].to(device), disturbance.noise[rows].to(device))
            latent = batch.latent[rows].to(device)
            losses = teacher_loss(self.network, latent, context, own, self.config.diffusion.sigma_data)
            wordings = self._wordings_loss(choice)
        loss = share.mean(losses)
        self.optimiser.zero_grad()
        (loss + self.text.contrast_weight * wordings).backward()
        self.workers.average_gradients(self.network.parameters())
        gradient = torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        mean = loss.detach()
        self.workers.average([mean])
        result = {"loss": float(mean), "wordings": float(wordings.detach()), "gradient": float(gradient)}
        require_finite(result, step, describe(self.data, batch))
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * rate
        self.optimiser.step()
        self.average.update(self.network)
        return result

    def _wordings_loss(self, generator: np.random.Generator) -> torch.Tensor:
        """The same for every worker, so that its gradient needs no average."""
        if self.text.contrast_weight <= 0:
            return torch.zeros((), device=self.workers.device)
        return wordings_loss(self.network, self.data.text, self.text, generator)

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load(state["average"])

    def export(self, folder: Path) -> None:
        """teacher.safetensors: the averaged weights."""
        write_weights(folder / TEACHER_FILE, self.average.weights(self.network))

    def sample(self, folder: Path, step: int) -> None:
        if self.sampler is not None:
            self.sampler.of_teacher(self.average.weights(self.network), folder, step)
