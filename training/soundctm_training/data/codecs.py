"""The codec that makes the latents: a trained one's file, or any bundle's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soundctm.bundle import CODEC_FILE, MANIFEST, open_bundle
from soundctm.codecs.mel import FRAME_SAMPLES
from soundctm.codecs.protocol import Codec
from soundctm.errors import BundleError, TensorMismatchError
from soundctm.networks.loading import check_fit, read_tensors
from soundctm.spec import CodecKind, CodecSpec
from soundctm_training.codec.description import make_codec
from soundctm_training.config import ConfigError, TrainingConfig
from soundctm_training.data.settings import PosteriorUse

_DECODER_PREFIXES = ("vocoder.", "decoder.", "post_conv.")


@dataclass(frozen=True)
class EncodingCodec:
    """`digest` covers the tensors that encode alone: the decoder can be trained on without making the latents anew."""

    codec: Codec
    kind: CodecKind
    digest: str
    channels: int
    hop_samples: int

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "channels": self.channels, "hop_samples": self.hop_samples,
                "encoder_sha256": self.digest}

    def encode(self, audio: Tensor, seeds: Sequence[Sequence[int]], posterior: PosteriorUse) -> Tensor:
        """Audio [B, samples] -> latents [B, C, T]; row b's draw from the posterior depends on seeds[b] alone."""
        shape = self.codec.encoder_noise_shape(audio.shape[1])
        noise = None
        if shape is not None and posterior is PosteriorUse.SAMPLE:
            rows = [np.random.default_rng(list(seed)).standard_normal(shape, dtype=np.float32) for seed in seeds]
            noise = torch.from_numpy(np.stack(rows)).to(audio.device)
        return self.codec.encode(audio[:, None], noise)


def load_codec_for_encoding(path: Path, config: TrainingConfig) -> EncodingCodec:
    """`path` is a bundle's folder, or a codec.safetensors (or its folder) of `train codec`; of the whitened mel codec
    encoder.safetensors is enough.

    Raises ConfigError when it is none of these, is not the codec the configuration describes, or its channels are not
    those of the configuration's network; BundleError for an unusable bundle.
    """
    codec = _from_bundle(path) if (path / MANIFEST).is_file() else _from_file(path, config)
    network = config.network
    if network is not None and network.io_channels != codec.channels:
        raise ConfigError(
            f"the codec {path} makes latents of {codec.channels} channels, but network.io_channels is "
            f"{network.io_channels}; set it to {codec.channels}, or give the codec it was written for"
        )
    return codec


def _from_bundle(folder: Path) -> EncodingCodec:
    bundle = open_bundle(folder)
    path = bundle.file(CODEC_FILE)
    return _filled(bundle.spec.codec, path, read_tensors(path))


def _from_file(path: Path, config: TrainingConfig) -> EncodingCodec:
    path = path / CODEC_FILE if path.is_dir() else path
    try:
        tensors = read_tensors(path)
    except BundleError as error:
        raise ConfigError(f"the codec {path} cannot be read as safetensors ({error.__cause__})") from error
    project = tensors.get("whitening.project")
    if project is not None:  # its encoder's tensors say all there is to know
        channels = project.shape[1]
        spec = CodecSpec(CodecKind.WHITENED_MEL, channels, FRAME_SAMPLES, options={"channels": channels})
        return _filled(spec, path, tensors)
    if config.dac is None:
        raise ConfigError(
            f"{path} is no whitened mel codec, and configuration {config.name!r} has no [dac] that describes another; "
            "give the configuration it was trained with, or a bundle's folder"
        )
    return _filled(config.dac.spec(config.diffusion.sigma_data), path, tensors)


def _filled(spec: CodecSpec, path: Path, stored: Mapping[str, Tensor]) -> EncodingCodec:
    """The codec with the tensors that encode; its decoder stays as it was made."""
    codec = make_codec(spec)
    tensors = {name: t for name, t in stored.items() if not name.startswith(_DECODER_PREFIXES)}
    decoder = {name: t for name, t in codec.state_dict().items() if name.startswith(_DECODER_PREFIXES)}
    try:
        check_fit(codec, {**decoder, **tensors}, str(path))
    except TensorMismatchError as error:
        raise ConfigError(f"the codec {error}; give the configuration it was trained with") from error
    codec.load_state_dict({**decoder, **tensors})
    frozen = codec.eval().requires_grad_(False)
    return EncodingCodec(frozen, spec.kind, _digest(tensors), spec.latent_channels, spec.hop_samples)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {list(tensor.shape)}\n".encode())
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()
