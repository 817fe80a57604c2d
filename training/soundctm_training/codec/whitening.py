"""Fits the fixed encoder of the whitened mel codec: principal components of its log bands. Nothing is trained."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from soundctm.codecs.mel import FEATURES, FRAME_SAMPLES, WhitenedMelCodec
from soundctm_training.codec.crops import CropDraw
from soundctm_training.codec.settings import CodecTrainingError
from soundctm_training.config import CodecConfig
from soundctm_training.runs import write_weights

logger = logging.getLogger(__name__)

ENCODER_FILE = "encoder.safetensors"
_DECODER = "vocoder."
_FIT_BATCH, _FIT_FRAMES, _FIT_SEED = 10, 108, 0


def fit_whitening(codec: WhitenedMelCodec, batches: Iterable[Tensor], spread: float, sigma_data: float) -> float:
    """Fit mean, projection and its inverse on audio batches [B, samples]; returns the share of variance kept.

    Channel i has standard deviation ~ variance_i**(spread / 2); over all channels it is sigma_data.
    """
    count, total, outer = 0, torch.zeros(FEATURES, dtype=torch.float64), torch.zeros(FEATURES, FEATURES).double()
    for audio in batches:
        rows = codec.features(audio).flatten(0, 1).double()
        count, total, outer = count + len(rows), total + rows.sum(0), outer + rows.T @ rows
    mean = total / count
    values, vectors = torch.linalg.eigh(outer / count - mean[:, None] * mean[None])
    channels = codec.whitening.project.shape[1]
    kept, basis = values[-channels:].flip(0), vectors[:, -channels:].flip(1)
    std = kept ** (spread / 2)
    std = std * (sigma_data / std.square().mean().sqrt())
    scale = std / kept.sqrt()
    codec.whitening.mean.copy_(mean)
    codec.whitening.project.copy_(basis * scale)
    codec.whitening.restore.copy_((basis / scale).T)
    return float(kept.sum() / values.sum())


def encoder_tensors(codec: WhitenedMelCodec) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in codec.state_dict().items() if not name.startswith(_DECODER)}


def load_encoder(settings: CodecConfig, path: Path) -> WhitenedMelCodec:
    """A codec with a fitted encoder and an untrained decoder. Raises CodecTrainingError for a file of other sizes."""
    codec = WhitenedMelCodec(**settings.options())
    try:
        missing, unexpected = codec.load_state_dict(load_file(path), strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CodecTrainingError(
            f"{path} is no encoder of {settings.channels} channels ({error}); fit it anew"
        ) from error
    lacking = [name for name in missing if not name.startswith(_DECODER)]
    if lacking or unexpected:
        raise CodecTrainingError(f"{path} is no fitted encoder: lacks {lacking}, has {unexpected}; fit it anew")
    return codec


def fit_encoder(settings: CodecConfig, sigma_data: float, crops: CropDraw) -> WhitenedMelCodec:
    """A codec fitted on `fit_clips` crops of 2.5 s; its decoder is untrained."""
    codec = WhitenedMelCodec(**settings.options())
    draw = crops.resized(_FIT_BATCH, _FIT_FRAMES * FRAME_SAMPLES, _FIT_SEED)

    def batches() -> Iterator[Tensor]:
        for step in range(-(-settings.fit_clips // _FIT_BATCH)):
            yield draw.crops(step, slice(0, _FIT_BATCH))

    kept = fit_whitening(codec, batches(), settings.spread, sigma_data)
    logger.info("%d channels keep %.2f %% of the variance", settings.channels, 100 * kept)
    return codec


def write_encoder(codec: WhitenedMelCodec, folder: Path) -> None:
    """encoder.safetensors: enough to encode a data set while the decoder trains."""
    write_weights(folder / ENCODER_FILE, encoder_tensors(codec))
