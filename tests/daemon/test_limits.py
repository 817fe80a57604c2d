"""What one client may ask for: calls by token, messages, calls and connections at once. Health is never refused."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc

from running_daemon import PATIENCE_SECONDS, Gate, RunningDaemon, steered
from soundctm_daemon.limits import RequestRate
from soundctm_daemon.status import DETAILS_KEY
from soundctm_daemon.tokens import TokenFile
from soundgen import paths
from soundgen.client import Client
from soundgen.errors import ExhaustedError
from soundgen.v1 import (
    generation_service_pb2,
    generation_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

SERVING = health_pb2.HealthCheckResponse.SERVING


class Clock:
    """Seconds, as told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def own_channel(address: str) -> Iterator[grpc.Channel]:
    """One connection that no other channel of this process shares."""
    with grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        yield channel


def owner() -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {paths.read_token()}"),)


def test_a_bucket_holds_a_burst_and_fills_again() -> None:
    clock = Clock()
    rate = RequestRate(4.0, 3, clock)
    assert [rate.seconds_to_wait("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]
    assert rate.seconds_to_wait("b") == 0.0  # another's is its own
    clock.now += 0.125
    assert rate.seconds_to_wait("a") == 0.125
    clock.now += 0.125
    assert [rate.seconds_to_wait("a") for _ in range(2)] == [0.0, 0.25]
    clock.now += 3600.0
    assert [rate.seconds_to_wait("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.25]


def test_zero_per_second_is_no_limit() -> None:
    rate = RequestRate(0.0, 1, Clock())
    assert {rate.seconds_to_wait("a") for _ in range(100)} == {0.0}


def test_a_client_over_its_rate_is_told_when_to_come_again_and_others_go_on(models: Path) -> None:
    with RunningDaemon(steered(), client_requests_per_second=0.01, client_burst=2) as daemon:
        other = TokenFile(daemon.settings.state_dir).add("other")
        with own_channel(daemon.listening.address) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            request = model_service_pb2.ListModelsRequest()
            for _ in range(2):
                assert stub.ListModels(request, metadata=owner()).models
            with pytest.raises(grpc.RpcError) as caught:
                stub.ListModels(request, metadata=owner())
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "client_requests_per_second" in caught.value.details()
            assert 0.0 < retry_seconds(caught.value) <= 100.0
            with pytest.raises(grpc.RpcError) as caught:  # a stream as well
                list(
                    generation_service_pb2_grpc.GenerationServiceStub(channel).Generate(
                        generation_service_pb2.GenerateRequest(prompt="rain"), metadata=owner()
                    )
                )
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert stub.ListModels(request, metadata=(("authorization", f"Bearer {other}"),)).models
            health = health_pb2_grpc.HealthStub(channel)
            for _ in range(50):
                health.Check(health_pb2.HealthCheckRequest())


def test_a_client_with_too_many_calls_under_way_is_refused_and_others_go_on(models: Path) -> None:
    gate = Gate()  # calls last as long as their clips do
    with RunningDaemon(steered(gate.wait), client_calls=2) as daemon, Client() as client, own_channel(
        daemon.listening.address
    ) as channel:
        other = (("authorization", f"Bearer {TokenFile(daemon.settings.state_dir).add('other')}"),)
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        request = generation_service_pb2.GenerateRequest(prompt="rain")
        under_way = [stub.Generate(request, metadata=owner()) for _ in range(2)]
        for call in under_way:
            next(call)
        with pytest.raises(ExhaustedError, match="client_calls") as caught:
            client.models()
        assert (caught.value.reason, caught.value.retry_after_seconds) == ("TOO_MANY_CALLS_AT_ONCE", 1.0)
        assert client.serving()
        models_of = model_service_pb2_grpc.ModelServiceStub(channel).ListModels
        assert models_of(model_service_pb2.ListModelsRequest(), metadata=other).models
        under_way.pop().cancel()
        while True:  # until the daemon has noticed
            with contextlib.suppress(ExhaustedError):
                assert client.models()
                break
        gate.let_through(10_000)
        assert list(under_way.pop())


def retry_seconds(error: grpc.RpcError) -> float:
    (details,) = (value for key, value in error.trailing_metadata() if key == DETAILS_KEY)
    retry = error_details_pb2.RetryInfo()
    (packed,) = (detail for detail in status_pb2.Status.FromString(details).details if detail.Is(retry.DESCRIPTOR))
    packed.Unpack(retry)
    return float(retry.retry_delay.ToTimedelta().total_seconds())


def test_wrong_tokens_take_nothing_from_the_owners_calls(models: Path) -> None:
    with RunningDaemon(steered(), client_requests_per_second=0.01, client_burst=1) as daemon:
        with own_channel(daemon.listening.address) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            for _ in range(20):
                with pytest.raises(grpc.RpcError) as caught:
                    stub.ListModels(model_service_pb2.ListModelsRequest(), metadata=(("authorization", "Bearer x"),))
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with Client() as client:
            assert client.models()


def test_a_message_over_the_limit_is_refused_and_one_below_is_read(models: Path) -> None:
    with RunningDaemon(steered(), message_limit_kb=512) as daemon, Client(daemon.listening.address) as client:
        with pytest.raises(ExhaustedError, match="larger than max"):
            list(client.generate("r" * 600_000))
        with pytest.raises(Exception, match="prompt"):  # read, and found too long
            list(client.generate("r" * 400_000))
        assert client.models()


def test_calls_beyond_a_connections_share_wait_for_their_turn(models: Path) -> None:
    with RunningDaemon(steered(), connection_calls=2) as daemon, own_channel(daemon.listening.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        for watch in watches:
            next(watch)  # both are under way
        waiting = health.Check.future(health_pb2.HealthCheckRequest())
        with own_channel(daemon.listening.address) as another:  # which has its own share
            health_pb2_grpc.HealthStub(another).Check(health_pb2.HealthCheckRequest())
        assert not waiting.done()
        watches[0].cancel()
        waiting.result(PATIENCE_SECONDS)
        watches[1].cancel()


def test_a_connection_too_many_is_closed_and_the_others_go_on(models: Path) -> None:
    with RunningDaemon(steered(), connection_limit=2) as daemon:
        host, _, port = daemon.listening.address.rpartition(":")
        with own_channel(daemon.listening.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            health.Check(health_pb2.HealthCheckRequest())
            with socket.create_connection((host, int(port))) as idle:
                idle.settimeout(PATIENCE_SECONDS)
                assert idle.recv(1)  # the server's settings: it is let in
                with socket.create_connection((host, int(port))) as refused:
                    refused.settimeout(PATIENCE_SECONDS)
                    assert closed(refused)
                health.Check(health_pb2.HealthCheckRequest())


def closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
