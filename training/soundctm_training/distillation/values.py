"""What every distillation method is handed, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass

from soundctm.networks.dit import DiT, TextContext


@dataclass(frozen=True)
class Networks:
    """Only `student` is trained; `target` is its running average, `teacher` never changes."""

    student: DiT
    target: DiT
    teacher: DiT


@dataclass(frozen=True)
class Contexts:
    """The same prompts as each network encodes them; `empty` is the one row of ""."""

    student: TextContext
    target: TextContext
    teacher: TextContext
    empty: TextContext


@dataclass(frozen=True)
class StepLosses:
    """Means over the batch. A method without a denoising loss reports 0 for it and its weight."""

    consistency: float
    denoising: float
    weight: float  # lambda_DSM
