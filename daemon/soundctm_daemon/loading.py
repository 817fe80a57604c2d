"""Models come into memory beside the clips being made: on a thread of its own, asked for by the engine's thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from soundctm.bundle import Bundle
from soundctm.errors import SoundCTMError
from soundctm_daemon.engines import EnginePool, Phase
from soundctm_daemon.errors import InternalError, ModelMemoryBusyError

_log = logging.getLogger(__name__)


class Loading:
    """`on_end` is called from the loading thread when a load has ended, well or not; everything else belongs to the
    engine's thread.

    A model for which the clips being made leave no memory is crowded out: it is tried again whenever one of them has
    ended, and fails only where none was left and nothing else could be the reason.
    """

    def __init__(self, pool: EnginePool, on_end: Callable[[], None]) -> None:
        self._pool, self._on_end = pool, on_end
        self._thread = ThreadPoolExecutor(1, "loading")
        self._lock = threading.Lock()
        self._under_way: set[str] = set()            # digests
        self._failed: dict[str, SoundCTMError] = {}  # by digest, until `failures` tells them
        self._crowded_out: set[str] = set()
        self._last_tries: set[str] = set()           # of those crowded out, with nothing left in their way
        self._room_freed = False

    def in_memory(self, bundle: Bundle, *, idle: bool) -> bool:
        """Whether it is; if not, it is asked for. `idle`: no clip is being made."""
        digest = bundle.digest
        state = self._pool.states().get(digest)
        if state is not None and state.phase is Phase.LOADED:
            self._crowded_out.discard(digest)
            self._last_tries.discard(digest)
            return True
        if digest not in self._crowded_out:
            self.ask(lambda: bundle, digest)
        elif (idle or self._room_freed) and self.ask(lambda: bundle, digest):
            self._room_freed = False
            if idle:
                self._last_tries.add(digest)
        return False

    def is_crowded_out(self, digest: str) -> bool:
        return digest in self._crowded_out

    def room_freed(self) -> None:
        """A clip that was being made has ended."""
        self._room_freed = True

    def ask(self, find: Callable[[], Bundle], digest: str) -> bool:
        """Load the bundle that `find` gives, on the loading thread. False where that is under way, or has failed and
        `failures` has not told it yet."""
        with self._lock:
            if digest in self._under_way or digest in self._failed:
                return False
            self._under_way.add(digest)
        self._thread.submit(self._load, find, digest)
        return True

    def failures(self) -> dict[str, SoundCTMError]:
        """Those since it was last asked, by digest; who is crowded out has not failed."""
        with self._lock:
            failed, self._failed = self._failed, {}
        crowded_out = {
            digest
            for digest, error in failed.items()
            if isinstance(error, ModelMemoryBusyError) and digest not in self._last_tries
        }
        self._crowded_out = (self._crowded_out - failed.keys()) | crowded_out
        self._last_tries -= failed.keys()
        return {digest: error for digest, error in failed.items() if digest not in crowded_out}

    def close(self) -> None:
        """Once the load under way has ended; what has not begun never will."""
        self._thread.shutdown(cancel_futures=True)

    def _load(self, find: Callable[[], Bundle], digest: str) -> None:
        failure: SoundCTMError | None = None
        try:
            self._pool.get(find())
        except SoundCTMError as error:
            _log.error("a model cannot be used: %s", error)
            failure = error
        except Exception as error:  # a dead thread would leave every clip of the model waiting
            _log.exception("loading a model met a defect")
            failure = InternalError(
                f"the model cannot be loaded ({type(error).__name__}: {error}). The daemon's log has the details."
            )
        with self._lock:
            self._under_way.discard(digest)
            if failure is not None:
                self._failed[digest] = failure
        self._on_end()
