from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from soundctm.bundle import open_bundle
from soundctm.engines.torch import TorchEngine, load_engine
from soundctm.errors import CancelledError, NonFiniteAudioError, OutOfMemoryError
from soundctm.recipe import Recipe, make_recipe, with_steps
from soundctm.render import Take, audio_of, begin, render, render_latent, step


@pytest.fixture(scope="module")
def engine(tiny_bundle_dir: Path) -> TorchEngine:
    return load_engine(open_bundle(tiny_bundle_dir))


def recipe(engine: TorchEngine, **changes: object) -> Recipe:
    wishes = {"prompt": "rain on a tin roof", "seed": 3, "seconds": 0.5, **changes}
    return make_recipe(engine.spec, engine.digest, **wishes)  # type: ignore[arg-type]


def test_the_same_recipe_gives_the_same_samples_in_any_order(engine: TorchEngine) -> None:
    wanted = recipe(engine, steps=3, gamma=0.5)
    first = render(engine, wanted)
    render(engine, recipe(engine, prompt="dog barks", seed=99))
    assert np.array_equal(first, render(engine, wanted))
    assert first.shape == (1, 22050)
    assert first.dtype == np.float32


@pytest.mark.parametrize("changes", [{"seed": 4}, {"prompt": "thunder"}, {"omega": 4.0}, {"nu": 2.0}, {"steps": 4}])
def test_every_ingredient_of_a_recipe_matters(engine: TorchEngine, changes: dict[str, object]) -> None:
    assert not np.allclose(render(engine, recipe(engine)), render(engine, recipe(engine, **changes)), atol=1e-6)


def test_a_negative_prompt_matters_only_when_there_is_an_unconditional_jump(engine: TorchEngine) -> None:
    with_one, without = recipe(engine, negative_prompt="dog"), recipe(engine)
    assert np.array_equal(render(engine, with_one), render(engine, without))
    mixed = recipe(engine, nu=2.0, negative_prompt="dog"), recipe(engine, nu=2.0)
    assert not np.allclose(render(engine, mixed[0]), render(engine, mixed[1]), atol=1e-6)


MIXED: tuple[dict[str, object], ...] = (
    {"steps": 4},
    {"steps": 8, "gamma": 0.7, "prompt": "dog barks", "seed": 9},
    {"steps": 2, "nu": 2.5, "negative_prompt": "thunder", "omega": 4.5, "seed": 11},
    {"steps": 16, "gamma": 1.0, "nu": 0.5, "seed": 4_294_967_295},
    {"steps": 1, "prompt": "heavy thunder"},
)


def together(engine: TorchEngine, recipes: list[Recipe]) -> list[Take]:
    """Every recipe's take, done; in every round all that jump share one forward, then all that decode one tile."""
    takes = [begin(engine, wanted) for wanted in recipes]
    while not all(take.done for take in takes):
        for stage in {take.stage for take in takes if not take.done}:
            chosen = [index for index, take in enumerate(takes) if not take.done and take.stage == stage]
            moved = step(engine, [takes[index] for index in chosen])
            for index, take in zip(chosen, moved, strict=True):
                takes[index] = take
    return takes


@pytest.mark.parametrize("seconds", [0.5, 3.0])
def test_clips_at_any_step_of_any_plan_share_forwards_and_stay_what_they_are(
    engine: TorchEngine, seconds: float
) -> None:
    recipes = [recipe(engine, seconds=seconds, **changes) for changes in MIXED]
    for wanted, take in zip(recipes, together(engine, recipes), strict=True):
        alone = render_latent(engine, wanted)
        assert float((take.cursor.z - alone).norm() / alone.norm()) < 1e-5
        assert audio_of(engine, take) == pytest.approx(render(engine, wanted), abs=1e-4)


