"""Which codec a configuration describes: [codec] the whitened mel codec, [dac] the learned one."""

from __future__ import annotations

from pathlib import Path

from soundctm.bundle import CODEC_FILE, MANIFEST, open_bundle
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.mel import FRAME_SAMPLES, WhitenedMelCodec
from soundctm.codecs.protocol import Codec
from soundctm.errors import BundleError, TensorMismatchError
from soundctm.networks.loading import load_into, read_tensors
from soundctm.spec import CodecKind, CodecSpec
from soundctm_training.codec.settings import SAMPLE_RATE_HZ, CodecTrainingError
from soundctm_training.config import TrainingConfig, need


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


def make_codec(spec: CodecSpec) -> Codec:
    """Untrained."""
    return GaussianDAC(**spec.options) if spec.kind is CodecKind.GAUSSIAN_DAC else WhitenedMelCodec(**spec.options)


def open_codec(path: Path, config: TrainingConfig) -> Codec:
    """A trained codec, frozen. `path`: a bundle's folder, which describes itself, or the run's folder or
    codec.safetensors of the codec that the configuration describes.

    Raises CodecTrainingError when its file is missing or is not that codec, BundleError for a faulty bundle.
    """
    if (path / MANIFEST).is_file():
        bundle = open_bundle(path)
        spec, file = bundle.spec.codec, bundle.file(CODEC_FILE)
    else:
        spec, file = codec_spec(config), path / CODEC_FILE if path.is_dir() else path
    try:
        return load_into(lambda: make_codec(spec), read_tensors(file), str(file))
    except (BundleError, TensorMismatchError) as error:
        raise CodecTrainingError(
            f"{file} is not the {spec.kind.value} codec that was described ({error}); give the configuration it was "
            "trained with, or a bundle's folder"
        ) from error
