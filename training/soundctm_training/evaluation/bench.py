"""What every student is judged on: the same prompts, seeds, noise, real clips and classifier.

A trial is one clip to generate. Its noise comes from its own seed alone (`soundctm.noise`), so two students differ by
their weights and nothing else, and their figures can be compared pair by pair.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from soundctm.codecs.protocol import Codec
from soundctm.noise import Stream, standard_normal
from soundctm.spec import DiffusionSpec
from soundctm.text.protocol import TextEncoder
from soundctm_training.evaluation.classifier import SoundClassifier
from soundctm_training.evaluation.clips import labelled_sound
from soundctm_training.evaluation.metrics import Floats, MetricError

SAMPLE_RATE_HZ = 44_100

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BenchSettings:
    """How much is judged. Real clips are synthesised from `real_seed`, which no training may have drawn from."""

    prompts_per_label: int = 2
    seeds_per_prompt: int = 2
    seconds: float = 2.5
    first_seed: int = 91_000_001
    real_seed: int = 91_500_001
    reference_per_label: int = 8  # real clips the Frechet distance and the KL compare with
    batch: int = 16


@dataclass(frozen=True)
class Trial:
    label: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class Takes:
    """Clips and what the classifier makes of them: audio [n, samples], embeddings [n, d], posteriors [n, L]."""

    audio: Audio
    embeddings: Floats
    posteriors: Floats


@dataclass(frozen=True)
class Reference:
    """Real clips: embeddings [m, d] and the mean posterior of each label's clips [L, L]."""

    embeddings: Floats
    posteriors: Floats

    @cached_property
    def centre(self) -> Floats:
        return np.asarray(self.embeddings.mean(axis=0), np.float64)

    @cached_property
    def scale(self) -> Floats:
        return np.asarray(self.embeddings.std(axis=0) + 1e-6, np.float64)


@dataclass(frozen=True)
class Bench:
    """Everything but the network. Tensors lie on the CPU; `tokens` [n, L, D], `masks` [n, L], one row per trial."""

    settings: BenchSettings
    trials: tuple[Trial, ...]
    tokens: Tensor
    masks: Tensor
    empty_tokens: Tensor  # [1, L, D]
    empty_masks: Tensor
    channels: int
    frames: int
    diffusion: DiffusionSpec
    codec: Codec
    classifier: SoundClassifier
    real: Takes           # one real clip per trial, of the trial's class
    reference: Reference

    @property
    def prompts(self) -> list[str]:
        """Groups of the standard errors."""
        return [trial.prompt for trial in self.trials]

    @property
    def targets(self) -> list[int]:
        return [self.classifier.labels.index(trial.label) for trial in self.trials]

    def batches(self) -> list[range]:
        count, size = len(self.trials), self.settings.batch
        return [range(first, min(first + size, count)) for first in range(0, count, size)]

    def texts(self, rows: range) -> tuple[Tensor, Tensor]:
        """Tokens and masks of some trials' prompts."""
        return self.tokens[rows.start : rows.stop], self.masks[rows.start : rows.stop]

    def no_texts(self, rows: range) -> tuple[Tensor, Tensor]:
        """Tokens and masks of the empty prompt, one row per trial."""
        return self.empty_tokens.expand(len(rows), -1, -1), self.empty_masks.expand(len(rows), -1)

    def normals(self, rows: range, stream: Stream, index: int, shape: tuple[int, int]) -> Tensor:
        """Standard normals of some trials' own streams: [rows, *shape]."""
        seeds = [self.trials[row].seed for row in rows]
        return torch.from_numpy(np.stack([standard_normal(seed, stream, index, shape) for seed in seeds]))

    def start(self, rows: range) -> Tensor:
        """Where trajectories begin, at sigma_max: [rows, C, T]."""
        noise = self.normals(rows, Stream.START, 0, (self.channels, self.frames))
        return self.diffusion.sigma_max * noise

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Audio:
        """Latents of all trials [n, C, T] -> mono audio [n, samples]. Raises MetricError where one is not finite."""
        if not bool(torch.isfinite(latents).all()):
            raise MetricError("a generated latent is NaN or infinite; the weights are broken, nothing was judged")
        shape = self.codec.decoder_noise_shape(latents.shape[2])
        parts = []
        for rows in self.batches():
            part = latents[rows.start : rows.stop]
            noise = None if shape is None else self.normals(rows, Stream.DECODER, 0, shape).to(part.device)
            parts.append(self.codec.decode(part, noise).mean(dim=1).float().cpu())
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def encode(self, audio: Audio) -> Tensor:
        """Audio of all trials [n, samples] -> latents [n, C, T]: the mean of the codec's posterior."""
        device = next(self.codec.parameters()).device
        parts = [torch.from_numpy(audio[rows.start : rows.stop, None]).to(device) for rows in self.batches()]
        return torch.cat([self.codec.encode(part, None) for part in parts])

    def takes(self, audio: Audio) -> Takes:
        return Takes(audio, *self.classifier.embed(audio))

    def facts(self) -> dict[str, Any]:
        """What was judged, for the record; equal digests mean equal prompts, seeds and lengths."""
        content = repr([dataclasses.astuple(trial) for trial in self.trials]) + str(self.frames)
        return {
            **dataclasses.asdict(self.settings),
            "clips": len(self.trials),
            "frames": self.frames,
            "labels": len({trial.label for trial in self.trials}),
            "distinct_prompts": len(set(self.prompts)),
            "digest": hashlib.sha256(content.encode()).hexdigest()[:16],
        }


