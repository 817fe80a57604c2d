"""What the commands of `soundctm train` do with their files: open, check that they fit together, and start."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from soundctm.errors import SoundCTMError
from soundctm.networks.dit import DiT
from soundctm.networks.loading import load_into
from soundctm.spec import DiTSpec
from soundctm_training.codec.description import open_codec
from soundctm_training.config import ConfigError, TrainingConfig, need
from soundctm_training.dataset import Dataset
from soundctm_training.distill import Distiller, carried_over
from soundctm_training.encode import text_encoder
from soundctm_training.files import read_weights
from soundctm_training.joined import open_datasets
from soundctm_training.loop import train
from soundctm_training.runs import Budget
from soundctm_training.samples import Sampler
from soundctm_training.train_teacher import TeacherTrainer
from soundctm_training.workers import joined

ShowPlan = Callable[..., None]  # what --dry-run prints


def network_of(spec: DiTSpec, path: Path) -> DiT:
    """Raises ConfigError naming a tensor the configured network does not have or lacks."""
    try:
        return load_into(lambda: DiT(spec), read_weights(path), path.name)
    except SoundCTMError as error:
        raise ConfigError(f"{path} is not a network of this configuration's [network]: {error}") from error


def require_fit(config: TrainingConfig, data: Dataset, frames: Sequence[int]) -> None:
    """Raises ConfigError where latents and configuration disagree in lengths, patches or text width."""
    network = need(config.network, "network", config)
    for length in frames:
        data.pool(length)
        if length % network.patch_frames:
            raise ConfigError(
                f"clips of {length} latent frames cannot be cut into patches of network.patch_frames="
                f"{network.patch_frames}; encode other lengths"
            )
    width = data.text.tokens.shape[2]
    if width != network.cond_dim:
        raise ConfigError(
            f"the text tokens of the latents' folder have width {width}, but network.cond_dim is {network.cond_dim}; "
            f"set it to {width}, or encode again"
        )


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def make_sampler(config: TrainingConfig, codec: Path | None, data: Dataset) -> Sampler | None:
    """None where no codec is given: latents alone cannot be heard."""
    if codec is None:
        return None
    decoder = open_codec(codec, config)
    encoder = text_encoder()
    return Sampler(
        network=DiT(need(config.network, "network", config)),
        codec=decoder,
        encode=encoder.encode,
        prompts=config.reporting.sample_prompts,
        frames=max(data.pools),
        omega=config.omega_default,
        diffusion=config.diffusion,
    )


def _facts(data: Dataset, budget: Budget, network: DiT, batch_frames: int) -> Mapping[str, object]:
    return {
        "clips": {frames: len(pool.captions) for frames, pool in data.pools.items()},
        "captions": len(data.text.texts),
        "parameters": parameters(network),
        "latent_frames_per_batch": batch_frames,
        "budget": budget,
    }


def train_teacher(
    config: TrainingConfig,
    latents: Sequence[Path],
    out: Path,
    budget: Budget,
    *,
    start: Path | None,
    codec: Path | None,
    dry_run: ShowPlan | None,
) -> None:
    """Raises ConfigError or RunError."""
    settings, spec = need(config.teacher, "teacher", config), need(config.network, "network", config)
    data = open_datasets(latents, spec.io_channels)
    require_fit(config, data, settings.lengths.frames)
    weights: Mapping[str, Tensor] | None = network_of(spec, start).state_dict() if start else None
    if dry_run is not None:
        dry_run(config, **_facts(data, budget, DiT(spec), settings.lengths.batch_frames))
        return
    with joined(config.hardware.device) as workers:
        sampler = make_sampler(config, codec, data) if workers.rank == 0 else None
        train(functools.partial(TeacherTrainer, config, data, workers, weights, sampler), config, out, budget, workers)


def distill_student(
    config: TrainingConfig,
    latents: Sequence[Path],
    teacher: Path,
    out: Path,
    budget: Budget,
    *,
    start: Path | None,
    start_teacher: Path | None,
    codec: Path | None,
    dry_run: ShowPlan | None,
) -> None:
    """`start`: an earlier student to begin from; `start_teacher`: the teacher that one had, where `teacher` is another.

    Raises ConfigError or RunError.
    """
    settings, spec = need(config.distillation, "distillation", config), need(config.network, "network", config)
    data = open_datasets(latents, spec.io_channels)
    require_fit(config, data, settings.lengths.frames)
    network = network_of(spec, teacher)
    weights = _first_student(spec, network, start, start_teacher)
    if dry_run is not None:
        dry_run(config, **_facts(data, budget, network, settings.lengths.batch_frames))
        return
    with joined(config.hardware.device) as workers:
        sampler = make_sampler(config, codec, data) if workers.rank == 0 else None
        make = functools.partial(Distiller, config, data, network, workers, sampler, weights)
        train(make, config, out, budget, workers)


def _first_student(
    spec: DiTSpec, teacher: DiT, start: Path | None, start_teacher: Path | None
) -> Mapping[str, Tensor] | None:
    """None: the student begins as its teacher. Raises ConfigError."""
    if start is None:
        if start_teacher is not None:
            raise ConfigError("--start-teacher names the teacher of the student that --start names; give --start too")
        return None
    student = network_of(spec, start)
    if start_teacher is None:
        return student.state_dict()
    return carried_over(student, network_of(spec, start_teacher), teacher)
