"""A plan is the list of jumps a clip takes: plain data, made before anything runs."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from soundctm.schedule import karras_sigmas
from soundctm.spec import DiffusionSpec


@dataclass(frozen=True)
class Jump:
    """From noise level `t` to `s`; then `noise_std` times a fresh standard normal is added."""

    t: float
    s: float
    noise_std: float


Plan = tuple[Jump, ...]


def make_plan(steps: int, gamma: float, diffusion: DiffusionSpec) -> Plan:
    """`steps` jumps along the Karras grid with stochasticity `gamma` (gamma-sampling, paper Algorithm 3).

    gamma 0 is deterministic, 1 is consistency-model sampling (every jump goes to sigma_min and is noised again).
    As in the official code, s~ = sqrt(1 - gamma**2) (s - sigma_min) + sigma_min, so that s~ never falls below
    sigma_min; the noise then brings the level back to s. The last jump ends at sigma_min and adds no noise.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; allowed: 1 or more")
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma is {gamma}; allowed: 0 to 1")
    sigmas = [float(sigma) for sigma in karras_sigmas(steps + 1, diffusion)]
    jumps = []
    for index, (t, s_next) in enumerate(itertools.pairwise(sigmas)):
        last = index == steps - 1
        if last or gamma == 0.0:
            jumps.append(Jump(t, s_next, 0.0))
            continue
        s = math.sqrt(1.0 - gamma**2) * (s_next - diffusion.sigma_min) + diffusion.sigma_min
        s = min(s, s_next)  # rounding may lift it above where gamma is minute
        jumps.append(Jump(t, s, math.sqrt(s_next**2 - s**2)))
    return tuple(jumps)