def make_trials(prompts: Mapping[str, Sequence[str]], settings: BenchSettings) -> tuple[Trial, ...]:
    """Every prompt in turn with its own seeds. Raises MetricError where a label has too few prompts."""
    trials: list[Trial] = []
    for label, texts in prompts.items():
        if len(texts) < settings.prompts_per_label:
            raise MetricError(
                f"{label} has {len(texts)} held-out prompts and {settings.prompts_per_label} are asked for; "
                "write more or ask for fewer"
            )
        for text in texts[: settings.prompts_per_label]:
            first = settings.first_seed + len(trials)
            trials += [Trial(label, text, seed) for seed in range(first, first + settings.seeds_per_prompt)]
    return tuple(trials)


def make_reference(
    classifier: SoundClassifier, settings: BenchSettings, samples: int, labels: Sequence[str]
) -> Reference:
    """`reference_per_label` real clips of every judged label, as the classifier hears them."""
    embeddings, posteriors = [], np.full((len(classifier.labels), len(classifier.labels)), math.nan)
    for position, label in enumerate(labels):
        first = position * settings.reference_per_label
        clips = [
            labelled_sound(label, settings.real_seed, first + index, samples).audio
            for index in range(settings.reference_per_label)
        ]
        of_label, probabilities = classifier.embed(np.stack(clips))
        embeddings.append(of_label)
        posteriors[classifier.labels.index(label)] = probabilities.mean(axis=0)
    return Reference(np.concatenate(embeddings), posteriors)


def make_bench(
    prompts: Mapping[str, Sequence[str]],
    text: TextEncoder,
    codec: Codec,
    classifier: SoundClassifier,
    diffusion: DiffusionSpec,
    *,
    channels: int,
    hop_samples: int,
    patch_frames: int,
    settings: BenchSettings | None = None,
) -> Bench:
    """`prompts` by class label; classes the classifier does not know are refused.

    Raises MetricError for an unknown class or too few prompts.
    """
    settings = settings or BenchSettings()
    unknown = sorted(set(prompts) - set(classifier.labels))
    if unknown:
        raise MetricError(f"the classifier knows no {', '.join(unknown)}; train it on them, or leave their prompts out")
    trials = make_trials(prompts, settings)
    frames = -(-math.ceil(settings.seconds * SAMPLE_RATE_HZ / hop_samples) // patch_frames) * patch_frames
    samples = frames * hop_samples
    texts = list(dict.fromkeys(trial.prompt for trial in trials))
    tokens, masks = text.encode([*texts, ""])
    rows = torch.tensor([texts.index(trial.prompt) for trial in trials])
    audio = np.stack(
        [labelled_sound(trial.label, settings.real_seed + 1, row, samples).audio for row, trial in enumerate(trials)]
    )
    return Bench(
        settings, trials, tokens[rows].clone(), masks[rows].clone(), tokens[-1:].clone(), masks[-1:].clone(),
        channels, frames, diffusion, codec, classifier,
        Takes(audio, *classifier.embed(audio)), make_reference(classifier, settings, samples, list(prompts)),
    )
