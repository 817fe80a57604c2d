"""What the daemon measures, in Prometheus's words. One registry per daemon; knows neither gRPC nor an engine.

Every label takes few values: methods of the contract, codes, reasons of errors, installed models. Nothing a client
writes becomes a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from soundctm import __version__
from soundctm.errors import CancelledError, SoundCTMError
from soundctm_daemon.errors import SettingsError
from soundctm_daemon.jobs import Priority

HOST = "127.0.0.1"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Load:
    """What is in flight at one moment: clips that wait and clips being made by kind, and the bytes of memory each
    loaded model holds by name."""

    waiting: Mapping[Priority, int]
    running: Mapping[Priority, int]
    models_bytes: Mapping[str, int]


class Metrics:
    """Plain methods, callable from any thread; seconds are wall time."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("soundctm_build", "The daemon's version.", registry=self.registry).info({"version": __version__})
        self._calls = self._histogram("call_seconds", "Calls, and how long they took.", "method", "code")
        self._forward_rows = self._histogram("forward_rows", "Rows in one batched jump.", buckets=_ROWS)
        self._decode_rows = self._histogram("decode_rows", "Clips in one decoding of a tile.", buckets=_ROWS)
        self._forward = self._histogram("forward_seconds", "One batched jump.")
        self._decode = self._histogram("decode_seconds", "One decoding of a tile, of one clip or several.")
        self._text = self._histogram("text_seconds", "One encoding of prompts; nearly nothing for those known already.")
        self._load = self._histogram("model_load_seconds", "Models brought into memory.", "model", "outcome")
        self._tick = self._histogram("tick_seconds", "One turn of the engine's loop.")
        self._wait = self._histogram("clip_wait_seconds", "From asking for a clip to its first jump.", "kind")
        self._render = self._histogram("clip_render_seconds", "From a clip's first jump to the clip on disk.", "kind")
        self._whole = self._histogram("clip_seconds", "From asking for a clip to the clip on disk.", "kind")
        self._jumps = Counter("soundctm_jumps", "Jumps of clips.", registry=self.registry)
        self._clips = Counter(
            "soundctm_clips",
            "Clips that ended: ready, failed or cancelled, and the reason of those not ready.",
            ("kind", "outcome", "reason"),
            registry=self.registry,
        )

    def call_ended(self, method: str, code: str, seconds: float) -> None:
        self._calls.labels(method, code).observe(seconds)

    def jumped(self, rows: int, seconds: float) -> None:
        """One forward of the network, rows of unconditional jumps included."""
        self._forward_rows.observe(rows)
        self._forward.observe(seconds)

    def decoded(self, rows: int, seconds: float) -> None:
        self._decode_rows.observe(rows)
        self._decode.observe(seconds)

    def encoded_text(self, seconds: float) -> None:
        self._text.observe(seconds)

    def model_loaded(self, model: str, seconds: float, *, failed: bool) -> None:
        self._load.labels(model, "failed" if failed else "loaded").observe(seconds)

    def ticked(self, seconds: float) -> None:
        self._tick.observe(seconds)

    def clip_started(self, kind: Priority, wait_seconds: float) -> None:
        self._wait.labels(kind.name.lower()).observe(wait_seconds)

    def clip_jumped(self) -> None:
        self._jumps.inc()

    def clip_ready(self, kind: Priority, render_seconds: float, whole_seconds: float) -> None:
        self._render.labels(kind.name.lower()).observe(render_seconds)
        self._whole.labels(kind.name.lower()).observe(whole_seconds)
        self._clips.labels(kind.name.lower(), "ready", "").inc()

    def clip_failed(self, kind: Priority, error: SoundCTMError) -> None:
        outcome = "cancelled" if isinstance(error, CancelledError) else "failed"
        self._clips.labels(kind.name.lower(), outcome, error.reason).inc()

    def read_load_from(self, load: Callable[[], Load]) -> None:
        """Ask `load` at every scrape; once per registry."""
        self.registry.register(_LoadCollector(load))

    def _histogram(
        self, name: str, about: str, *labels: str, buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        return Histogram(f"soundctm_{name}", about, labels, buckets=buckets, registry=self.registry)


class _LoadCollector(Collector):
    def __init__(self, load: Callable[[], Load]) -> None:
        self._load = load

    def collect(self) -> Iterator[Metric]:
        now = self._load()
        for name, about, clips in (
            ("soundctm_queue_clips", "Clips that wait.", now.waiting),
            ("soundctm_running_clips", "Clips being made.", now.running),
        ):
            family = GaugeMetricFamily(name, about, labels=("kind",))
            for kind in Priority:
                family.add_metric([kind.name.lower()], clips.get(kind, 0))
            yield family
        memory = GaugeMetricFamily("soundctm_model_memory_bytes", "Memory of each loaded model.", labels=("model",))
        for model, size_bytes in now.models_bytes.items():
            memory.add_metric([model], size_bytes)
        yield memory
        yield GaugeMetricFamily("soundctm_models_loaded", "Models in memory.", value=len(now.models_bytes))


class MetricsServer:
    """Serves a registry at `url` from threads of its own, to this machine alone, until `close`."""

    def __init__(self, registry: CollectorRegistry, port: int) -> None:
        """`port` 0 takes any free one. Raises SettingsError where the port is taken."""
        try:
            self._server, self._thread = start_http_server(port, HOST, registry)
        except OSError as error:
            raise SettingsError(
                f"metrics_port is {port}, where the daemon cannot listen ({error.strerror}). Stop what uses it, name "
                "another port, or 0 for any free one."
            ) from error
        self.url = f"http://{HOST}:{self._server.server_port}/metrics"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