def test_at_one_batch_shape_a_clip_is_bit_for_bit_the_same_whoever_shares_it(engine: TorchEngine) -> None:
    wanted = recipe(engine, steps=4, gamma=0.5)
    found = []
    for place, seed in ((0, 20), (1, 30), (3, 40)):
        recipes = [recipe(engine, steps=4, seed=seed + k, prompt="dog barks", omega=2.0 + k / 2) for k in range(4)]
        recipes[place] = wanted
        found.append(together(engine, recipes)[place].cursor.z)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_only_clips_with_another_nu_take_a_second_row(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    original = engine.jump
    monkeypatch.setattr(engine, "jump", lambda z, *rest: (rows.append(len(z)), original(z, *rest))[1])
    step(engine, [begin(engine, recipe(engine, nu=nu)) for nu in (1.0, 2.0, 1.0)])
    assert rows == [4]


def test_a_step_that_fails_moves_no_take(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    takes = [begin(engine, recipe(engine, steps=2, gamma=0.5, seed=seed)) for seed in (1, 2)]
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(engine, "jump", lambda *rest: (_ for _ in ()).throw(RuntimeError("broken")))
        step(engine, takes)
    assert [take.cursor.done for take in takes] == [0, 0]
    assert [take.cursor.done for take in step(engine, takes)] == [1, 1]


@pytest.mark.parametrize("message", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"])
def test_a_device_without_memory_says_so(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    def fail(*rest: object) -> torch.Tensor:
        raise RuntimeError(message)

    monkeypatch.setattr(engine._network, "forward", fail)
    with pytest.raises(OutOfMemoryError, match="shorter one"):
        render(engine, recipe(engine))


def test_a_clip_does_not_depend_on_who_shares_its_batch(engine: TorchEngine) -> None:
    """Bit-equal at one batch shape; 1e-5 across shapes, where matrix products are summed in another order."""
    texts = engine.encode_text(["rain", "dog barks", "thunder"])
    z = torch.randn(3, 4, 22, generator=torch.Generator().manual_seed(0)) * 80
    row = (engine.array(z[1:2].numpy()), [80.0], [0.002], [3.0], [texts[1]])
    alone = engine.jump(*row)
    among = engine.jump(z, [80.0] * 3, [5.0, 0.002, 80.0], [2.0, 3.0, 4.0], texts)[1:2]
    others = engine.jump(torch.stack([-z[0], z[1], z[0]]), [80.0] * 3, [5.0, 0.002, 1.0], [5.0, 3.0, 1.0],
                         [texts[2], texts[1], texts[0]])[1:2]
    assert torch.equal(among, others)
    assert torch.allclose(alone, among, atol=1e-5)


def test_a_longer_clip_starts_from_the_noise_of_a_shorter_one(engine: TorchEngine) -> None:
    seen = []
    for seconds in (0.5, 1.0):
        engine_calls = _FirstJump(engine)
        render_latent(engine_calls, recipe(engine, seconds=seconds))
        seen.append(engine_calls.start)
    assert torch.equal(seen[0], seen[1][..., : seen[0].shape[-1]])


def test_a_refine_starts_from_its_previews_noise(engine: TorchEngine) -> None:
    calls = _FirstJump(engine), _FirstJump(engine)
    render_latent(calls[0], recipe(engine))
    render_latent(calls[1], with_steps(recipe(engine), engine.spec, steps=16))
    assert torch.equal(calls[0].start, calls[1].start)


def test_text_is_encoded_once_per_prompt(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    original = engine._text.encode
    monkeypatch.setattr(engine._text, "encode", lambda prompts: encoded.extend(prompts) or original(prompts))
    for steps in (1, 8):
        render(engine, recipe(engine, prompt="heavy rain", negative_prompt="barks", steps=steps, nu=1.5))
    assert encoded == ["heavy rain", "barks"]


def test_progress_counts_every_jump(engine: TorchEngine) -> None:
    seen: list[tuple[int, int]] = []
    render(engine, recipe(engine, steps=3), on_jump=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_stop_is_honoured_before_the_next_jump(engine: TorchEngine) -> None:
    done: list[int] = []
    with pytest.raises(CancelledError):
        render(engine, recipe(engine, steps=8), lambda k, n: done.append(k), lambda: len(done) >= 2)
    assert done == [1, 2]


def test_nan_is_an_error_and_not_a_clip(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    silence = np.full((1, 1, 30_000), np.nan, np.float32)
    monkeypatch.setattr(engine, "decode_tile", lambda z, seeds, index, carries: (silence, [None]))
    with pytest.raises(NonFiniteAudioError, match="30000 samples"):
        render(engine, recipe(engine))


def test_encode_then_decode_keeps_the_length(engine: TorchEngine) -> None:
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 1, 5000)).astype(np.float32)
    latent = engine.encode(audio, [1])
    assert latent.shape == (1, 4, 5)
    assert engine.decode(latent, [1]).shape == (1, 1, 5120)


class _FirstJump:
    """An engine that remembers what the first jump started from."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine = engine
        self.start: torch.Tensor | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def jump(self, z: torch.Tensor, *rest: object) -> torch.Tensor:
        if self.start is None:
            self.start = z.clone()
        return self._engine.jump(z, *rest)  # type: ignore[arg-type]
