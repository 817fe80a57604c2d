"""`soundctm train codec`: where the crops come from and what trains on them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from soundctm.codecs.mel import FRAME_SAMPLES, WhitenedMelCodec
from soundctm.errors import TensorMismatchError
from soundctm.networks.loading import check_fit
from soundctm.spec import CodecKind
from soundctm_training.codec.crops import CropDraw, PoolCrops, SourceCrops
from soundctm_training.codec.dac_training import DacTrainer
from soundctm_training.codec.description import codec_kind, codec_spec, make_codec
from soundctm_training.codec.mel_training import MelTrainer
from soundctm_training.codec.settings import CodecTrainingError
from soundctm_training.codec.whitening import ENCODER_FILE, fit_encoder, load_encoder, write_encoder
from soundctm_training.config import ConfigError, Precision, TrainingConfig, need
from soundctm_training.data.opening import open_source
from soundctm_training.data.settings import DataKind, DataSettings
from soundctm_training.files import read_weights
from soundctm_training.loop import Trainer, train
from soundctm_training.runs import Budget
from soundctm_training.workers import ALONE, Workers, joined

_DECODER_SEED = 0

ShowPlan = Callable[..., None]  # what --dry-run prints


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


def codec_trainer(
    config: TrainingConfig, crops: CropDraw, folder: Path, workers: Workers = ALONE, start: Path | None = None
) -> Trainer:
    """What `loop.train` drives. `start`: weights of an earlier codec to begin from, which for the mel codec fix the
    encoder too. Raises CodecTrainingError, ConfigError."""
    if config.hardware.precision is not Precision.FLOAT32:
        raise CodecTrainingError(
            f"hardware.precision is {config.hardware.precision.value!r}; a codec trains in float32, because the eight "
            "bits of a bfloat16 sample are audible"
        )
    if codec_kind(config) is CodecKind.GAUSSIAN_DAC:
        dac = need(config.dac, "dac", config)
        own = crops.resized(dac.batch, dac.crop_samples, dac.seed)
        trainer = DacTrainer(dac, own, config.diffusion.sigma_data, workers)
        if start is not None:
            _fill(trainer.codec, start)
        return trainer
    decoder = need(config.decoder, "decoder", config)
    codec = fitted_codec(config, crops, folder, first=workers.rank == 0) if start is None else _started(config, start)
    own = crops.resized(decoder.batch, decoder.crop_frames * FRAME_SAMPLES, 1)
    return MelTrainer(codec, own, decoder, workers)


def _started(config: TrainingConfig, start: Path) -> WhitenedMelCodec:
    codec = WhitenedMelCodec(**need(config.codec, "codec", config).options())
    _fill(codec, start)
    return codec


def _fill(codec: nn.Module, start: Path) -> None:
    tensors = read_weights(start)
    try:
        check_fit(codec, tensors, start.name)
    except TensorMismatchError as error:
        raise ConfigError(f"{start} is not a codec of this configuration: {error}") from error
    codec.load_state_dict(tensors)


def train_codec(
    config: TrainingConfig,
    data: DataSettings,
    out: Path,
    budget: Budget,
    *,
    start: Path | None = None,
    dry_run: ShowPlan | None,
) -> None:
    """The whole stage. Raises CodecTrainingError, ConfigError, DataError or RunError."""
    crops, spec = open_crops(data), codec_spec(config)
    if dry_run is not None:
        sizes = sum(parameter.numel() for parameter in make_codec(spec).parameters())
        dry_run(config, codec=spec, data=data, parameters=sizes, budget=budget)
        return
    with joined(config.hardware.device) as workers:
        train(functools.partial(codec_trainer, config, crops, out, workers, start), config, out, budget, workers)


def fit_codec(config: TrainingConfig, data: DataSettings, out: Path) -> None:
    """The whitened mel codec's encoder alone, so that a data set can be encoded while the decoder trains.

    Raises CodecTrainingError for a learned codec, whose encoder and decoder train together.
    """
    if codec_kind(config) is not CodecKind.WHITENED_MEL:
        raise CodecTrainingError("--fit is for [codec], whose encoder is fixed; [dac] trains both halves together")
    fitted_codec(config, open_crops(data), out)
