"""Recipe -> audio, on any engine, alone or together with others.

A take moves from jump to jump and then from tile to tile; takes of one length that stand at the same stage may make
their next step together, whatever their plans, prompts and guidance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from soundctm.engines.protocol import Engine, Floats
from soundctm.errors import CancelledError, NonFiniteAudioError
from soundctm.noise import Stream, standard_normal
from soundctm.recipe import Recipe
from soundctm.sampling import Cursor, mixed


@dataclass(frozen=True)
class Take:
    """A recipe on its way to audio. The latent in `cursor` is [1, C, frames].

    `texts` holds the prompt's handle and, where nu is not 1, the negative prompt's. `pieces` are the audio of the tiles
    decoded so far, `carry` is what the last of them handed on.
    """

    recipe: Recipe
    cursor: Cursor[Any]
    texts: tuple[Any, ...]
    frames: int
    tiles: int
    pieces: tuple[Floats, ...] = ()
    carry: Any = None

    @property
    def jumping(self) -> bool:
        """The next step is a jump, not the decoding of a tile."""
        return not self.cursor.finished

    @property
    def done(self) -> bool:
        return self.cursor.finished and len(self.pieces) == self.tiles

    @property
    def stage(self) -> Hashable:
        """Takes on one engine whose stages are equal may step together."""
        return stage_of(self.frames, None if self.jumping else len(self.pieces))

    @property
    def rows(self) -> int:
        """Of the batch of the next step."""
        return len(self.texts) if self.jumping else 1


def stage_of(frames: int, tile: int | None) -> Hashable:
    """Before any jump (None), or before a tile, of clips of so many latent frames."""
    return frames, tile


def begin(engine: Engine, recipe: Recipe) -> Take:
    """Before the first jump."""
    spec = engine.spec
    frames = spec.latent_frames(recipe.seconds)
    start = _noise(engine, recipe, Stream.START, 0, frames) * spec.diffusion.sigma_max
    prompts = [recipe.prompt] if recipe.nu == 1.0 else [recipe.prompt, recipe.negative_prompt]
    cursor = Cursor(recipe.plan(spec), start)
    return Take(recipe, cursor, tuple(engine.encode_text(prompts)), frames, engine.decode_tiles(frames))


def step(engine: Engine, takes: Sequence[Take]) -> list[Take]:
    """The takes, each one step further: one batched jump, or one batched decoding of a tile.

    All must be of one stage. Raises whatever the engine raises; no take has moved then.
    """
    return _jump(engine, takes) if takes[0].jumping else _decode(engine, takes)


def audio_of(engine: Engine, take: Take) -> Floats:
    """Of a take that is done: float32 [channels, samples], trimmed to the recipe's length.

    Raises NonFiniteAudioError when the model gave NaN or infinity.
    """
    audio = np.concatenate(take.pieces, axis=-1)
    if not np.isfinite(audio).all():
        raise NonFiniteAudioError(
            f"the model produced {np.count_nonzero(~np.isfinite(audio))} samples that are NaN or infinite for this "
            "recipe; nothing was stored. Try another seed or a lower nu, and report the recipe."
        )
    return np.ascontiguousarray(audio[:, : engine.spec.samples(take.recipe.seconds)])


def render(
    engine: Engine,
    recipe: Recipe,
    on_jump: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Floats:
    """The clip of a recipe: float32 [channels, samples], trimmed to the recipe's length.

    `on_jump(done, total)` reports progress. `should_stop` is asked before every jump and every tile of decoding.
    Raises CancelledError when it says so, NonFiniteAudioError when the model gives NaN or infinity.
    """
    take = _jumped(engine, recipe, on_jump, should_stop)
    while not take.done:
        _stop_if(should_stop)
        (take,) = step(engine, [take])
    return audio_of(engine, take)


def render_latent(
    engine: Engine,
    recipe: Recipe,
    on_jump: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Any:
    """The latent [1, C, T] of a recipe, before decoding."""
    return _jumped(engine, recipe, on_jump, should_stop).cursor.z


def _jumped(
    engine: Engine, recipe: Recipe, on_jump: Callable[[int, int], None], should_stop: Callable[[], bool]
) -> Take:
    take = begin(engine, recipe)
    while take.jumping:
        _stop_if(should_stop)
        (take,) = step(engine, [take])
        on_jump(take.cursor.done, recipe.steps)
    return take


def _jump(engine: Engine, takes: Sequence[Take]) -> list[Take]:
    rows = [(take, text) for take in takes for text in take.texts]
    jumps = [take.cursor.jump for take, _ in rows]
    landed = engine.jump(
        engine.stack([take.cursor.z for take, _ in rows]),
        [jump.t for jump in jumps],
        [jump.s for jump in jumps],
        [take.recipe.omega for take, _ in rows],
        [text for _, text in rows],
    )
    moved, row = [], 0
    for take in takes:
        z = landed[row : row + 1]
        if len(take.texts) == 2:
            z = mixed(z, landed[row + 1 : row + 2], take.recipe.nu)
        row += len(take.texts)
        moved.append(dataclasses.replace(take, cursor=take.cursor.landed(z, _step_noise(engine, take))))
    return moved


def _decode(engine: Engine, takes: Sequence[Take]) -> list[Take]:
    audio, carries = engine.decode_tile(
        engine.stack([take.cursor.z for take in takes]),
        [take.recipe.seed for take in takes],
        len(takes[0].pieces),
        [take.carry for take in takes],
    )
    return [
        dataclasses.replace(take, pieces=(*take.pieces, piece), carry=carry)
        for take, piece, carry in zip(takes, audio, carries, strict=True)
    ]


def _step_noise(engine: Engine, take: Take) -> Callable[[int], Any]:
    return lambda index: _noise(engine, take.recipe, Stream.STEP, index, take.frames)


def _noise(engine: Engine, recipe: Recipe, stream: Stream, index: int, frames: int) -> Any:
    shape = (engine.spec.codec.latent_channels, frames)
    return engine.array(standard_normal(recipe.seed, stream, index, shape)[None])


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise CancelledError("the clip was cancelled; nothing was stored.")
