"""`python -m soundctm_training.train_teacher --config FILE --latents DIR --out DIR --minutes M`: the EDM teacher."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from safetensors.torch import save_file

from soundctm.networks.dit import DiT
from soundctm_training.config import StarterConfig, read_config, save_config
from soundctm_training.dataset import Dataset, draw_batch, open_dataset
from soundctm_training.runs import Average, Run, learning_rate_factor, open_run
from soundctm_training.teacher import teacher_loss
from soundctm_training.workers import ALONE, Workers, join_workers

logger = logging.getLogger(__name__)

TEACHER_FILE = "teacher.safetensors"
_SAVE_SECONDS = 120.0
_REPORT_STEPS = 50
_SEED = 2


class TeacherTrainer:
    """Network, optimiser and average; `train_step` is a function of the run's step alone."""

    def __init__(self, config: StarterConfig, data: Dataset, workers: Workers = ALONE) -> None:
        torch.manual_seed(_SEED)
        self.config, self.data, self.workers = config, data, workers
        self.network = DiT(config.network)
        settings = config.teacher
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            settings.learning_rate,
            (0.9, 0.99),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.average = Average(self.network, settings.ema)

    def train_step(self, step: int, learning_rate_factor: float) -> float:
        """One optimiser step; returns the mean loss."""
        config = self.config
        choice, noise = self.workers.generators(_SEED, step)
        batch = draw_batch(self.data, config.teacher.lengths, config.text, config.network.patch_frames, choice)
        for group in self.optimiser.param_groups:
            group["lr"] = config.teacher.learning_rate * learning_rate_factor
        context = self.network.encode_context(batch.tokens, batch.masks)
        loss = teacher_loss(self.network, batch.latent, context, config.teacher, config.diffusion, noise).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.workers.average_gradients(self.network.parameters())
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.average.update(self.network)
        return loss.item()

    def state(self) -> dict[str, object]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
        }

    def load(self, state: dict[str, object]) -> None:
        self.network.load_state_dict(state["network"])  # type: ignore[arg-type]
        self.optimiser.load_state_dict(state["optimiser"])  # type: ignore[arg-type]
        self.average.load(state["average"])  # type: ignore[arg-type]


def train(trainer: TeacherTrainer, folder: Path, minutes: float) -> None:
    """Until the budget is spent; teacher.safetensors holds the averaged weights."""
    run, state = open_run(folder, minutes)
    if state is not None:
        trainer.load(state)
    losses: list[float] = []
    workers = trainer.workers
    while (share := workers.agree(run.share)) < 1:
        factor = learning_rate_factor(run.step, share, trainer.config.teacher.warmup_steps)
        losses.append(trainer.train_step(run.step, factor))
        run.step += 1
        if workers.rank == 0 and run.step % _REPORT_STEPS == 0:
            run.report(loss=sum(losses) / len(losses), rate=factor)
            losses.clear()
        if workers.rank == 0 and run.due(_SAVE_SECONDS):
            _save(run, trainer)
    if workers.rank == 0:
        _save(run, trainer)


def _save(run: Run, trainer: TeacherTrainer) -> None:
    run.save(trainer.state())
    aside = run.folder / (TEACHER_FILE + ".new")
    save_file(trainer.average.weights(trainer.network), aside)
    aside.rename(run.folder / TEACHER_FILE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--latents", type=Path, required=True, help="folder written by encode")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an unfinished run is continued")
    parser.add_argument("--minutes", type=float, required=True, help="budget over all parts of the run")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    config = read_config(arguments.config)
    save_config(config, arguments.out)
    train(TeacherTrainer(config, open_dataset(arguments.latents), join_workers()), arguments.out, arguments.minutes)


if __name__ == "__main__":
    main()
