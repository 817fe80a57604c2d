"""Trains the decoder of the whitened mel codec: a spectral energy distance, no GAN. The encoder stays as fitted."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soundctm.bundle import CODEC_FILE
from soundctm.codecs.bands import frame_spectrum
from soundctm.codecs.mel import FRAME_SAMPLES, WhitenedMelCodec
from soundctm_training.averaging import Average
from soundctm_training.codec.crops import CropDraw
from soundctm_training.codec.report import write_reconstructions
from soundctm_training.config import DecoderTraining
from soundctm_training.loop import require_finite
from soundctm_training.runs import write_weights
from soundctm_training.workers import ALONE, Workers

_LOG_FLOOR = 1e-3  # of magnitudes whose full-scale sine is 1, under the loss's logarithm
_LINEAR_WEIGHT = 4.0
_SEED = 1
_BETAS, _LARGEST_GRADIENT = (0.8, 0.99), 5.0


def spectral_distances(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of log and of linear magnitudes over all resolutions."""
    terms = [
        ((x + _LOG_FLOOR).log() - (y + _LOG_FLOOR).log()).abs().mean() + _LINEAR_WEIGHT * (x - y).abs().mean()
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(terms).mean()


def spectra(audio: Tensor, windows: Sequence[Tensor]) -> list[Tensor]:
    """Magnitudes of [B, samples] at several resolutions, a full-scale sine reaching 1."""
    parts = (torch.view_as_real(frame_spectrum(audio, w, w.shape[0] // 4)) for w in windows)
    return [(part.square().sum(-1) + 1e-12).sqrt() * (2 / w.sum()) for part, w in zip(parts, windows, strict=True)]


def energy_distance(first: Tensor, second: Tensor, target: Tensor, windows: Sequence[Tensor]) -> Tensor:
    """d(y1, x) + d(y2, x) - d(y1, y2): zero in expectation when both draws y follow the law of x, else positive."""
    y1, y2, x = (spectra(audio, windows) for audio in (first, second, target))
    return spectral_distances(y1, x) + spectral_distances(y2, x) - spectral_distances(y1, y2)


@dataclass(frozen=True)
class DecoderDraw:
    """What is random in a step: noise on the latents [B, C, T], already scaled, and two white noises [B, T * 1024]."""

    latent: Tensor
    white: tuple[Tensor, Tensor]

    def rows(self, rows: slice, device: torch.device) -> DecoderDraw:
        first, second = (noise[rows].to(device) for noise in self.white)
        return DecoderDraw(self.latent[rows].to(device), (first, second))


def draw_decoder_noise(
    batch: int, channels: int, frames: int, latent_noise: float, generator: torch.Generator
) -> DecoderDraw:
    """Each clip's latents get noise of a deviation drawn from 0 to `latent_noise`."""
    level = latent_noise * torch.rand((batch, 1, 1), generator=generator)
    latent = level * torch.randn((batch, channels, frames), generator=generator)
    first, second = (torch.randn((batch, frames * FRAME_SAMPLES), generator=generator) for _ in range(2))
    return DecoderDraw(latent, (first, second))


def decoder_loss(codec: WhitenedMelCodec, audio: Tensor, draw: DecoderDraw, windows: Sequence[Tensor]) -> Tensor:
    """Energy distance of audio [B, samples] and its reconstructions; the network runs once for both draws."""
    with torch.no_grad():
        latent = codec.encode(audio[:, None]) + draw.latent
    spectrum = codec.vocoder.spectrum(latent, codec.envelope(latent))
    first, second = (codec.vocoder.synthesise(*spectrum, white) for white in draw.white)
    return energy_distance(first, second, audio, windows)


class MelTrainer:
    """The decoder alone; codec.safetensors holds its averaged weights and the fitted encoder."""

    warmup_steps = 50

    def __init__(
        self, codec: WhitenedMelCodec, crops: CropDraw, settings: DecoderTraining, workers: Workers = ALONE
    ) -> None:
        """`crops`: of settings.batch and settings.crop_frames."""
        self.codec, self.crops, self.settings, self.workers = codec.to(workers.device), crops, settings, workers
        self.parameters = list(codec.vocoder.parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, settings.learning_rate, _BETAS, weight_decay=0.01)
        self.average = Average(codec, settings.ema)
        self.windows = [torch.hann_window(size, device=workers.device) for size in settings.windows]

    def train_step(self, step: int, rate: float) -> dict[str, float]:
        settings, workers = self.settings, self.workers
        rows = workers.rows(settings.batch)
        _, generator = workers.generators(_SEED, step)
        channels = self.codec.whitening.project.shape[1]
        noise = draw_decoder_noise(
            settings.batch, channels, settings.crop_frames, settings.latent_noise, generator
        ).rows(rows, workers.device)
        audio = self.crops.crops(step, rows).to(workers.device)
        loss = decoder_loss(self.codec, audio, noise, self.windows) * workers.weight(settings.batch)
        self.optimiser.zero_grad()
        loss.backward()
        workers.average_gradients(self.parameters)
        gradient = torch.nn.utils.clip_grad_norm_(self.parameters, _LARGEST_GRADIENT)
        mean = loss.detach()
        workers.average([mean])
        result = {"loss": float(mean), "gradient": float(gradient)}
        require_finite(result, step, self.crops.describe(step, rows))
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate
        self.optimiser.step()
        self.average.update(self.codec)
        return result

    def state(self) -> dict[str, Any]:
        return {
            "codec": self.codec.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.codec.load_state_dict(state["codec"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load(state["average"])

    def export(self, folder: Path) -> None:
        write_weights(folder / CODEC_FILE, self.average.weights(self.codec))

    def sample(self, folder: Path, step: int) -> None:
        """Crops beside their reconstructions."""
        kept = copy.deepcopy(self.codec)
        kept.load_state_dict(self.average.weights(self.codec))
        write_reconstructions(kept.eval(), self.crops, FRAME_SAMPLES, folder, step)
