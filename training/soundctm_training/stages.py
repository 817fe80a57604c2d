"""What the commands of `soundctm train` do with their files: open, check that they fit together, and start."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from soundctm.networks.dit import DiT
from soundctm.spec import DiTSpec
from soundctm_training.averaging import between
from soundctm_training.codec.description import open_codec
from soundctm_training.config import ConfigError, TrainingConfig, need
from soundctm_training.dataset import Dataset
from soundctm_training.distill import Distiller, carried_over
from soundctm_training.encode import text_encoder
from soundctm_training.files import read_network
from soundctm_training.joined import open_datasets
from soundctm_training.loop import train
from soundctm_training.runs import Budget, write_weights
from soundctm_training.samples import Sampler
from soundctm_training.train_teacher import TeacherTrainer
from soundctm_training.workers import joined

ShowPlan = Callable[..., None]  # what --dry-run prints


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


def make_sampler(config: TrainingConfig, spec: DiTSpec, codec: Path | None, data: Dataset) -> Sampler | None:
    """Of networks of `spec`; None where no codec is given: latents alone cannot be heard."""
    if codec is None:
        return None
    decoder = open_codec(codec, config)
    encoder = text_encoder()
    return Sampler(
        network=DiT(spec),
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
    first = read_network(spec, start) if start else None
    if dry_run is not None:
        dry_run(config, **_facts(data, budget, first or DiT(spec), settings.lengths.batch_frames))
        return
    with joined(config.hardware.device) as workers:
        sampler = make_sampler(config, first.spec if first else spec, codec, data) if workers.rank == 0 else None
        train(functools.partial(TeacherTrainer, config, data, workers, first, sampler), config, out, budget, workers)


def average_networks(config: TrainingConfig, one: Path, other: Path, share: float, out: Path) -> None:
    """Write the weights `share` of the way from one file's to the other's. Raises ConfigError or RunError."""
    if not 0 <= share <= 1:
        raise ConfigError(f"--share is {share}; give a share from 0, the first network's weights, to 1, the second's")
    spec = need(config.network, "network", config)
    first, second = read_network(spec, one), read_network(spec, other)
    _require_same_memory(second, other, first)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_weights(out, between(first.state_dict(), second.state_dict(), share))


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
    network = read_network(spec, teacher)
    weights = _first_student(spec, network, start, start_teacher)
    if dry_run is not None:
        dry_run(config, **_facts(data, budget, network, settings.lengths.batch_frames))
        return
    with joined(config.hardware.device) as workers:
        sampler = make_sampler(config, network.spec, codec, data) if workers.rank == 0 else None
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
    student = read_network(spec, start)
    _require_same_memory(student, start, teacher)
    if start_teacher is None:
        return student.state_dict()
    its_teacher = read_network(spec, start_teacher)
    _require_same_memory(its_teacher, start_teacher, teacher)
    return carried_over(student, its_teacher, teacher)


def _require_same_memory(network: DiT, path: Path, other: DiT) -> None:
    if network.spec != other.spec:
        raise ConfigError(
            f"{path} remembers {_remembered(network)} and the network it is to go with {_remembered(other)}; give both "
            "the memory of one (`soundctm train remember`)"
        )


def _remembered(network: DiT) -> str:
    return f"{network.spec.text_memory} texts{' by their phrases' if network.spec.text_phrases else ''}"
