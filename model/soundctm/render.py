"""Recipe -> audio, on any engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from soundctm.engines.protocol import Engine, Floats
from soundctm.errors import CancelledError, NonFiniteAudioError
from soundctm.noise import Stream, standard_normal
from soundctm.plan import Jump
from soundctm.recipe import Recipe
from soundctm.sampling import JumpFunction, guided, run_plan


def render(
    engine: Engine,
    recipe: Recipe,
    on_jump: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Floats:
    """The clip of a recipe: float32 [channels, samples], trimmed to the recipe's length.

    `on_jump(done, total)` reports progress. `should_stop` is asked before every jump and before decoding.
    Raises CancelledError when it says so, NonFiniteAudioError when the model gives NaN or infinity.
    """
    latent = render_latent(engine, recipe, on_jump, should_stop)
    _stop_if(should_stop)
    audio = engine.decode(latent, [recipe.seed])[0]
    if not np.isfinite(audio).all():
        raise NonFiniteAudioError(
            f"the model produced {np.count_nonzero(~np.isfinite(audio))} samples that are NaN or infinite for this "
            "recipe; nothing was stored. Try another seed or a lower nu, and report the recipe."
        )
    return np.ascontiguousarray(audio[:, : engine.spec.samples(recipe.seconds)])


def render_latent(
    engine: Engine,
    recipe: Recipe,
    on_jump: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Any:
    """The latent [1, C, T] of a recipe, before decoding."""
    spec, plan = engine.spec, recipe.plan(engine.spec)
    shape = (spec.codec.latent_channels, spec.latent_frames(recipe.seconds))
    start = standard_normal(recipe.seed, Stream.START, 0, shape) * np.float32(spec.diffusion.sigma_max)

    def step_noise(index: int) -> Any:
        return engine.array(standard_normal(recipe.seed, Stream.STEP, index, shape)[None])

    def report(done: int, z: Any) -> None:
        on_jump(done, len(plan))

    prompts = [recipe.prompt] if recipe.nu == 1.0 else [recipe.prompt, recipe.negative_prompt]
    texts = engine.encode_text(prompts)
    conditional, unconditional = (_jumps(engine, recipe.omega, text, should_stop) for text in (texts[0], texts[-1]))
    return run_plan(
        guided(conditional, unconditional, recipe.nu), engine.array(start[None]), plan, step_noise, report
    )


def _jumps(engine: Engine, omega: float, text: Any, should_stop: Callable[[], bool]) -> JumpFunction[Any]:
    def jump(z: Any, step: Jump) -> Any:
        _stop_if(should_stop)
        return engine.jump(z, [step.t], [step.s], [omega], [text])

    return jump


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise CancelledError("the clip was cancelled; nothing was stored.")
