"""Engines beside the official path on a full-size model, round after round, so that all meet the same machine."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from official import load_official

from soundctm.bundle import Bundle
from soundctm.engines.protocol import Engine, Floats
from soundctm.engines.torch import load_engine
from soundctm.engines.torch_half import Precision, load_compiled_engine, load_half_engine, snr_db
from soundctm.noise import Stream, standard_normal
from soundctm.plan import make_plan
from soundctm.spec import BundleSpec

REFERENCE, EXACT = "official", "torch"
COMPILED = {"torch-compiled": Precision.BFLOAT16, "torch-int8": Precision.INT8}
ENGINES = (EXACT, "torch-bf16", *COMPILED)
FOUR = "4 jumps"
ONE, DECODE = "1 jump", "decode"
MEASURED = (ONE, FOUR, DECODE)


@dataclass
class Contestant:
    """`jumps(steps, prompt)` gives a latent, `decode` takes one. `seconds` and `snr_db` by what was measured."""

    name: str
    jumps: Callable[[int, str], Floats]
    decode: Callable[[Floats], Floats]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    snr_db: dict[str, float] = field(default_factory=dict)

    def median(self, what: str) -> float:
        """NaN where it was not measured yet."""
        return statistics.median(self.seconds[what]) if what in self.seconds else float("nan")


def load(name: str, bundle: Bundle, threads: int) -> Contestant:
    if name == REFERENCE:
        return _official(bundle)
    if name == EXACT:
        return _engine(name, load_engine(bundle, threads=threads))
    if name == "torch-bf16":
        return _engine(name, load_half_engine(bundle, Precision.BFLOAT16, threads=threads)[0])
    return _engine(name, load_ready(bundle, COMPILED[name], threads))


def load_ready(bundle: Bundle, precision: Precision, threads: int) -> Engine:
    """With compiled kernels; the daemon serves eager ones until they are there."""
    engine, _, compiling = load_compiled_engine(bundle, precision, threads=threads)
    compiling.wait()
    if compiling.problem:
        print(f"no compiled kernels: {compiling.problem}", file=sys.stderr)
    return engine


def measure(
    contestants: list[Contestant], now: Callable[[], float], rounds: int, what: tuple[str, ...] = MEASURED
) -> Iterator[str]:
    """Fill in seconds and decibels, in place; says what it has just measured. Prompts are new in every round, so that
    nobody remembers them; all decode the latent that the exact engine, the first of them, made of one jump.

    Four jumps are run once: there is nothing in them but four times one.
    """
    for turn in range(rounds):
        wanted = yield from _round(contestants, ONE, lambda c, turn=turn: c.jumps(1, f"a dog {turn}"), now)
        if DECODE in what:
            yield from _round(contestants, DECODE, lambda c, wanted=wanted: c.decode(wanted), now)
    if FOUR in what:
        yield from _round(contestants, FOUR, lambda c: c.jumps(4, "heavy rain"), now)


def _round(
    contestants: list[Contestant], what: str, run: Callable[[Contestant], Floats], now: Callable[[], float]
) -> Generator[str, None, Floats]:
    wanted: Floats | None = None
    for contestant in contestants:
        began = now()
        found = run(contestant)
        contestant.seconds.setdefault(what, []).append(now() - began)
        wanted = found if wanted is None else wanted
        contestant.snr_db[what] = snr_db(wanted, found)
        yield f"{contestant.name}, {what}: {contestant.seconds[what][-1]:.2f} s, {contestant.snr_db[what]:.1f} dB"
    assert wanted is not None
    return wanted


def _engine(name: str, engine: Engine) -> Contestant:
    def jumps(steps: int, prompt: str) -> Floats:
        z, text = engine.array(_noise(engine.spec)), engine.encode_text([prompt])
        for jump in make_plan(steps, 0.0, engine.spec.diffusion):
            z = engine.jump(z, [jump.t], [jump.s], [engine.spec.ranges.omega_default], text)
        return np.asarray(z)

    def decode(latent: Floats) -> Floats:
        z, pieces, carries = engine.array(latent), [], [None]
        for index in range(engine.decode_tiles(latent.shape[-1])):
            piece, carries = engine.decode_tile(z, [0], index, carries)
            pieces.append(piece)
        return np.concatenate(pieces, -1)

    return Contestant(name, jumps, decode)


def _official(bundle: Bundle) -> Contestant:
    path, spec = load_official(bundle), bundle.spec

    def jumps(steps: int, prompt: str) -> Floats:
        z = torch.from_numpy(_noise(spec))
        for jump in make_plan(steps, 0.0, spec.diffusion):
            z = path.jump(z, jump.t, jump.s, spec.ranges.omega_default, prompt)
        return np.asarray(z)

    return Contestant(REFERENCE, jumps, lambda latent: np.asarray(path.decode(torch.from_numpy(latent))))


def _noise(spec: BundleSpec) -> NDArray[np.float32]:
    shape = spec.codec.latent_channels, spec.latent_frames(spec.ranges.max_seconds)
    return np.asarray(spec.diffusion.sigma_max * standard_normal(0, Stream.START, 0, shape)[None], np.float32)
