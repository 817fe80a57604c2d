"""The engines in memory: several models side by side within a budget, the least lately used ones going first."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from soundctm.bundle import Bundle
from soundctm.engines.choosing import Choice, Wanted, choices
from soundctm.engines.protocol import Engine
from soundctm.engines.registry import ENGINES
from soundctm.engines.warm_up import warm_up
from soundctm.errors import EngineUnavailableError, GraphError, ProviderMissingError, SoundCTMError
from soundctm_daemon.errors import ModelInUseError, ModelLoadError, ModelMemoryBusyError, ModelTooBigError

LoadEngine = Callable[[Bundle], Engine]
_log = logging.getLogger(__name__)
_MB = 1_000_000


class Phase(Enum):
    LOADING = auto()
    LOADED = auto()
    FAILED = auto()


@dataclass(frozen=True)
class EngineState:
    """Of one bundle. `problem` says why the last load failed; `last_used_at` is on time.monotonic's clock; `engine` is
    the name of the one that runs it."""

    phase: Phase
    problem: str = ""
    memory_bytes: int = 0
    last_used_at: float = 0.0
    engine: str = ""


States = Mapping[str, EngineState]  # by the bundles' digests; what was never asked for is not in it


@dataclass(frozen=True)
class _Held:
    engine: Engine
    memory_bytes: int
    last_used_at: float


class EnginePool:
    """Any thread may call it. Who makes a clip pins the bundle first, then gets its engine.

    Loads go one after another and hold up nobody who asks for an engine in memory. A model's memory is the bytes of
    its tensors, which every jump touches: the growth of the process would count PyTorch itself at the first load and
    leave out whatever of a mapped file was not yet read.
    """

    def __init__(
        self,
        load: LoadEngine,
        budget_bytes: Callable[[], int],
        on_state: Callable[[States], None] = lambda states: None,
        wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
    ) -> None:
        """`budget_bytes` is asked once, at the first load; `on_state` is called after every change, by its thread.
        `wanted` is what `load` goes by: what a model will need depends on its engine."""
        self._load, self._ask_budget, self._on_state, self._wanted = load, budget_bytes, on_state, wanted
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._held: OrderedDict[str, _Held] = OrderedDict()  # least lately used first
        self._unheld: dict[str, EngineState] = {}            # loading and failed ones
        self._pins: Counter[str] = Counter()
        self._measured: dict[str, int] = {}                  # bytes, of everything loaded so far
        self._budget: int | None = None

    def get(self, bundle: Bundle) -> Engine:
        """The bundle's engine; loaded, and others unloaded for it, where it is not in memory.

        A bundle that fails leaves the engines in memory as they are, and is tried anew at the next call.
        Raises ModelMemoryBusyError when only engines in use could make room (their clips will end: ask again),
        ModelTooBigError, ModelLoadError, BundleError and its kinds.
        """
        engine = self._in_memory(bundle.digest)
        if engine is not None:
            return engine
        with self._loading:
            return self._in_memory(bundle.digest) or self._bring_in(bundle)

    def pin(self, digest: str) -> None:
        """A clip is to be made with this engine: once in memory it stays there. Every `pin` needs its `unpin`."""
        with self._lock:
            self._pins[digest] += 1

    def unpin(self, digest: str) -> None:
        with self._lock:
            self._pins[digest] -= 1
            if self._pins[digest] <= 0:
                del self._pins[digest]

    def unload(self, digest: str) -> None:
        """Free its memory; nothing happens where it is not loaded, or is still being loaded. Raises ModelInUseError
        while a clip uses it."""
        with self._lock:
            if self._pins[digest]:
                raise ModelInUseError(
                    f"{self._pins[digest]} clips are being made with this model, so that it cannot be unloaded; wait "
                    "for them or cancel them, then unload it."
                )
            if digest in self._unheld and self._unheld[digest].phase is Phase.FAILED:
                del self._unheld[digest]
            found = self._held.pop(digest, None) is not None
        if found:
            gc.collect()
            self._tell()

    def states(self) -> States:
        with self._lock:
            loaded = {
                digest: EngineState(Phase.LOADED, "", held.memory_bytes, held.last_used_at, held.engine.name)
                for digest, held in self._held.items()
            }
            return {**self._unheld, **loaded}

    def holds(self, digest: str) -> bool:
        """It is in memory or on its way there."""
        state = self.states().get(digest)
        return state is not None and state.phase is not Phase.FAILED

    @property
    def is_loading(self) -> bool:
        """A load is under way, which nothing can interrupt."""
        return self._loading.locked()

    def measured_bytes(self, digest: str) -> int:
        """Memory it takes while loaded; 0 before its first load."""
        return self._measured.get(digest, 0)

    def _in_memory(self, digest: str) -> Engine | None:
        with self._lock:
            held = self._held.get(digest)
            if held is None:
                return None
            self._held[digest] = replace(held, last_used_at=time.monotonic())
            self._held.move_to_end(digest)
            return held.engine

    def _bring_in(self, bundle: Bundle) -> Engine:
        self._set(bundle.digest, EngineState(Phase.LOADING))
        began = time.perf_counter()
        try:
            engine = self._loaded(bundle)
        except ModelMemoryBusyError:
            self._set(bundle.digest, None)
            raise
        except SoundCTMError as error:
            self._set(bundle.digest, EngineState(Phase.FAILED, str(error)))
            raise
        memory_bytes = self._measured[bundle.digest] = engine.memory_bytes
        with self._lock:
            del self._unheld[bundle.digest]
            self._held[bundle.digest] = _Held(engine, memory_bytes, time.monotonic())
            self._drop(self._victims(0, besides=bundle.digest))
        _log.info(
            "loaded model %s, %.0f MB, in %.2f s", bundle.spec.name, memory_bytes / _MB, time.perf_counter() - began
        )
        self._tell()
        return engine

    def _make_room(self, bundle: Bundle) -> None:
        choice = choices(bundle, self._wanted, ENGINES)[0]
        if self._budget is None:
            self._budget = self._ask_budget()
        needed = self._measured.get(bundle.digest) or choice.expected_bytes()
        if needed > self._budget:
            raise ModelTooBigError(
                f"the model {bundle.spec.name!r} needs about {needed / _MB:.0f} MB; models may take "
                f"{self._budget / _MB:.0f} MB together. Set model_memory_mb to at least {needed // _MB + 1} and start "
                "the daemon again, if the machine has that much."
            )
        with self._lock:
            victims = self._victims(needed, besides=bundle.digest)
            taken = sum(held.memory_bytes for digest, held in self._held.items() if digest not in victims)
        if taken + needed > self._budget:
            raise ModelMemoryBusyError(
                f"the model {bundle.spec.name!r} needs about {needed / _MB:.0f} MB beside the models that clips are "
                f"being made with now ({taken / _MB:.0f} MB); models may take {self._budget / _MB:.0f} MB together. "
                "Ask again when those clips are done, or raise model_memory_mb."
            )
        if victims:
            choice.verify()  # before a good model goes for one that is damaged
            with self._lock:
                self._drop(victims)
            gc.collect()  # the memory must be free before the next model asks for it

    def _victims(self, needed: int, besides: str) -> list[str]:
        """Digests to unload, so that `needed` more bytes fit as far as that can be had."""
        assert self._budget is not None
        victims: list[str] = []
        excess = sum(held.memory_bytes for held in self._held.values()) + needed - self._budget
        for digest, held in self._held.items():
            if excess > 0 and digest != besides and not self._pins[digest]:
                victims.append(digest)
                excess -= held.memory_bytes
        return victims

    def _drop(self, digests: list[str]) -> None:
        for digest in digests:
            _log.info("unloading model %s: others need its memory", self._held[digest].engine.spec.name)
            del self._held[digest]

    def _loaded(self, bundle: Bundle) -> Engine:
        try:
            self._make_room(bundle)
            return self._load(bundle)
        except SoundCTMError:
            raise
        except Exception as error:
            _log.exception("loading %s met a defect", bundle.path)
            raise ModelLoadError(
                f"the model {bundle.spec.name!r} in {bundle.path} cannot be loaded ({type(error).__name__}: {error}). "
                "Run `soundctm doctor`, and look at the daemon's log."
            ) from error

    def _set(self, digest: str, state: EngineState | None) -> None:
        with self._lock:
            self._unheld.pop(digest, None)
            if state is not None:
                self._unheld[digest] = state
        self._tell()

    def _tell(self) -> None:
        self._on_state(self.states())


def engine_loader(wanted: Wanted) -> LoadEngine:
    """Verifies, loads and warms up on the engine that the rules choose. PyTorch is imported on the first load, if at
    all: a daemon answers long before.

    Under `auto`, an engine that fails here leaves its place to the next one; the log says so. PyTorch's threads sleep
    while they wait for one another instead of spinning: on two cores that a DAW keeps busy too, 16 jumps take 2 s and
    not 16; alone, 0.9 s and not 0.8.
    """

    def load(bundle: Bundle) -> Engine:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when PyTorch is imported
        *others, last = choices(bundle, wanted, ENGINES)
        for choice in others:
            try:
                return _warm(choice)
            except (EngineUnavailableError, GraphError, ProviderMissingError) as error:
                _log.warning("the engine %s fails, and the next one is tried: %s", choice.kind.name, error)
        return _warm(last)

    return load


def _warm(choice: Choice) -> Engine:
    _log.info("model %s runs on %s: %s", choice.able.bundle.spec.name, choice.kind.name, choice.reason)
    engine = choice.load()
    warm_up(engine)
    return engine
