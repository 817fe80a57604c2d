"""The engine fails: for one clip among others that share its steps, or for want of memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from faults.crowd import SECONDS, follow
from faults.processes import wait_until
from faults.scale import Scale
from faults.told import Told, losses
from running_daemon import ALL_TOGETHER, Gate, RunningDaemon
from soundctm.bundle import Bundle
from soundctm.engines.costs import Costs
from soundctm.engines.protocol import Engine
from soundctm.engines.torch import load_engine
from soundctm.errors import OutOfMemoryError
from soundgen import paths
from soundgen.client import Client
from soundgen.errors import SoundgenError

GUILTY, INNOCENT, FIRST = "thunder", "rain", "a roof"
_GUILTY_SEED = 13
_COMPANIONS = 8


class _Faulty:
    """The tests' engine with handles that know their prompts; `fail(method, prompts, seeds)` is asked first."""

    def __init__(self, bundle: Bundle, fail: Callable[[str, Sequence[str], Sequence[int]], None]) -> None:
        self._engine: Engine = load_engine(bundle, threads=1)
        self._fail = fail
        self.most_rows = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def costs(self) -> Costs:
        return ALL_TOGETHER

    def encode_text(self, prompts: Sequence[str]) -> list[Any]:
        self._fail("encode_text", prompts, ())
        return list(zip(prompts, self._engine.encode_text(prompts), strict=True))

    def embed(self, prompts: Sequence[str]) -> Any:
        self._fail("embed", prompts, ())
        return self._engine.embed(prompts)

    def familiarity(self, prompt: str) -> Any:
        self._fail("familiarity", [prompt], ())
        return self._engine.familiarity(prompt)

    def jump(self, z: Any, t: Any, s: Any, omega: Any, text: Sequence[Any]) -> Any:
        self.most_rows = max(self.most_rows, len(text))
        self._fail("jump", [prompt for prompt, _ in text], ())
        return self._engine.jump(z, t, s, omega, [handle for _, handle in text])

    def decode_tile(self, z: Any, seeds: Sequence[int], index: int, carries: Sequence[Any]) -> Any:
        self._fail("decode_tile", (), seeds)
        audio, carried = self._engine.decode_tile(z, seeds, index, carries)
        audio = np.array(audio)
        audio[[number for number, seed in enumerate(seeds) if self.spoils(seed)]] = np.nan
        return audio, carried

    def spoils(self, seed: int) -> bool:
        return False


class _Spoiling(_Faulty):
    """Gives NaN for the guilty seed."""

    def spoils(self, seed: int) -> bool:
        return seed == _GUILTY_SEED


def exceptions(scale: Scale) -> list[str]:
    """In every method of the engine."""
    lost = []
    for method in ("encode_text", "jump", "decode_tile", "embed", "familiarity"):
        lost += _one_guilty(_Faulty, _failing_in(method, RuntimeError("told to fail")), "INTERNAL")
    return lost


def not_a_number(scale: Scale) -> list[str]:
    return _one_guilty(_Spoiling, lambda method, prompts, seeds: None, "NON_FINITE_AUDIO")


def memory_of_one(scale: Scale) -> list[str]:
    """One clip is too large for the memory, alone or with others."""
    error = OutOfMemoryError("told to have none")
    lost = []
    for method in ("jump", "decode_tile"):
        lost += _one_guilty(_Faulty, _failing_in(method, error), "OUT_OF_MEMORY")
    return lost


def memory_of_many(scale: Scale) -> list[str]:
    """No clip is too large, many together are."""

    def fail(method: str, prompts: Sequence[str], seeds: Sequence[int]) -> None:
        if max(len(prompts), len(seeds)) > 2:
            raise OutOfMemoryError("told to have none for more than two")

    return _one_guilty(_Faulty, fail, "")


def _failing_in(method: str, error: Exception) -> Callable[[str, Sequence[str], Sequence[int]], None]:
    def fail(called: str, prompts: Sequence[str], seeds: Sequence[int]) -> None:
        if called == method and (GUILTY in prompts or _GUILTY_SEED in seeds):
            raise error

    return fail


def _one_guilty(kind: type[_Faulty], fail: Callable[..., None], reason: str) -> list[str]:
    """Clips that wait until all are there, and then share every step; the guilty one fails for `reason` (empty: it
    does not), the others are made. Then it is asked for once more, together with one that is made."""
    told, gate, engines = Told(), Gate(), list[_Faulty]()

    def load(bundle: Bundle) -> Any:
        engines.append(kind(bundle, gated))
        return engines[-1]

    def gated(method: str, prompts: Sequence[str], seeds: Sequence[int]) -> None:
        if method == "jump" and FIRST in prompts:
            gate.wait()
        fail(method, prompts, seeds)

    with RunningDaemon(load, preview_steps=1), Client() as client:
        first = threading.Thread(target=_ask, args=(FIRST, 0, told))
        first.start()
        gate.wait_until_reached()
        others = [
            threading.Thread(target=_ask, args=(GUILTY if seed == _GUILTY_SEED else INNOCENT, seed, told))
            for seed in (*range(1, _COMPANIONS), _GUILTY_SEED)
        ]
        for thread in others:
            thread.start()
        wait_until(lambda: len(client.jobs()) > len(others))
        gate.let_through(1000)
        for thread in (first, *others):
            thread.join()
        if engines[0].most_rows < 2:
            told.unexpected.append("no step was shared: nothing was tried")
        _expect_only(told, reason)
        _ask(INNOCENT, 1, told)
        if not client.serving():
            told.unexpected.append("the daemon does not serve any more")
        return losses(told, client, paths.clips_dir())


def _ask(prompt: str, seed: int, told: Told) -> None:
    with Client() as client:
        try:
            follow(client.generate(prompt, seed=seed, seconds=SECONDS, steps=3), told)
        except SoundgenError as error:
            told.unexpected.append(f"{prompt} met {error.reason}: {error}")


def _expect_only(told: Told, reason: str) -> None:
    """Failed: the guilty one, and for this reason."""
    failed = {told.asked[clip_id].prompt: why for clip_id, why in told.failed.items()}
    expected = {GUILTY: reason} if reason else {}
    if failed != expected:
        told.unexpected.append(f"failed: {failed}, and should have: {expected}")
