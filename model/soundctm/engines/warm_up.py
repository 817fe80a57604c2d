"""A first short clip that nobody hears: what is allocated, compiled or broken shows before somebody waits for it. Then
what steps cost is measured."""

from __future__ import annotations

import numpy as np

from soundctm.engines.protocol import Engine
from soundctm.errors import NonFiniteAudioError
from soundctm.noise import Stream, standard_normal


def warm_up(engine: Engine) -> None:
    """One prompt, one jump and one decode of the shortest clip. Raises NonFiniteAudioError."""
    spec = engine.spec
    shape = (spec.codec.latent_channels, spec.latent_frames(spec.ranges.min_seconds))
    noise = spec.diffusion.sigma_max * standard_normal(0, Stream.START, 0, shape)[None]
    levels = [spec.diffusion.sigma_max], [spec.diffusion.sigma_min], [spec.ranges.omega_default]
    latent = engine.jump(engine.array(noise), *levels, engine.encode_text([""]))
    if not np.isfinite(engine.decode(latent, [0])).all():
        raise NonFiniteAudioError(
            f"the model {spec.name!r} gives NaN or infinity in its first clip; its weights are damaged or were not "
            "trained. Install another; this one is not used."
        )
    engine.costs()
