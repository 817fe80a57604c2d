"""The `[distillation]` table: every option of the three methods, each difference of paper and official code by name.

The defaults are the project's own; `official_settings` and `paper_settings` are the two readings. docs/distillation.md
sets all three side by side.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from soundctm.errors import SoundCTMError
from soundctm_training.lengths import LengthMix

_HUBER_C = 0.00054       # times the square root of the latent's size (Song & Dhariwal 2023, section 3.3)
_OFFICIAL_SIZE = 8 * 16 * 256  # the latent size the official configuration names: its older UNet's


class DistillationError(SoundCTMError):
    """A `[distillation]` table whose values do not fit together."""

    reason = "TRAINING_CONFIG"


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:  # not-a-number is no value either
        raise DistillationError(f"distillation.{name} is {value}; it must be at least {least}")


def _at_most(name: str, value: float, most: float) -> None:
    if not value <= most:
        raise DistillationError(f"distillation.{name} is {value}; it must be at most {most}")


class MethodName(Enum):
    CTM = "ctm"              # SoundCTM, Algorithm 2
    LCD = "lcd"              # AudioLCM's guided latent consistency distillation
    CD = "cd"                # ConsistencyTTA's consistency distillation


class Distance(Enum):
    """Between the estimate and its target, eq. 7's d."""

    TEACHER = "teacher"      # of the teacher's features, eq. 5
    L2 = "l2"                # squared difference, mean over the latent
    L1 = "l1"
    PSEUDO_HUBER = "pseudo_huber"  # sqrt(difference^2 + c^2) - c, mean over the latent


class OutputDistance(Enum):
    """Of the network's own outputs, beside `Distance`."""

    L2 = "l2"
    PSEUDO_HUBER = "pseudo_huber"


class MatchPoint(Enum):
    """Where estimate and target are compared."""

    S = "s"
    ZERO = "zero"            # both sent on to sigma_min by the target network


class FeatureWiring(Enum):
    """What the teacher's layers are given."""

    CHAINED = "chained"      # each the output of the one before, as in a forward pass
    PARALLEL = "parallel"    # all the same embedded latent


class FeatureNorm(Enum):
    """Along which axis a feature has unit length."""

    CHANNELS = "channels"
    SEQUENCE = "sequence"


class FeatureReduction(Enum):
    """Of a layer's squared differences."""

    SUM_CHANNELS = "sum_channels"  # eq. 5's squared norm; mean over the sequence
    MEAN = "mean"            # over the sequence and the channels


class GuidanceMix(Enum):
    """Where omega mixes the teacher with and without text."""

    DENOISERS = "denoisers"  # inside every evaluation of the solver
    SOLUTIONS = "solutions"  # of two solvers, one with text and one without


class SolverStepsLaw(Enum):
    """The probability of k Heun steps between t and u, one k for a batch."""

    TABLE = "table"          # `solver_steps`
    WEIGHTED = "weighted"    # k^power / (1^power + 2^power + ... + (N-1)^power), power = `solver_steps_power`


class DenoisingTarget(Enum):
    Z_0 = "z_0"              # the clip
    Z_TARGET = "z_target"    # the consistency loss's target, compared as it is
    GUIDED = "guided"        # ours: the teacher's guided denoiser, which is the slope of the trajectory being distilled


class DenoisingScale(Enum):
    """Weight of a row's squared denoising error at level sigma."""

    EDM = "edm"              # (sigma^2 + sigma_data^2) / (sigma sigma_data)^2
    NONE = "none"            # eq. 8


class DenoisingLevels(Enum):
    """Which rows get their DSM level from the log-normal law and which from the Karras map."""

    BY_POSITION = "by_position"  # the first half, and the rest
    BY_CHANCE = "by_chance"  # each row by the toss of a coin


class LeapSolver(Enum):
    DDIM = "ddim"
    HEUN = "heun"


