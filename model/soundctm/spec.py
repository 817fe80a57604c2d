"""What a bundle is made of, as values: sizes, noise levels, ranges. No torch here.

A `BundleSpec` is read from and written to the bundle's `bundle.json`; every module is built from its own part of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from soundctm.errors import BundleError
from soundctm.licences import is_restricted


class Conditioning(StrEnum):
    """How t, s and omega reach the layers of the network."""

    PREPENDED_TOKEN = "prepended_token"  # the official layout: one global token at position 0
    ADAPTIVE_NORM = "adaptive_norm"      # the starter's: scale, shift and gate of every layer


class CodecKind(StrEnum):
    GAUSSIAN_DAC = "gaussian_dac"
    WHITENED_MEL = "whitened_mel"


class TextKind(StrEnum):
    CLAP = "clap"
    MINILM = "minilm"


@dataclass(frozen=True)
class DiTSpec:
    """Sizes of the diffusion transformer. The defaults are the official layout's."""

    io_channels: int
    embed_dim: int
    depth: int
    num_heads: int
    cond_dim: int                # of the text encoder's tokens
    context_dim: int | None = None  # of the embedded text the layers attend to; None = cond_dim
    conditioning: Conditioning = Conditioning.PREPENDED_TOKEN
    patch_frames: int = 1        # latent frames folded into one token
    feed_forward_mult: int = 4
    qk_norm: bool = False
    pooled_text: bool = False    # add the mean text token to the conditioning vector (adaptive norm only)
    text_memory: int = 0         # vectors of known texts by which the pooled text is recalled
    text_phrases: bool = False   # they are found by the sentences of those texts, too


@dataclass(frozen=True)
class DiffusionSpec:
    """EDM noise levels (Karras et al. 2022). Latents have standard deviation `sigma_data`."""

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0


@dataclass(frozen=True)
class CodecSpec:
    """Latent <-> waveform. `options` are the constructor arguments of the codec named by `kind`."""

    kind: CodecKind
    latent_channels: int
    hop_samples: int
    sample_rate_hz: int = 44100
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TextSpec:
    """Prompt -> tokens [L, dim]. `options` are the constructor arguments of the encoder named by `kind`."""

    kind: TextKind
    dim: int
    max_tokens: int
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranges:
    """What a request may ask of this bundle. `omega` is the interval the student was distilled with."""

    omega_min: float
    omega_max: float
    omega_default: float
    min_seconds: float = 0.5
    max_seconds: float = 10.0
    max_steps: int = 64
    nu_max: float = 10.0
    max_prompt_chars: int = 1000


@dataclass(frozen=True)
class BundleSpec:
    """`provenance`: where the weights come from, for people. `licence_restricted` None: the licence's name decides."""

    name: str
    description: str
    network: DiTSpec
    diffusion: DiffusionSpec
    codec: CodecSpec
    text: TextSpec
    ranges: Ranges
    licence: str
    provenance: str = ""
    licence_restricted: bool | None = None

    @property
    def restricted(self) -> bool:
        """The licence forbids some uses, or is not known to forbid none: it must be accepted once."""
        return is_restricted(self.licence) if self.licence_restricted is None else self.licence_restricted

    def latent_frames(self, seconds: float) -> int:
        """Latent frames that hold `seconds` of sound, rounded up to whole tokens."""
        samples = math.ceil(seconds * self.codec.sample_rate_hz)
        frames = math.ceil(samples / self.codec.hop_samples)
        patch = self.network.patch_frames
        return math.ceil(frames / patch) * patch

    def samples(self, seconds: float) -> int:
        """Length of the trimmed clip in samples."""
        return round(seconds * self.codec.sample_rate_hz)

    def to_json(self) -> dict[str, Any]:
        """What says nothing is left out, so that a manifest without it keeps its digest."""
        data = _without({"provenance": "", "licence_restricted": None}, dataclasses.asdict(self))
        return {**data, "network": _without({"text_memory": 0, "text_phrases": False}, data["network"])}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BundleSpec:
        """Raises BundleError naming the field when the data does not describe a bundle."""
        try:
            return cls(
                name=str(data["name"]),
                description=str(data["description"]),
                network=_build(
                    DiTSpec, {**data["network"], "conditioning": Conditioning(data["network"]["conditioning"])}
                ),
                diffusion=_build(DiffusionSpec, data["diffusion"]),
                codec=_build(CodecSpec, {**data["codec"], "kind": CodecKind(data["codec"]["kind"])}),
                text=_build(TextSpec, {**data["text"], "kind": TextKind(data["text"]["kind"])}),
                ranges=_build(Ranges, data["ranges"]),
                licence=str(data["licence"]),
                provenance=str(data.get("provenance", "")),
                licence_restricted=_flag(data.get("licence_restricted")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the bundle's spec is not valid: {type(error).__name__}: {error}") from error


_SAYS = object()
_T = TypeVar("_T")


def _without(silent: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` less the fields whose value is the one that says nothing."""
    return {key: value for key, value in data.items() if silent.get(key, _SAYS) != value}


def _flag(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise ValueError(f"licence_restricted is {value!r}; allowed: true, false or absent")


def _build(cls: type[_T], data: dict[str, Any]) -> _T:
    return cls(**data)
