"""What a codec loses: distances between clips and their reconstructions, and what decoding costs."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm.codecs.protocol import Codec
from soundctm_training.codec.crops import CropDraw
from soundctm_training.codec.settings import SAMPLE_RATE_HZ
from soundctm_training.evaluation.log_mel import log_mel
from soundctm_training.evaluation.metrics import log_spectral_distance_db, multi_scale_stft_distance
from soundctm_training.evaluation.sheet import write_sheet

_DECODED_SECONDS = 10.0
_SHOWN_CLIPS, _SHOWN_FRAMES = 4, 100
_SHOWN_SEED = 5


@dataclass(frozen=True)
class CodecReport:
    """Means over clips; 0 is a perfect reconstruction."""

    log_spectral_distance_db: float
    multi_scale_stft_distance: float
    mel_error_db: float
    decode_ms_per_10_s: float
    clips: int


@torch.inference_mode()
def reconstructions(codec: Codec, clips: Tensor, seed: int = 0) -> Tensor:
    """Clips [n, samples] through a codec, one at a time; latents are the posteriors' means, noise is seeded."""
    device = next(codec.buffers()).device
    generator = torch.Generator().manual_seed(seed)
    made = []
    for clip in clips:
        latent = codec.encode(clip.to(device)[None, None], None)
        shape = codec.decoder_noise_shape(latent.shape[2])
        noise = None if shape is None else torch.randn((1, *shape), generator=generator).to(device)
        made.append(codec.decode(latent, noise)[0, 0, : len(clip)].float().cpu())
    return torch.stack(made)


def mel_error_db(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Mean absolute difference of log-mel band powers in dB, of clips [n, samples]."""
    errors = [float((log_mel(x) - log_mel(y)).abs().mean()) for x, y in zip(a, b, strict=True)]
    return 10 / math.log(10) * sum(errors) / len(errors)


@torch.inference_mode()
def decode_milliseconds(codec: Codec, repeats: int = 3) -> float:
    """The shortest of several decodings of 10 s on the codec's device, with as many threads as torch has now."""
    device = next(codec.buffers()).device
    latent = codec.encode(torch.zeros(1, 1, round(_DECODED_SECONDS * SAMPLE_RATE_HZ), device=device), None)
    shape = codec.decoder_noise_shape(latent.shape[2])
    noise = None if shape is None else torch.zeros((1, *shape), device=device)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        codec.decode(latent, noise).cpu()
        times.append(time.perf_counter() - start)
    return 1000 * min(times[1:])


def codec_report(codec: Codec, clips: Tensor, made: Tensor | None = None) -> CodecReport:
    """Clips float32 [n, samples] at 44.1 kHz; `made` are their `reconstructions` where they are known already."""
    again, given = (reconstructions(codec, clips) if made is None else made).numpy(), clips.numpy()
    return CodecReport(
        float(log_spectral_distance_db(again, given).mean()),
        float(multi_scale_stft_distance(again, given).mean()),
        mel_error_db(again, given),
        decode_milliseconds(codec),
        len(clips),
    )


def write_reconstructions(codec: Codec, crops: CropDraw, hop_samples: int, folder: Path, step: int) -> None:
    """Some crops beside what the codec makes of them: WAV files and a sheet of spectrograms."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = crops.resized(_SHOWN_CLIPS, _SHOWN_FRAMES * hop_samples, _SHOWN_SEED).crops(0, slice(0, _SHOWN_CLIPS))
    made = reconstructions(codec, shown)
    rows = {}
    for number, (given, again) in enumerate(zip(shown.numpy(), made.numpy(), strict=True)):
        rows[f"clip {number}"] = (given, again)
        pair = np.concatenate([given, again])  # one file: first the clip, then its reconstruction
        soundfile.write(folder / f"step_{step:07d}_clip_{number}.wav", pair, SAMPLE_RATE_HZ, subtype="FLOAT")
    write_sheet(folder / f"step_{step:07d}.png", ("clip", "reconstruction"), rows)
