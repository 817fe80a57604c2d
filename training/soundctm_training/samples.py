"""What a network in training makes of a few prompts: WAV files and a sheet of spectrograms in the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from soundctm.codecs.protocol import Codec
from soundctm.networks.dit import DiT, TextContext
from soundctm.networks.preconditioning import jump
from soundctm.noise import Stream, standard_normal
from soundctm.plan import make_plan
from soundctm.sampling import run_plan
from soundctm.spec import DiffusionSpec
from soundctm_training.distillation.draws import grid
from soundctm_training.distillation.solver import guided, heun
from soundctm_training.evaluation.sheet import write_sheet
from soundctm_training.teacher import teacher_denoiser

_SEED = 1
_TEACHER_STEPS = 12
_STUDENT_STEPS = (1, 4)
_SAMPLE_RATE_HZ = 44100

Encode = Callable[[Sequence[str]], tuple[Tensor, Tensor]]  # texts -> tokens [B, L, D], masks [B, L]


@dataclass(frozen=True)
class Sampler:
    """Everything that turns weights into sounds; all on the CPU, so that it can run beside any training."""

    network: DiT
    codec: Codec
    encode: Encode
    prompts: tuple[str, ...]
    frames: int
    omega: float
    diffusion: DiffusionSpec

    def of_teacher(self, weights: Mapping[str, Tensor], folder: Path, step: int) -> None:
        """One guided Heun take of every prompt."""
        with torch.inference_mode():
            context, empty = self._contexts(weights)
            sigma_data = self.diffusion.sigma_data
            denoise = guided(
                teacher_denoiser(self.network, context, sigma_data),
                teacher_denoiser(self.network, empty, sigma_data),
                self._omega(),
            )
            start = torch.zeros(len(self.prompts), dtype=torch.long)
            levels = grid(_TEACHER_STEPS + 1, self.diffusion)
            latents = {f"Heun {_TEACHER_STEPS}": heun(denoise, self._start(), start, _TEACHER_STEPS, levels)}
            self._write(latents, folder, step)

    def of_student(self, weights: Mapping[str, Tensor], folder: Path, step: int) -> None:
        """A take of every prompt in one jump and in four."""
        with torch.inference_mode():
            context, _ = self._contexts(weights)
            omega, rows = self._omega(), len(self.prompts)
            latents = {}
            for steps in _STUDENT_STEPS:
                plan = make_plan(steps, 0.0, self.diffusion)
                latents[f"{steps} jumps"] = run_plan(
                    lambda z, leap: jump(
                        self.network, z, torch.full((rows,), leap.t), torch.full((rows,), leap.s), omega, context,
                        self.diffusion.sigma_data,
                    ),
                    self._start(), plan, torch.zeros_like,  # type: ignore[arg-type]  # gamma 0 asks for no noise
                )
            self._write(latents, folder, step)

    def _contexts(self, weights: Mapping[str, Tensor]) -> tuple[TextContext, TextContext]:
        self.network.load_state_dict({name: value.cpu() for name, value in weights.items()})
        return tuple(  # type: ignore[return-value]
            self.network.encode_context(*self.encode(texts)) for texts in (self.prompts, [""])
        )

    def _omega(self) -> Tensor:
        return torch.full((len(self.prompts),), self.omega)

    def _start(self) -> Tensor:
        shape = (self.network.spec.io_channels, self.frames)
        noise = [standard_normal(_SEED + row, Stream.START, 0, shape) for row in range(len(self.prompts))]
        return self.diffusion.sigma_max * torch.from_numpy(np.stack(noise))

    def _noise(self, latent: Tensor) -> Tensor | None:
        shape = self.codec.decoder_noise_shape(latent.shape[2])
        if shape is None:
            return None
        rows = [standard_normal(row, Stream.DECODER, 0, shape) for row in range(len(latent))]
        return torch.from_numpy(np.stack(rows))

    def _write(self, latents: Mapping[str, Tensor], folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        clips: dict[str, list[np.ndarray]] = {prompt: [] for prompt in self.prompts}
        for column, latent in latents.items():
            noise = self._noise(latent)
            audio = self.codec.decode(latent, noise).mean(1).float().numpy()
            for prompt, clip in zip(self.prompts, audio, strict=True):
                clips[prompt].append(clip)
                name = f"step_{step:07d}_{column}_{prompt}".replace(" ", "_").replace("/", "_")[:120]
                soundfile.write(folder / f"{name}.wav", clip, _SAMPLE_RATE_HZ, subtype="FLOAT")
        write_sheet(folder / f"step_{step:07d}.png", list(latents), clips)
