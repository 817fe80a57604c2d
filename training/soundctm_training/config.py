"""Every knob of a training, as values: read from one TOML file with a table per stage.

A stage needs its own tables only; a misspelt key, a value of the wrong type and a missing table are named.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from soundctm.errors import SoundCTMError
from soundctm.spec import DiffusionSpec, DiTSpec, Ranges
from soundctm_training.codec.settings import DacTraining
from soundctm_training.data.settings import DataSettings, EncodeSettings
from soundctm_training.distillation.settings import Distillation
from soundctm_training.lengths import LengthMix
from soundctm_training.runs import Budget


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
class TextTraining:
    drop: float              # share of captions replaced by ""
    token_noise: float       # relative noise on every text token, for wordings never seen
    sentence_noise: float    # relative noise that all tokens of a text share
    token_drop: float        # share of text tokens hidden
    contrast_weight: float = 0.0  # of the loss that draws the vectors of captions of one thing together
    contrast_captions: int = 256  # of one step; they cost little, for no sound goes with them
    remembered: int = 0      # kinds of captions of each class that `remember` has a network recall prompts by
    phrases: int = 0         # and by how many phrases of each class it finds them; 0 = by their vectors alone


class OptimiserKind(Enum):
    ADAMW = "adamw"
    RADAM = "radam"


class Precision(Enum):
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"    # of the networks' arithmetic; weights, losses and averages stay float32


@dataclass(frozen=True)
class Hardware:
    device: str = "auto"     # "cpu", "cuda", or "auto": a GPU where there is one
    precision: Precision = Precision.FLOAT32
    threads: int = 1         # of each process on a CPU


@dataclass(frozen=True)
class TeacherTraining:
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    level_mean: float        # mean and deviation of ln sigma
    level_std: float
    ema: float
    lengths: LengthMix
    optimiser: OptimiserKind = OptimiserKind.ADAMW
    seed: int = 2            # of the first weights and of every draw


@dataclass(frozen=True)
class Budgets:
    """How long each stage trains, where the command does not say."""

    codec: Budget | None = None
    teacher: Budget | None = None
    distill: Budget | None = None


@dataclass(frozen=True)
class Reporting:
    """How often a run reports, saves and draws samples; `wandb_project` None logs to TensorBoard alone."""

    report_steps: int = 20
    save_seconds: float = 120.0
    sample_seconds: float = 600.0
    sample_prompts: tuple[str, ...] = ("heavy rain", "a dog barking", "footsteps on gravel", "a church bell")
    tensorboard: bool = True
    wandb_project: str | None = None


@dataclass(frozen=True)
class TrainingConfig:
    name: str
    description: str = ""
    licence: str = "unknown (see LICENCE)"  # of the bundle, an SPDX expression; what is not known must be accepted once
    omega_default: float = 3.0
    data: DataSettings | None = None
    encode: EncodeSettings | None = None
    codec: CodecConfig | None = None
    decoder: DecoderTraining | None = None
    dac: DacTraining | None = None  # the learned codec, instead of [codec] and [decoder]
    network: DiTSpec | None = None
    diffusion: DiffusionSpec = field(default_factory=DiffusionSpec)
    text: TextTraining | None = None
    teacher: TeacherTraining | None = None
    distillation: Distillation | None = None
    budget: Budgets = Budgets()
    hardware: Hardware = Hardware()
    reporting: Reporting = Reporting()

    def __post_init__(self) -> None:
        if self.network is not None and self.network.text_memory:
            raise ConfigError(
                f"network.text_memory is {self.network.text_memory}; a memory comes with the weights that "
                "`soundctm train remember` writes: leave it out and set text.remembered"
            )

    def ranges(self) -> Ranges:
        distillation = need(self.distillation, "distillation", self)
        return Ranges(distillation.omega_min, distillation.omega_max, self.omega_default)


_T = TypeVar("_T")


def need(table: _T | None, name: str, config: TrainingConfig) -> _T:
    """A table this stage cannot do without. Raises ConfigError naming it."""
    if table is None:
        present = [f.name for f in dataclasses.fields(config) if getattr(config, f.name) is not None]
        raise ConfigError(
            f"configuration {config.name!r} has no [{name}], which this stage needs; it has {', '.join(present)}"
        )
    return table


def read_config(path: Path, changes: Sequence[str] = ()) -> TrainingConfig:
    """`changes` are `table.key=value` in TOML's notation, applied on top of the file. Raises ConfigError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML ({error})") from error
    for change in changes:
        _apply(table, change)
    return build(TrainingConfig, table, str(path))


def _apply(table: dict[str, Any], change: str) -> None:
    key, found, value = change.partition("=")
    if not found:
        raise ConfigError(f"--set {change!r}: write it as table.key=value, such as distillation.learning_rate=1e-4")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    *tables, last = key.strip().split(".")
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {change!r}: {name} is a value, not a table")
    table[last] = parsed


def build(cls: type[_T], table: dict[str, Any], where: str) -> _T:
    """A dataclass from a table; nested dataclasses from nested tables, tuples from lists, enums from their values.

    Raises ConfigError naming the key, and for an unknown one the nearest right one.
    """
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in hints:
            raise ConfigError(f"{where}: unknown key {key!r}{_nearest(key, hints)}; allowed: {', '.join(hints)}")
    required = {
        f.name
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    missing = sorted(required - table.keys())
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} missing; give a value for each")
    return cls(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def _nearest(key: str, allowed: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(allowed), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type a field asks for. Raises ConfigError."""
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
        return None if value is None else _value(hint, value, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is {value!r}; it is a table: write [{where.rpartition(' ')[2]}]")
        return build(typing.cast(type, hint), value, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        allowed = [str(member.value) for member in hint]
        if value not in allowed:
            raise ConfigError(f"{where} is {value!r}{_nearest(str(value), allowed)}; allowed: {', '.join(allowed)}")
        return hint(value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {value!r}; it is a list: write [{value!r}]")
        inner = typing.get_args(hint)[0]
        return tuple(_value(inner, item, f"{where}[{index}]") for index, item in enumerate(value))
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint in (int, float, str, bool, Path) and type(value) is not hint:
        raise ConfigError(f"{where} is {value!r}, a {type(value).__name__}; it must be a {hint.__name__}")
    return value
