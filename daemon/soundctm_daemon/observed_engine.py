"""An engine that counts and times what it does: rows per forward, jumps, decodings, encodings of prompts, loads; and
what is in flight and in memory at one moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from soundctm.bundle import Bundle
from soundctm.engines.protocol import Engine, Floats
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.engines import EnginePool, Phase
from soundctm_daemon.metrics import Load, Metrics
from soundctm_daemon.scheduler import Scheduler

_Load = Callable[[Bundle], Engine]


def observed_loader(load: _Load, metrics: Metrics) -> _Load:
    """`load`, whose engines tell `metrics` what they do."""

    def observed(bundle: Bundle) -> Engine:
        began, failed = time.perf_counter(), True
        try:
            engine = load(bundle)
            failed = False
        finally:
            metrics.model_loaded(bundle.spec.name, time.perf_counter() - began, failed=failed)
        return cast(Engine, _ObservedEngine(engine, metrics))

    return observed


def load_of(scheduler: Scheduler, pool: EnginePool, catalogue: Catalogue) -> Load:
    """As it is now. A model goes by its name, or by its digest's beginning once another has that name."""
    waiting, running = scheduler.load()
    names = {digest: name for name, digest in catalogue.in_service().items()}
    models_bytes = {
        names.get(digest, digest[:12]): state.memory_bytes
        for digest, state in pool.states().items()
        if state.phase is Phase.LOADED
    }
    return Load(waiting, running, models_bytes)


class _ObservedEngine:
    """Everything not named here is the engine's own."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine, self._metrics = engine, metrics

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode_text(self, prompts: Sequence[str]) -> list[Any]:
        began = time.perf_counter()
        handles = self._engine.encode_text(prompts)
        self._metrics.encoded_text(time.perf_counter() - began)
        return handles

    def jump(self, z: Any, t: Sequence[float], s: Sequence[float], omega: Sequence[float], text: Sequence[Any]) -> Any:
        began = time.perf_counter()
        jumped = self._engine.jump(z, t, s, omega, text)
        self._metrics.jumped(len(t), time.perf_counter() - began)
        return jumped

    def decode_tile(
        self, z: Any, seeds: Sequence[int], index: int, carries: Sequence[Any]
    ) -> tuple[Floats, list[Any]]:
        began = time.perf_counter()
        decoded = self._engine.decode_tile(z, seeds, index, carries)
        self._metrics.decoded(len(seeds), time.perf_counter() - began)
        return decoded
