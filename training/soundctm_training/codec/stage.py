"""`soundctm train codec`: which codec a configuration names, where its crops come from, and what trains it."""

from __future__ import annotations

from pathlib import Path

import torch

from soundctm.codecs.mel import FRAME_SAMPLES, WhitenedMelCodec
from soundctm.spec import CodecKind, CodecSpec
from soundctm_training.codec.crops import CropDraw, PoolCrops, SourceCrops
from soundctm_training.codec.dac_training import DacTrainer
from soundctm_training.codec.mel_training import MelTrainer
from soundctm_training.codec.settings import SAMPLE_RATE_HZ, CodecTrainingError
from soundctm_training.codec.whitening import ENCODER_FILE, fit_encoder, load_encoder, write_encoder
from soundctm_training.config import Precision, TrainingConfig, need
from soundctm_training.data.opening import open_source
from soundctm_training.data.settings import DataKind, DataSettings
from soundctm_training.loop import Trainer
from soundctm_training.workers import ALONE, Workers

_DECODER_SEED = 0


def codec_kind(config: TrainingConfig) -> CodecKind:
    """[dac] or [codec]. Raises CodecTrainingError unless exactly one of them is there."""
    if (config.dac is None) == (config.codec is None):
        raise CodecTrainingError(
            f"configuration {config.name!r} has {'both [codec] and' if config.dac else 'neither [codec] nor'} [dac]; "
            "give [codec] with [decoder] for the whitened mel codec, or [dac] for the learned one"
        )
    return CodecKind.WHITENED_MEL if config.dac is None else CodecKind.GAUSSIAN_DAC


def codec_spec(config: TrainingConfig) -> CodecSpec:
    """The codec as a bundle names it. Raises CodecTrainingError."""
    if codec_kind(config) is CodecKind.GAUSSIAN_DAC:
        return need(config.dac, "dac", config).spec(config.diffusion.sigma_data)
    codec = need(config.codec, "codec", config)
    return CodecSpec(CodecKind.WHITENED_MEL, codec.channels, FRAME_SAMPLES, SAMPLE_RATE_HZ, codec.options())


def open_crops(data: DataSettings) -> CropDraw:
    """Crops of any data set; whoever trains asks for the size. Raises DataError, CodecTrainingError."""
    if data.kind is DataKind.POOLS:
        return PoolCrops.open(data.folder, batch=1, samples=FRAME_SAMPLES, seed=0)
    return SourceCrops(open_source(data), batch=1, samples=FRAME_SAMPLES, seed=0)


def fitted_codec(config: TrainingConfig, crops: CropDraw, folder: Path, *, first: bool = True) -> WhitenedMelCodec:
    """The whitened mel codec with the folder's encoder.safetensors, or with one fitted now (and kept by the `first`
    worker). Its decoder is untrained."""
    settings = need(config.codec, "codec", config)
    torch.manual_seed(_DECODER_SEED)
    if (folder / ENCODER_FILE).is_file():
        return load_encoder(settings, folder / ENCODER_FILE)
    codec = fit_encoder(settings, config.diffusion.sigma_data, crops)
    if first:
        folder.mkdir(parents=True, exist_ok=True)
        write_encoder(codec, folder)
    return codec


def codec_trainer(config: TrainingConfig, crops: CropDraw, folder: Path, workers: Workers = ALONE) -> Trainer:
    """What `loop.train` drives. Raises CodecTrainingError, ConfigError."""
    if config.hardware.precision is not Precision.FLOAT32:
        raise CodecTrainingError(
            f"hardware.precision is {config.hardware.precision.value!r}; a codec trains in float32, because the eight "
            "bits of a bfloat16 sample are audible"
        )
    if codec_kind(config) is CodecKind.GAUSSIAN_DAC:
        dac = need(config.dac, "dac", config)
        own = crops.resized(dac.batch, dac.crop_samples, dac.seed)
        return DacTrainer(dac, own, config.diffusion.sigma_data, workers)
    decoder = need(config.decoder, "decoder", config)
    codec = fitted_codec(config, crops, folder, first=workers.rank == 0)
    own = crops.resized(decoder.batch, decoder.crop_frames * FRAME_SAMPLES, 1)
    return MelTrainer(codec, own, decoder, workers)
