from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from soundctm.bundle import open_bundle
from soundctm.engines.torch import TorchEngine, load_engine
from soundctm.errors import CancelledError, NonFiniteAudioError
from soundctm.recipe import Recipe, make_recipe, with_steps
from soundctm.render import render, render_latent


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
    monkeypatch.setattr(engine, "decode", lambda z, seeds: np.full((1, 1, 30_000), np.nan, np.float32))
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
