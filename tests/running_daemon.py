"""A daemon inside the test's own process, on its own thread and event loop; and an engine a test steers."""

from __future__ import annotations

import asyncio
import string
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from soundctm.bundle import Bundle
from soundctm.engines.costs import Cost, Costs
from soundctm.engines.protocol import Floats
from soundctm.familiarity import Familiarity
from soundctm_daemon.auth import load_or_create_token
from soundctm_daemon.engines import LoadEngine, engine_loader
from soundctm_daemon.files import WriteFile, write_durably
from soundctm_daemon.instance import sole_instance
from soundctm_daemon.library import open_library
from soundctm_daemon.server import Daemon, Listening
from soundctm_daemon.settings import Settings, load_settings


class ToldCost(Cost):
    """That no measurement changes."""

    @classmethod
    def line_of(cls, fixed_seconds: float, seconds_per_frame: float) -> Cost:
        points = ((frames, fixed_seconds + seconds_per_frame * frames) for frames in (1.0, 1e6))
        return cls(tuple(points))

    def seen(self, frames: float, seconds: float) -> Cost:
        return self


ONE_BY_ONE = Costs(ToldCost.line_of(0.0, 1e-6), ToldCost.line_of(0.0, 1e-6))    # sharing a step gains nothing
ALL_TOGETHER = Costs(ToldCost.line_of(1e-3, 0.0), ToldCost.line_of(1e-3, 0.0))  # sharing costs nothing
PATIENCE_SECONDS = 180.0  # how long a test waits for what must happen; reached only when it never does


class RunningDaemon:
    """`with RunningDaemon() as daemon:` serves the state folder the environment names; leaving drains it."""

    def __init__(
        self,
        load: LoadEngine | None = None,
        write_file: WriteFile = write_durably,
        **settings: Any,
    ) -> None:
        self.settings: Settings = load_settings({"port": 0, "model": "tiny", **settings})
        self._load, self._write_file = load or engine_loader(self.settings.wanted), write_file
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="daemon under test")
        self._up = threading.Event()
        self._error: BaseException | None = None
        self.listening: Listening
        self.drained: bool

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(PATIENCE_SECONDS)
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.request_stop()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()

    def wait_until_told_to_stop(self) -> None:
        """Until the clips being made are to stop; no client can see that, so this looks inside."""
        scheduler = self._daemon._scheduler
        with scheduler._changed:
            jobs = list(scheduler._making.values())
            assert scheduler._changed.wait_for(lambda: all(job.stop.error for job in jobs), PATIENCE_SECONDS)

    def request_stop(self) -> None:
        """As SIGTERM does; leaving the `with` waits for the end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            with sole_instance(self.settings):
                token = load_or_create_token(self.settings.token_file)
                library = open_library(self.settings.clips_dir, self._write_file)
                self._daemon = Daemon(self.settings, token, library, self._load)
                self.listening = await self._daemon.start()
                self._up.set()
                await self._stop.wait()
                self.drained = await self._daemon.drain()
        except BaseException as error:
            self._error = error
            self._up.set()


class Gate:
    """Jumps wait here until a test lets them through."""

    def __init__(self) -> None:
        self._open = threading.Semaphore(0)
        self.reached = threading.Semaphore(0)

    def wait(self) -> None:
        self.reached.release()
        assert self._open.acquire(timeout=PATIENCE_SECONDS)

    def let_through(self, jumps: int = 1) -> None:
        self._open.release(jumps)

    def wait_until_reached(self) -> None:
        assert self.reached.acquire(timeout=PATIENCE_SECONDS)


class HeldWrites:
    """Writes files; each waits here until a test lets it through, and all do once it has."""

    def __init__(self) -> None:
        self._reached, self._open = threading.Event(), threading.Event()

    def __call__(self, path: Path, data: bytes) -> None:
        self._reached.set()
        assert self._open.wait(PATIENCE_SECONDS)
        write_durably(path, data)

    def wait_until_reached(self) -> None:
        assert self._reached.wait(PATIENCE_SECONDS)

    def let_through(self) -> None:
        self._open.set()


class SteeredEngine:
    """Obeys the engine protocol without a network: `before_jump` may wait, a sine of `amplitude` is decoded, every
    prompt is as familiar as told."""

    def __init__(
        self,
        bundle: Bundle,
        before_jump: Callable[[], None],
        amplitude: float = 0.5,
        familiarity: Familiarity | None = None,
        costs: Costs = ONE_BY_ONE,
    ) -> None:
        self.name, self.spec, self.digest = "steered", bundle.spec, bundle.digest
        self._before_jump, self._amplitude, self._familiarity = before_jump, amplitude, familiarity
        self._costs = costs
        self.prompts: list[str] = []
        self.memory_bytes = 1_000_000

    def encode_text(self, prompts: Sequence[str]) -> list[Any]:
        self.prompts.extend(prompts)
        return list(prompts)

    def familiarity(self, prompt: str) -> Familiarity | None:
        return self._familiarity

    def embed(self, prompts: Sequence[str]) -> Floats:
        """How often each letter of the alphabet occurs: texts of the same words lie near."""
        counts = [[1e-3 + prompt.lower().count(letter) for letter in string.ascii_lowercase] for prompt in prompts]
        vectors = np.array(counts, np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    def array(self, values: Floats) -> Any:
        return values

    def jump(self, z: Any, t: Sequence[float], s: Sequence[float], omega: Sequence[float], text: Sequence[Any]) -> Any:
        self._before_jump()
        return z

    def stack(self, rows: Sequence[Any]) -> Any:
        return np.concatenate(rows)

    def decode(self, z: Any, seeds: Sequence[int]) -> Floats:
        samples = np.arange(z.shape[-1] * self.spec.codec.hop_samples, dtype=np.float32)
        sine = (self._amplitude * np.sin(0.05 * samples)).astype(np.float32)
        return np.broadcast_to(sine, (len(seeds), 1, len(sine)))

    def decode_tiles(self, frames: int) -> int:
        return 1

    def decode_tile(
        self, z: Any, seeds: Sequence[int], index: int, carries: Sequence[Any]
    ) -> tuple[Floats, list[Any]]:
        return self.decode(z, seeds), [None] * len(seeds)

    def costs(self) -> Costs:
        return self._costs

    def encode(self, audio: Floats, seeds: Sequence[int]) -> Any:
        raise NotImplementedError("no test encodes with it")


def steered(
    before_jump: Callable[[], None] = lambda: None,
    amplitude: float = 0.5,
    familiarity: Familiarity | None = None,
    costs: Costs = ONE_BY_ONE,
) -> LoadEngine:
    return lambda bundle: SteeredEngine(bundle, before_jump, amplitude, familiarity, costs)


def install(bundle_dir: Path, models_dir: Path) -> Path:
    """Make a bundle known by its folder's name, without copying it."""
    models_dir.mkdir(parents=True, exist_ok=True)
    (models_dir / bundle_dir.name).symlink_to(bundle_dir, target_is_directory=True)
    return models_dir / bundle_dir.name
