"""`soundctm train distill`: a student out of a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm.networks.dit import DiT
from soundctm_training.averaging import Average, follow
from soundctm_training.config import Precision, TrainingConfig, need
from soundctm_training.dataset import EMPTY, Batch, Dataset, describe, draw_batch
from soundctm_training.distillation.draws import draw_omega, grid
from soundctm_training.distillation.methods import make_method
from soundctm_training.distillation.values import Contexts, Networks
from soundctm_training.loop import require_finite
from soundctm_training.memory import trainable_copy
from soundctm_training.runs import write_weights
from soundctm_training.samples import Sampler
from soundctm_training.workers import ALONE, Workers

STUDENT_FILE = "student.safetensors"
TARGET_FILE = "target.safetensors"
_LARGEST_GRADIENT = 10.0
_BETAS = (0.9, 0.99)  # with 0.999, RAdam's rectification alone would last as long as the run


def frozen_copy(network: DiT) -> DiT:
    return trainable_copy(network).requires_grad_(False)


def carried_over(student: DiT, its_teacher: DiT, teacher: DiT) -> dict[str, Tensor]:
    """`teacher` plus what an earlier student had learned beyond its own teacher (task arithmetic, Ilharco et al. 2023):
    where a teacher was trained on, its next student need not learn to jump again."""
    learned, beyond = student.state_dict(), its_teacher.state_dict()
    return {name: value + learned[name] - beyond[name] for name, value in teacher.state_dict().items()}


class Distiller:
    """Student, target and teacher, with RAdam on the student; `train_step` is a function of state and step alone."""

    def __init__(
        self,
        config: TrainingConfig,
        data: Dataset,
        teacher: DiT,
        workers: Workers = ALONE,
        sampler: Sampler | None = None,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`start`: weights the student begins from; None: the teacher's, whose s and omega embeddings are zero."""
        self.config, self.data, self.workers, self.sampler = config, data, workers, sampler
        self.settings = need(config.distillation, "distillation", config)
        self.text = need(config.text, "text", config)
        student = trainable_copy(teacher)
        if start is not None:
            student.load_state_dict(dict(start))
        networks = (student, frozen_copy(student), frozen_copy(teacher))
        self.networks = Networks(*(network.to(workers.device) for network in networks))
        self.optimiser = torch.optim.RAdam(self.networks.student.parameters(), self.settings.learning_rate, _BETAS)
        self.average = Average(self.networks.student, self.settings.final_ema)
        self.levels = grid(self.settings.grid_points, config.diffusion)
        self.method = make_method(self.settings, config.diffusion)

    @property
    def warmup_steps(self) -> int:
        return self.settings.warmup_steps

    def contexts(self, batch: Batch, rows: slice) -> Contexts:
        """The prompts of some rows, as each network encodes them; student and target share the disturbed texts."""
        networks, device = self.networks, self.workers.device
        tokens, masks = batch.tokens[rows].to(device), batch.masks[rows].to(device)
        captions = batch.captions[rows]
        with torch.no_grad():
            teacher = networks.teacher.encode_context(*self._texts(captions))
            target = networks.target.encode_context(tokens, masks)
            empty = networks.teacher.encode_context(*self._texts(np.full(1, EMPTY, np.int32)), general=True)
        return Contexts(networks.student.encode_context(tokens, masks), target, teacher, empty)

    def _texts(self, captions: NDArray[np.int32]) -> tuple[Tensor, Tensor]:
        tokens, masks = self.data.text.rows(captions)
        return tokens.to(self.workers.device), masks.to(self.workers.device)

    def train_step(self, step: int, rate: float) -> dict[str, float]:
        settings = self.settings
        choice, noise = self.workers.generators(settings.seed, step)
        batch = draw_batch(self.data, settings.lengths, self.text, self.networks.student.spec.patch_frames, choice)
        omega = draw_omega(len(batch.latent), settings, choice)
        share, device = self.workers.share(len(batch.latent)), self.workers.device
        self.optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.hardware.precision is Precision.BFLOAT16):
            losses = self.method.backward(
                self.networks, self.contexts(batch, share.rows), batch.latent[share.rows].to(device),
                omega[share.rows].to(device), self.levels.to(device), choice, noise, share,
            )  # fmt: skip
        self.workers.average_gradients(self.networks.student.parameters())
        gradient = torch.nn.utils.clip_grad_norm_(self.networks.student.parameters(), _LARGEST_GRADIENT)
        result = {
            "consistency": losses.consistency,
            "denoising": losses.denoising,
            "weight": losses.weight,
            "gradient": float(gradient),
        }
        require_finite(result, step, describe(self.data, batch))
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate
        self.optimiser.step()
        follow(self.networks.target, self.networks.student, self.settings.target_ema)
        self.average.update(self.networks.student)
        return result

    def state(self) -> dict[str, Any]:
        return {
            "student": self.networks.student.state_dict(),
            "target": self.networks.target.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.networks.student.load_state_dict(state["student"])
        self.networks.target.load_state_dict(state["target"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load(state["average"])

    def export(self, folder: Path) -> None:
        """student.safetensors holds the averaged weights, target.safetensors those of the EMA target."""
        write_weights(folder / STUDENT_FILE, self.average.weights(self.networks.student))
        write_weights(folder / TARGET_FILE, self.networks.target.state_dict())

    def sample(self, folder: Path, step: int) -> None:
        if self.sampler is not None:
            self.sampler.of_student(self.average.weights(self.networks.student), folder, step)
