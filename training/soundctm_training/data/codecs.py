"""The codec that makes the latents: the starter's fitted encoder, a trained codec's folder, or any bundle's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from soundctm.bundle import CODEC_FILE, MANIFEST, open_bundle
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.mel import FRAME_SAMPLES, WhitenedMelCodec
from soundctm.codecs.protocol import Codec
from soundctm.networks.loading import check_fit
from soundctm.spec import CodecKind, CodecSpec
from soundctm_training.config import ConfigError, TrainingConfig
from soundctm_training.data.settings import PosteriorUse

CODEC_SPEC = "codec.json"  # a CodecSpec, beside the codec.safetensors of a trained codec
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


def load_codec_for_encoding(path: Path, config: TrainingConfig | None = None) -> EncodingCodec:
    """`path` is encoder.safetensors or codec.safetensors of the starter's codec, or a folder: a bundle, or a
    codec.safetensors with its codec.json.

    Raises ConfigError when it is none of these, or its channels are not those of the network the configuration
    describes; BundleError for an unusable bundle.
    """
    codec = _load_folder(path) if path.is_dir() else _load_file(path)
    network = config.network if config is not None else None
    if network is not None and network.io_channels != codec.channels:
        raise ConfigError(
            f"the codec {path} makes latents of {codec.channels} channels, but network.io_channels is "
            f"{network.io_channels}; set it to {codec.channels}, or give the codec it was written for"
        )
    return codec


def _load_folder(folder: Path) -> EncodingCodec:
    if (folder / MANIFEST).is_file():
        bundle = open_bundle(folder)
        spec, path = bundle.spec.codec, bundle.file(CODEC_FILE)
    else:
        spec, path = read_codec_spec(folder / CODEC_SPEC), folder / CODEC_FILE
    gaussian = spec.kind is CodecKind.GAUSSIAN_DAC
    codec = GaussianDAC(**spec.options) if gaussian else WhitenedMelCodec(**spec.options)
    return _filled(codec, spec.kind, spec.latent_channels, spec.hop_samples, path)


def _load_file(path: Path) -> EncodingCodec:
    """The starter's codec: its encoder's tensors say all there is to know."""
    if (path.parent / CODEC_SPEC).is_file():
        return _load_folder(path.parent)
    project = _read(path).get("whitening.project")
    if project is None:
        raise ConfigError(
            f"{path} holds no whitening.project, so it is not the starter's codec; for another codec give its folder, "
            f"with {CODEC_FILE} and {CODEC_SPEC} or {MANIFEST}"
        )
    channels = project.shape[1]
    return _filled(WhitenedMelCodec(channels), CodecKind.WHITENED_MEL, channels, FRAME_SAMPLES, path)


def _filled(codec: Codec, kind: CodecKind, channels: int, hop_samples: int, path: Path) -> EncodingCodec:
    """The codec with the tensors that encode; its decoder stays as it was made."""
    tensors = {name: t.float() for name, t in _read(path).items() if not name.startswith(_DECODER_PREFIXES)}
    decoder = {name: t for name, t in codec.state_dict().items() if name.startswith(_DECODER_PREFIXES)}
    check_fit(codec, {**decoder, **tensors}, str(path))
    codec.load_state_dict({**decoder, **tensors})
    return EncodingCodec(codec.eval().requires_grad_(False), kind, _digest(tensors), channels, hop_samples)


def read_codec_spec(path: Path) -> CodecSpec:
    """Raises ConfigError."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return CodecSpec(**{**table, "kind": CodecKind(table["kind"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} does not describe a codec ({error!r}); give a bundle, a folder written by `train codec`, or "
            "the starter's encoder.safetensors"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"the codec {path} cannot be read as safetensors ({error})") from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {list(tensor.shape)}\n".encode())
        sha.update(tensor.contiguous().numpy().tobytes())
    return sha.hexdigest()
