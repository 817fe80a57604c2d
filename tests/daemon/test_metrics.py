"""What is measured, read as Prometheus reads it: from the daemon's metrics port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from running_daemon import PATIENCE_SECONDS, Gate, RunningDaemon, steered
from soundctm_daemon.errors import SettingsError
from soundctm_daemon.metrics import Metrics, MetricsServer
from soundgen import types
from soundgen.client import Client
from soundgen.errors import ClipCancelledError, ExhaustedError, NotFoundError, UnauthenticatedError


@pytest.fixture
def daemon(models: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(steered(), metrics_port=0) as running:
        yield running


class Scrape:
    """Samples by name, and labels as far as given."""

    def __init__(self, url: str) -> None:
        with urlopen(url, timeout=PATIENCE_SECONDS) as response:
            text = response.read().decode()
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())

    def values(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self._samples if sample.name == name}


def test_calls_are_counted_and_timed_by_method_and_code(daemon: RunningDaemon, client: Client) -> None:
    client.models()
    client.models()
    with pytest.raises(NotFoundError):
        client.clip("nosuchclip")
    with Client(token="wrong") as stranger, pytest.raises(UnauthenticatedError):
        stranger.models()
    seen = Scrape(daemon.listening.metrics_url)
    models = "/soundgen.v1.ModelService/ListModels"
    assert seen("soundctm_call_seconds_count", method=models, code="OK") == 2
    assert seen("soundctm_call_seconds_count", method=models, code="UNAUTHENTICATED") == 1
    assert seen("soundctm_call_seconds_count", method="/soundgen.v1.ClipService/GetClip", code="NOT_FOUND") == 1
    assert seen("soundctm_call_seconds_sum", method=models, code="OK") > 0.0
    assert seen("soundctm_build_info") == 1
    assert seen("process_resident_memory_bytes") > 1e6


def test_clips_are_followed_to_their_end(models: Path) -> None:
    with RunningDaemon(metrics_port=0) as daemon, Client() as client:
        for steps in (1, 6):
            *_, _ = client.generate("rain", seconds=1.0, steps=steps)
        seen = Scrape(daemon.listening.metrics_url)
    for kind in ("preview", "refinement"):
        assert seen("soundctm_clips_total", kind=kind, outcome="ready", reason="") == 1
        waited, rendered, whole = (
            seen(f"soundctm_{name}_seconds_sum", kind=kind) for name in ("clip_wait", "clip_render", "clip")
        )
        assert waited + rendered == pytest.approx(whole)
        assert rendered > 0.0
    assert seen("soundctm_jumps_total") == seen("soundctm_forward_rows_sum") == 7
    assert seen("soundctm_forward_seconds_count") == 7
    assert seen("soundctm_decode_rows_sum") >= 2
    assert seen("soundctm_tick_seconds_count") >= 9
    assert seen("soundctm_text_seconds_count") > 0
    assert seen("soundctm_model_load_seconds_count", model="tiny", outcome="loaded") == 1
    assert seen("soundctm_models_loaded") == 1
    assert seen("soundctm_model_memory_bytes", model="tiny") > 0


def test_what_waits_and_what_is_made_is_told_while_it_is_so(models: Path) -> None:
    gate = Gate()
    with RunningDaemon(steered(gate.wait), metrics_port=0) as daemon, Client() as client:
        running = client.generate("rain", seconds=1.0, steps=16)
        assert any(isinstance(event, types.Started) for event in running)
        gate.wait_until_reached()
        waiting = client.generate("rain", seconds=2.0, steps=1)
        assert isinstance(next(waiting), types.Queued)
        seen = Scrape(daemon.listening.metrics_url)
        assert (seen("soundctm_running_clips", kind="refinement"), seen("soundctm_running_clips")) == (1, 1)
        assert (seen("soundctm_queue_clips", kind="preview"), seen("soundctm_queue_clips")) == (1, 1)
        waiting_id = client.jobs()[1].clip_id
        client.cancel(waiting_id)
        with pytest.raises(ClipCancelledError):
            list(waiting)
        gate.let_through(16)
        list(running)
        seen = Scrape(daemon.listening.metrics_url)
    assert (seen("soundctm_running_clips"), seen("soundctm_queue_clips")) == (0, 0)
    assert seen("soundctm_clips_total", kind="preview", outcome="cancelled", reason="CANCELLED") == 1


def test_clips_that_fail_are_counted_by_reason(models: Path) -> None:
    def full(path: Path, *arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunningDaemon(steered(), write_file=full, metrics_port=0) as daemon, Client() as client:
        with pytest.raises(ExhaustedError):
            list(client.generate("rain", seconds=1.0))
        seen = Scrape(daemon.listening.metrics_url)
    assert seen("soundctm_clips_total", kind="preview", outcome="failed", reason="DISK_FULL") == 1


@pytest.mark.parametrize("token", ["right", "wrong"])
def test_what_a_stranger_calls_makes_no_label(daemon: RunningDaemon, token: str) -> None:
    with Client() as client, grpc.insecure_channel(client.connection.target) as channel:
        metadata = client.connection.metadata if token == "right" else ()
        for number in range(3):
            call = channel.unary_unary(f"/soundgen.v1.Made/Up{number}")
            with pytest.raises(grpc.RpcError):
                call(b"", metadata=metadata, timeout=PATIENCE_SECONDS)
    seen = Scrape(daemon.listening.metrics_url)
    assert seen("soundctm_call_seconds_count", method="unknown") == 3
    assert seen.values("soundctm_call_seconds_count", "method") <= {"unknown", "/grpc.health.v1.Health/Check"}


def test_each_daemon_counts_for_itself(models: Path) -> None:
    for _ in range(2):
        with RunningDaemon(steered(), metrics_port=0) as daemon, Client() as client:
            client.models()
            seen = Scrape(daemon.listening.metrics_url)
        assert seen("soundctm_call_seconds_count", method="/soundgen.v1.ModelService/ListModels") == 1


def test_metrics_are_off_unless_asked_for_and_end_with_the_daemon(models: Path) -> None:
    with RunningDaemon(steered()) as daemon:
        assert daemon.listening.metrics_url == ""
    with RunningDaemon(steered(), metrics_port=0) as daemon:
        url = daemon.listening.metrics_url
        assert url.startswith("http://127.0.0.1:")
    with pytest.raises(OSError, match="refused"):
        urlopen(url, timeout=PATIENCE_SECONDS)


def test_a_taken_port_is_named(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"metrics_port is {port}.*[Aa]ddress already in use.*another port"):
            MetricsServer(Metrics().registry, port)
        with pytest.raises(SettingsError, match=f"metrics_port is {port}"), RunningDaemon(steered(), metrics_port=port):
            pass


def test_garbage_at_the_metrics_port_disturbs_nobody(daemon: RunningDaemon, capfd: pytest.CaptureFixture[str]) -> None:
    port = int(daemon.listening.metrics_url.rsplit(":", 1)[1].split("/")[0])
    for garbage in (b"", b"\x00\xff" * 1000, b"GET\r\n\r\n", b"POST /metrics HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as peer:
            peer.sendall(garbage)
    assert Scrape(daemon.listening.metrics_url)("soundctm_build_info") == 1
