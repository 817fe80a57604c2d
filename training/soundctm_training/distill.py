"""Distils the CTM student.

`python -m soundctm_training.distill --config FILE --latents DIR --teacher FILE --out DIR --minutes M`
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from soundctm.networks.dit import DiT
from soundctm_training.config import StarterConfig, read_config, save_config
from soundctm_training.ctm import Contexts, Networks, StepLosses, distillation_backward, draw_indices
from soundctm_training.dataset import EMPTY, Batch, Dataset, draw_batch, open_dataset
from soundctm_training.levels import grid
from soundctm_training.runs import Average, Run, learning_rate_factor, open_run
from soundctm_training.workers import ALONE, Workers, join_workers

logger = logging.getLogger(__name__)

STUDENT_FILE = "student.safetensors"
TARGET_FILE = "target.safetensors"
_SAVE_SECONDS = 120.0
_REPORT_STEPS = 20
_SEED = 3
_LARGEST_GRADIENT = 10.0
_BETAS = (0.9, 0.99)  # with 0.999, RAdam's rectification alone would last as long as the run


def frozen_copy(network: DiT) -> DiT:
    copy = DiT(network.spec)
    copy.load_state_dict(network.state_dict())
    return copy.requires_grad_(False)


class Distiller:
    """Student, target and teacher, with RAdam on the student; `train_step` is a function of the run's step alone."""

    def __init__(self, config: StarterConfig, data: Dataset, teacher: DiT, workers: Workers = ALONE) -> None:
        self.config, self.data, self.workers = config, data, workers
        student = DiT(config.network)
        student.load_state_dict(teacher.state_dict())  # s and omega embeddings of a teacher are still zero
        self.networks = Networks(student, frozen_copy(teacher), frozen_copy(teacher))
        settings = config.distillation
        self.optimiser = torch.optim.RAdam(student.parameters(), settings.learning_rate, _BETAS)
        self.average = Average(student, settings.final_ema)
        self.levels = grid(settings.grid_points, config.diffusion)

    def contexts(self, batch: Batch) -> Contexts:
        tokens, masks = batch.tokens, batch.masks
        empty_tokens, empty_masks = self.data.text.rows(np.array([EMPTY], np.int32))
        with torch.no_grad():
            clean_tokens, clean_masks = self.data.text.rows(batch.captions)
            teacher = self.networks.teacher.encode_context(clean_tokens, clean_masks)
            target = self.networks.target.encode_context(tokens, masks)
            rows = len(batch.captions)
            empty = self.networks.teacher.encode_context(
                empty_tokens.expand(rows, -1, -1), empty_masks.expand(rows, -1), general=True
            )
        return Contexts(self.networks.student.encode_context(tokens, masks), target, teacher, empty)

    def train_step(self, step: int, learning_rate_factor: float) -> StepLosses:
        config, settings = self.config, self.config.distillation
        choice, noise = self.workers.generators(_SEED, step)
        batch = draw_batch(self.data, settings.lengths, config.text, config.network.patch_frames, choice)
        rows = len(batch.latent)
        indices = draw_indices(rows, settings, choice)
        omega = torch.from_numpy(choice.uniform(settings.omega_min, settings.omega_max, rows).astype(np.float32))
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor
        self.optimiser.zero_grad()
        losses = distillation_backward(
            self.networks, self.contexts(batch), batch.latent, indices, omega, self.levels, settings,
            config.diffusion, noise,
        )
        self.workers.average_gradients(self.networks.student.parameters())
        torch.nn.utils.clip_grad_norm_(self.networks.student.parameters(), _LARGEST_GRADIENT)
        self.optimiser.step()
        self._follow()
        self.average.update(self.networks.student)
        return losses

    def _follow(self) -> None:
        """Target = mu target + (1 - mu) student."""
        target, student = (
            [parameter.detach() for parameter in network.parameters()]
            for network in (self.networks.target, self.networks.student)
        )
        torch._foreach_lerp_(target, student, 1 - self.config.distillation.target_ema)

    def state(self) -> dict[str, object]:
        return {
            "student": self.networks.student.state_dict(),
            "target": self.networks.target.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
        }

    def load(self, state: dict[str, object]) -> None:
        self.networks.student.load_state_dict(state["student"])  # type: ignore[arg-type]
        self.networks.target.load_state_dict(state["target"])  # type: ignore[arg-type]
        self.optimiser.load_state_dict(state["optimiser"])  # type: ignore[arg-type]
        self.average.load(state["average"])  # type: ignore[arg-type]


def train(distiller: Distiller, folder: Path, minutes: float) -> None:
    """Until the budget is spent; student.safetensors holds the averaged weights."""
    run, state = open_run(folder, minutes)
    if state is not None:
        distiller.load(state)
    losses: list[StepLosses] = []
    workers = distiller.workers
    while (share := workers.agree(run.share)) < 1:
        factor = learning_rate_factor(run.step, share, distiller.config.distillation.warmup_steps)
        losses.append(distiller.train_step(run.step, factor))
        run.step += 1
        if workers.rank == 0 and run.step % _REPORT_STEPS == 0:
            means = np.mean([(loss.consistency, loss.denoising, loss.weight) for loss in losses], axis=0)
            run.report(consistency=float(means[0]), denoising=float(means[1]), weight=float(means[2]))
            losses.clear()
        if workers.rank == 0 and run.due(_SAVE_SECONDS):
            _save(run, distiller)
    if workers.rank == 0:
        _save(run, distiller)


def _save(run: Run, distiller: Distiller) -> None:
    run.save(distiller.state())
    student = distiller.average.weights(distiller.networks.student)
    for name, tensors in ((STUDENT_FILE, student), (TARGET_FILE, distiller.networks.target.state_dict())):
        aside = run.folder / (name + ".new")
        save_file(tensors, aside)
        aside.rename(run.folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--latents", type=Path, required=True, help="folder written by encode")
    parser.add_argument("--teacher", type=Path, required=True, help="teacher.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished run is continued")
    parser.add_argument("--minutes", type=float, required=True, help="budget over all parts of the run")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    config = read_config(arguments.config)
    save_config(config, arguments.out)
    teacher = DiT(config.network)
    teacher.load_state_dict(load_file(arguments.teacher))
    train(Distiller(config, open_dataset(arguments.latents), teacher, join_workers()), arguments.out, arguments.minutes)


if __name__ == "__main__":
    main()