@dataclass(frozen=True)
class LcdSettings:
    """AudioLCM's method (Liu et al. 2024)."""

    skip_steps: int = 5      # grid points of one leap
    solver: LeapSolver = LeapSolver.DDIM
    huber_c: float = 1e-3

    def __post_init__(self) -> None:
        _at_least("lcd.skip_steps", self.skip_steps, 1)
        _at_least("lcd.huber_c", self.huber_c, 0)


@dataclass(frozen=True)
class CdSettings:
    """ConsistencyTTA's method (Bai et al. 2023): weight min(SNR, limit), never below the floor."""

    snr_floor: float = 14.6146**-2
    snr_limit: float = 5.0

    def __post_init__(self) -> None:
        _at_least("cd.snr_floor", self.snr_floor, 0)
        _at_least("cd.snr_limit", self.snr_limit, self.snr_floor)


@dataclass(frozen=True)
class Distillation:
    """Everything below `lengths` but `lcd` and `cd` is CTM's alone. Raises DistillationError."""

    learning_rate: float
    warmup_steps: int
    grid_points: int         # N: indices 0 .. N-1 from sigma_max to sigma_min
    omega_min: float
    omega_max: float
    target_ema: float        # mu
    final_ema: float         # of the weights that are kept
    lengths: LengthMix
    seed: int = 3            # of every draw
    method: MethodName = MethodName.CTM
    lcd: LcdSettings = LcdSettings()
    cd: CdSettings = CdSettings()

    solver_steps_law: SolverStepsLaw = SolverStepsLaw.TABLE
    solver_steps: tuple[float, ...] = (1.0,)  # probability of 1, 2, ... Heun steps, where the law is the table
    solver_steps_power: float = 1.0
    top_t: float = 0.0       # added probability that t is one of the two highest levels
    end_s: float = 0.0       # added probability that s is sigma_min
    next_s: float = 0.0      # added probability that s is u
    guidance_mix: GuidanceMix = GuidanceMix.DENOISERS
    guidance_sigma_max: float | None = None  # above this level the teacher is not guided; None: it always is

    match_point: MatchPoint = MatchPoint.S
    distance: Distance = Distance.TEACHER
    feature_wiring: FeatureWiring = FeatureWiring.CHAINED
    feature_norm: FeatureNorm = FeatureNorm.CHANNELS
    feature_reduction: FeatureReduction = FeatureReduction.SUM_CHANNELS
    huber_c: float | None = None  # None = 0.00054 times the square root of the latent's size
    feature_weight: float = 1.0  # of `distance`, whichever it is
    latent_weight: float = 0.0  # of `latent_distance` beside it; only where they meet at s
    latent_distance: OutputDistance = OutputDistance.L2  # of the network's outputs
    consistency_weight: float = 1.0  # of both, in the total

    denoising_weight: float = 1.0  # of lambda_DSM times the denoising loss in the total; 0 = none is computed
    denoising_rows: float = 1.0  # share of the batch's clips that the DSM loss sees
    denoising_target: DenoisingTarget = DenoisingTarget.Z_0
    denoising_scale: DenoisingScale = DenoisingScale.EDM
    denoising_levels: DenoisingLevels = DenoisingLevels.BY_POSITION
    denoising_high_share: float = 0.7  # of the Karras map, from sigma_max down, that the upper law covers
    adaptive_lambda: bool = True  # lambda_DSM from the gradients of both losses
    fixed_lambda: float = 1.0  # lambda_DSM, where it is not adaptive
    lambda_max: float = 1000.0
    last_layer: str = "postprocess_conv.weight"  # the parameter whose gradients set lambda

    def __post_init__(self) -> None:
        _at_least("grid_points", self.grid_points, 2)
        _at_least("omega_max", self.omega_max, self.omega_min)
        _check_solver_steps(self)
        for name in ("top_t", "end_s", "next_s", "denoising_rows", "denoising_high_share", "target_ema", "final_ema"):
            _at_least(name, getattr(self, name), 0)
            _at_most(name, getattr(self, name), 1)
        if self.end_s + self.next_s > 1:
            raise DistillationError(
                f"distillation.end_s {self.end_s} and next_s {self.next_s} add up to more than 1; lower one"
            )
        if self.guidance_sigma_max is not None:
            _at_least("guidance_sigma_max", self.guidance_sigma_max, 0)
            if self.guidance_mix is not GuidanceMix.DENOISERS:
                raise DistillationError(
                    f"distillation.guidance_sigma_max is {self.guidance_sigma_max} with guidance_mix "
                    f"{self.guidance_mix.value!r}; solutions have no level: set guidance_mix to 'denoisers'"
                )
        if self.denoising_weight > 0 and self.denoising_rows == 0:
            raise DistillationError("distillation.denoising_rows is 0; for no DSM loss set denoising_weight to 0")
        for name in ("feature_weight", "latent_weight", "consistency_weight", "denoising_weight", "lambda_max"):
            _at_least(name, getattr(self, name), 0)
        if self.latent_weight > 0 and self.match_point is MatchPoint.ZERO:
            raise DistillationError(
                f"distillation.latent_weight is {self.latent_weight} with match_point 'zero'; the network's outputs "
                "meet at s only: set latent_weight to 0 or match_point to 's'"
            )

    @property
    def name(self) -> str:
        return self.method.value


