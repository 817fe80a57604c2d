"""What is measured, read as Prometheus reads it: from the daemon's metrics port."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from running_daemon import PATIENCE_SECONDS, RunningDaemon, steered
from soundctm_daemon.errors import SettingsError
from soundctm_daemon.metrics import Metrics, MetricsServer
from soundgen.client import Client
from soundgen.errors import NotFoundError, UnauthenticatedError


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
