"""Every knob of the starter's training, as values: read from one TOML file, saved beside each run."""

from __future__ import annotations

import dataclasses
import json
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from soundctm.errors import SoundCTMError
from soundctm.spec import Conditioning, DiffusionSpec, DiTSpec, Ranges


class ConfigError(SoundCTMError):
    """A training configuration that cannot be used."""

    reason = "TRAINING_CONFIG"


@dataclass(frozen=True)
class CodecConfig:
    """The fixed encoder's projection and the decoder's size."""

    channels: int
    slow_dim: int
    slow_blocks: int
    fast_dim: int
    fast_blocks: int
    spread: float            # standard deviation of a channel ~ (its variance)**(spread/2): 0 whitens, 1 leaves as is
    fit_clips: int           # clips the components are fitted on

    def options(self) -> dict[str, int]:
        """Constructor arguments of WhitenedMelCodec."""
        names = ("channels", "slow_dim", "slow_blocks", "fast_dim", "fast_blocks")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class DecoderTraining:
    batch: int
    crop_frames: int         # latent frames of a training crop
    latent_noise: float      # up to this much noise on the latents, so that generated ones decode well
    learning_rate: float
    windows: tuple[int, ...]  # STFT sizes of the spectral distance, in samples
    ema: float


@dataclass(frozen=True)
class LengthMix:
    """Which clip lengths a run draws: shares by step; a batch holds `tokens` latent frames whatever the length."""

    frames: tuple[int, ...]
    shares: tuple[float, ...]
    batch_frames: int        # latent frames per batch
    odd_share: float         # of the batches is cut to a random shorter length


@dataclass(frozen=True)
class TextTraining:
    drop: float              # share of captions replaced by ""
    token_noise: float       # relative noise on every text token, for wordings never seen
    sentence_noise: float    # relative noise that all tokens of a text share
    token_drop: float        # share of text tokens hidden


@dataclass(frozen=True)
class TeacherTraining:
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    level_mean: float        # mean and deviation of ln sigma
    level_std: float
    ema: float
    lengths: LengthMix


@dataclass(frozen=True)
class Distillation:
    learning_rate: float
    warmup_steps: int
    grid_points: int         # N: indices 0 .. N-1 from sigma_max to sigma_min
    solver_steps: tuple[float, ...]  # probability of 1, 2, ... Heun steps between t and u
    top_t: float             # added probability that t is one of the two highest levels
    end_s: float             # added probability that s is sigma_min
    next_s: float            # added probability that s is u
    omega_min: float
    omega_max: float
    target_ema: float        # mu
    final_ema: float         # of the weights that are kept
    feature_weight: float    # teacher-feature distance, eq. 5
    latent_weight: float     # squared distance of the network's outputs beside it
    denoising_weight: float  # of lambda_DSM, eq. 9
    denoising_rows: float    # share of the batch's clips that the DSM loss sees
    lambda_max: float
    last_layer: str          # the parameter whose gradients set lambda
    lengths: LengthMix


@dataclass(frozen=True)
class StarterConfig:
    name: str
    description: str
    omega_default: float
    codec: CodecConfig
    decoder: DecoderTraining
    network: DiTSpec
    diffusion: DiffusionSpec
    text: TextTraining
    teacher: TeacherTraining
    distillation: Distillation

    def ranges(self) -> Ranges:
        return Ranges(self.distillation.omega_min, self.distillation.omega_max, self.omega_default)


_T = TypeVar("_T")


def read_config(path: Path) -> StarterConfig:
    """Raises ConfigError naming the missing or unknown field."""
    try:
        return build(StarterConfig, tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML ({error})") from error


def build(cls: type[_T], table: dict[str, Any], where: str) -> _T:
    """A dataclass from a table; nested dataclasses from nested tables, tuples from lists."""
    hints = typing.get_type_hints(cls)
    unknown = sorted(table.keys() - hints.keys())
    required = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}  # type: ignore[arg-type]
    missing = sorted(required - table.keys())
    if unknown or missing:
        raise ConfigError(f"{where}: missing fields {missing}, unknown fields {unknown}; allowed: {sorted(hints)}")
    values: dict[str, Any] = {}
    for name, value in table.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            values[name] = build(typing.cast(type, hint), value, f"{where}: [{name}]")
        elif hint is Conditioning:
            values[name] = Conditioning(value)
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


def save_config(config: StarterConfig, folder: Path) -> None:
    """The resolved configuration, beside the run it made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1) + "\n", encoding="utf-8")