def _check_solver_steps(settings: Distillation) -> None:
    if settings.solver_steps_law is not SolverStepsLaw.TABLE:
        return
    table = settings.solver_steps
    if not table or min(table) < 0 or not math.isclose(sum(table), 1, abs_tol=1e-6):
        raise DistillationError(
            f"distillation.solver_steps is {list(table)}; give the probabilities of 1, 2, ... steps: they add up to 1"
        )
    if len(table) > settings.grid_points - 1:
        raise DistillationError(
            f"distillation.solver_steps names up to {len(table)} steps; a grid of {settings.grid_points} points has "
            f"{settings.grid_points - 1}: shorten the list or raise grid_points"
        )


def huber_constant(latent_size: int) -> float:
    """c of the pseudo-Huber distance for latents of that many values (Song & Dhariwal 2023)."""
    return _HUBER_C * math.sqrt(latent_size)


def official_settings(lengths: LengthMix, **changes: Any) -> Distillation:
    """What the released training configuration of the official code does; `changes` replace single fields."""
    settings = Distillation(
        learning_rate=8e-5,
        warmup_steps=0,
        grid_points=40,
        omega_min=1.0,
        omega_max=10.0,
        target_ema=0.999,
        final_ema=0.999,
        lengths=lengths,
        solver_steps_law=SolverStepsLaw.WEIGHTED,
        feature_wiring=FeatureWiring.PARALLEL,
        feature_norm=FeatureNorm.SEQUENCE,
        feature_reduction=FeatureReduction.MEAN,
        huber_c=huber_constant(_OFFICIAL_SIZE),
        denoising_weight=0.2,
        fixed_lambda=10.0,
    )
    return dataclasses.replace(settings, **changes)


def paper_settings(lengths: LengthMix, **changes: Any) -> Distillation:
    """The paper's text for its DiT (section 3, appendix D.2); `changes` replace single fields."""
    settings = Distillation(
        learning_rate=8e-5,
        warmup_steps=0,
        grid_points=40,
        omega_min=2.0,
        omega_max=5.0,
        target_ema=0.96,
        final_ema=0.96,
        lengths=lengths,
        solver_steps_law=SolverStepsLaw.WEIGHTED,
        guidance_mix=GuidanceMix.SOLUTIONS,
        denoising_scale=DenoisingScale.NONE,
        denoising_levels=DenoisingLevels.BY_CHANCE,
        lambda_max=math.inf,
    )
    return dataclasses.replace(settings, **changes)
