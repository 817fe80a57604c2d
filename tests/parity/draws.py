"""The laws of a training's draws, fed with the official generators: k, t, s and the levels of denoising.

Our functions take the modern numpy generator; `Legacy` gives them the old global one's numbers, in the calls the
official code makes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from parity import parts
from parity.golden import Golden, Tolerance
from soundctm_training.distillation.draws import denoising_levels, draw_indices
from soundctm_training.distillation.settings import official_settings
from soundctm_training.lengths import LengthMix

GROUP = "draws"
_FILE = "distributions"
_LENGTHS = LengthMix((), (), 0, 0.0)


class Legacy:
    """np.random's numbers behind a Generator's methods."""

    def __init__(self, seed: int) -> None:
        self._state = np.random.RandomState(seed)

    def choice(self, count: int, p: NDArray[np.float64]) -> int:
        return int(self._state.choice(count, p=p))

    def integers(self, low: Any, high: int, size: int | None = None) -> NDArray[np.int64]:
        """t is a weighted choice with equal weights there, s a randint with a low end of its own for every row."""
        if size is None:
            return np.asarray(self._state.randint(low, high), np.int64)
        return np.asarray(low + self._state.choice(high - low, size=size, p=np.full(high - low, 1 / (high - low))))


def check(golden: Golden) -> None:
    """Without a distributions.json there is nothing to check."""
    if not golden.has_json(_FILE):
        return
    data = golden.json(_FILE)
    diffusion = parts.diffusion(golden, data)
    points = int(golden.setting("start_scales", data))
    power = float(golden.setting("heun_step_multiplier", data))
    settings = official_settings(_LENGTHS, grid_points=points, solver_steps_power=power)
    share = float(golden.setting("diffusion_mult", data))
    for number, draw in enumerate(data.get("reference_draws", [])):
        indices = draw_indices(len(draw["indices_t"]), settings, Legacy(draw["np_seed"]))  # type: ignore[arg-type]
        exact = {"num_heun_step": [indices.solver_steps], "indices_t": indices.t, "indices_s": indices.s}
        for name, found in exact.items():
            reference = torch.as_tensor(draw[name]).reshape(-1)
            golden.record(GROUP, f"{_FILE}:draw {number} {name}", torch.as_tensor(found), reference, Tolerance.EXACT)
        noise = torch.Generator().manual_seed(draw["torch_seed"])
        for name in (name for name in draw if name.startswith("dsm_sigmas_bs")):
            reference = torch.tensor(draw[name])
            levels = denoising_levels(len(reference), diffusion, noise, high_share=share)
            golden.record(GROUP, f"{_FILE}:draw {number} {name}", levels, reference, Tolerance.RELATIVE)
        _check_weights(draw)


def _check_weights(draw: dict[str, Any]) -> None:
    if any(weight != 1 for weight in draw.get("dsm_weights_returned", [])):
        raise ValueError(f"dsm_weights_returned {draw['dsm_weights_returned']}; known: no weights, all 1")
