"""Noise levels. Karras et al. (2022), equation 5."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from soundctm.spec import DiffusionSpec


def karras_sigmas(points: int, diffusion: DiffusionSpec) -> NDArray[np.float64]:
    """`points` noise levels from sigma_max down to sigma_min, evenly spaced in sigma**(1/rho).

    Official behaviour: N jumps use N + 1 points, and the last jump ends at sigma_min, not at 0.
    """
    if points < 2:
        raise ValueError(f"points is {points}; a grid needs at least 2 (one jump)")
    ramp = np.linspace(0.0, 1.0, points)
    high, low = diffusion.sigma_max ** (1 / diffusion.rho), diffusion.sigma_min ** (1 / diffusion.rho)
    return np.asarray((high + ramp * (low - high)) ** diffusion.rho)
