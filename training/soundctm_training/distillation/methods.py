"""The one interface of all distillation methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from soundctm.spec import DiffusionSpec
from soundctm_training.distillation.cd import Cd
from soundctm_training.distillation.ctm import Ctm
from soundctm_training.distillation.lcd import Lcd
from soundctm_training.distillation.settings import Distillation, MethodName
from soundctm_training.distillation.values import Contexts, Networks, StepLosses
from soundctm_training.workers import Share


class Method(Protocol):
    """One training step."""

    def backward(
        self,
        networks: Networks,
        contexts: Contexts,
        latent: Tensor,
        omega: Tensor,
        levels: Tensor,
        choice: np.random.Generator,
        noise: torch.Generator,
        share: Share | None = None,
    ) -> StepLosses:
        """Draw what the step needs and leave the total loss's gradient in the student's parameters.

        latent [B, C, T] of clean clips, omega [B], levels [N] falling from sigma_max to sigma_min; all on one device.
        `choice` draws indices, `noise` everything normal or continuous. `share`: these are one worker's rows of a
        larger batch; all is drawn for the whole of it, and the gradient's mean over the workers is the batch's.
        """


MAKERS: dict[MethodName, Callable[[Distillation, DiffusionSpec], Method]] = {
    MethodName.CTM: Ctm,
    MethodName.LCD: lambda settings, diffusion: Lcd(settings.lcd, diffusion),
    MethodName.CD: lambda settings, diffusion: Cd(settings.cd, diffusion),
}


def make_method(settings: Distillation, diffusion: DiffusionSpec) -> Method:
    return MAKERS[settings.method](settings, diffusion)
