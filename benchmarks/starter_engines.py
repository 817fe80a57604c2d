"""Every engine that can run the starter here: from a prompt to a file, and jumps of many clips at once."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from full_engines import COMPILED, load_ready
from machine import clock

from soundctm.bundle import Bundle, find_bundle
from soundctm.engines.choosing import Able, EngineKind, Wanted
from soundctm.engines.protocol import Engine, Floats
from soundctm.engines.registry import ENGINES
from soundctm.engines.warm_up import warm_up
from soundctm.noise import Stream, standard_normal
from soundctm.recipe import Recipe
from soundctm.render import render

BATCHES = (1, 2, 4, 8, 16, 32)
_CLIPS_PER_ROUND = 8


def starter_figures(
    threads: int, rounds: int, name: str = "starter", without: Collection[str] = ()
) -> dict[str, Any]:
    """Engines take turns, so that all meet the same machine. `without` names some that are left out."""
    bundle, now = find_bundle(name), clock(threads)
    engines: dict[str, tuple[Engine, dict[str, Any]]] = {}
    for kind in ENGINES:
        loaded = None if kind.name in without else _loaded(kind, bundle, threads)
        if loaded:
            engines[kind.name] = loaded
    clips: dict[str, list[float]] = {each: [] for each in engines}
    batches: dict[str, dict[int, list[float]]] = {each: {rows: [] for rows in BATCHES} for each in engines}
    for turn in range(rounds):
        for each, (engine, _) in engines.items():
            prompts = (f"a dog barks, take {turn} {number}" for number in range(_CLIPS_PER_ROUND))
            clips[each] += [_clip_seconds(engine, prompt, now) for prompt in prompts]
            for rows in BATCHES:
                batches[each][rows].append(_jump_seconds(engine, rows, now))
    told = {
        each: {
            **about,
            "prompt_to_file_p50_seconds": statistics.median(clips[each]),
            "prompt_to_file_p95_seconds": statistics.quantiles(clips[each], n=20, method="inclusive")[18],
            "jump_seconds_per_clip": {rows: statistics.median(batches[each][rows]) / rows for rows in BATCHES},
        }
        for each, (_, about) in engines.items()
    }
    return {"seconds_of_sound": bundle.spec.ranges.max_seconds, "engines": told}


def _loaded(kind: EngineKind, bundle: Bundle, threads: int) -> tuple[Engine, dict[str, Any]] | None:
    wanted = Wanted(kind.name, threads=threads)
    able = kind.judge(bundle, wanted)
    if not isinstance(able, Able):
        return None
    began = time.perf_counter()
    compiled = COMPILED.get(kind.name)
    engine = load_ready(bundle, compiled, threads) if compiled else kind.load(able.bundle, wanted)
    warm_up(engine)
    return engine, {"load_seconds": time.perf_counter() - began, "weight_bytes": engine.memory_bytes}


def _clip_seconds(engine: Engine, prompt: str, now: Callable[[], float]) -> float:
    """A prompt never seen before, one jump, the decoder, a file."""
    spec = engine.spec
    recipe = Recipe(
        engine.digest, prompt, "", seed=1, seconds=spec.ranges.max_seconds, steps=1, gamma=0.0,
        omega=spec.ranges.omega_default, nu=1.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        began = now()
        audio = render(engine, recipe)
        soundfile.write(Path(folder) / "clip.wav", audio.T, spec.codec.sample_rate_hz, subtype="FLOAT")
        return now() - began


def _jump_seconds(engine: Engine, rows: int, now: Callable[[], float]) -> float:
    spec = engine.spec
    shape = spec.codec.latent_channels, spec.latent_frames(spec.ranges.max_seconds)
    noise: Floats = np.stack([standard_normal(seed, Stream.START, 0, shape) for seed in range(rows)])
    z, text = engine.array(spec.diffusion.sigma_max * noise), engine.encode_text(["a dog barks"]) * rows
    levels = [[level] * rows for level in (spec.diffusion.sigma_max, spec.diffusion.sigma_min)]
    began = now()
    engine.jump(z, *levels, [spec.ranges.omega_default] * rows, text)
    return now() - began
