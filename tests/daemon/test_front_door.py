"""Token, sockets, health, reflection: what stands before the services."""

from __future__ import annotations

import logging
import os
import socket
import stat
import threading
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from running_daemon import PATIENCE_SECONDS, RunningDaemon, steered
from soundctm_daemon.auth import load_or_create_token
from soundctm_daemon.errors import AlreadyRunningError, SettingsError
from soundctm_daemon.instance import holder, sole_instance, state_lock
from soundctm_daemon.server import SERVICE_NAMES
from soundctm_daemon.settings import load_settings
from soundgen import paths, types
from soundgen.client import Client

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_token_is_made_once_for_its_owner_alone(models: Path) -> None:
    with RunningDaemon(steered()) as daemon:
        token_file = daemon.settings.token_file
        assert mode_of(token_file) == 0o600
        assert mode_of(daemon.settings.socket) == 0o600
        assert mode_of(daemon.settings.state_dir) == 0o700
        first = token_file.read_text()
        assert len(first) >= 43  # 256 bits
    with RunningDaemon(steered()):
        assert token_file.read_text() == first


def test_a_token_others_could_read_is_closed_to_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    path.write_text("known\n")
    path.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert load_or_create_token(path) == "known"
    assert mode_of(path) == 0o600
    assert str(path) in caplog.text


def test_an_empty_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    with pytest.raises(SettingsError, match="is empty"):
        load_or_create_token(path)


def test_the_daemon_answers_while_the_model_loads_and_serves_after(models: Path) -> None:
    may_load = threading.Event()

    def load_when_allowed(bundle: object) -> object:
        assert may_load.wait(PATIENCE_SECONDS)
        return steered()(bundle)  # type: ignore[arg-type]

    with RunningDaemon(load_when_allowed) as daemon, Client() as client:  # type: ignore[arg-type]
        assert not client.serving()
        assert client.model().state is types.ModelState.LOADING
        stream = client.generate("rain", seconds=0.5)
        first = next(stream)
        assert isinstance(first, types.Queued)
        assert first.model_loading
        with grpc.insecure_channel(daemon.listening.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == NOT_SERVING
            may_load.set()
            assert next(watch).status == SERVING
            watch.cancel()
        assert isinstance(list(stream)[-1], types.ClipReady)
        assert client.serving()


def test_health_needs_no_token_and_knows_every_service(models: Path) -> None:
    with RunningDaemon(steered()) as daemon, grpc.insecure_channel(daemon.listening.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *SERVICE_NAMES):
            watch = stub.Watch(health_pb2.HealthCheckRequest(service=name))
            assert SERVING in (answer.status for answer in watch)  # soon, if not at once
            watch.cancel()
        statuses = stub.List(health_pb2.HealthListRequest()).statuses
        assert {*statuses} >= {"", *SERVICE_NAMES}
        assert {answer.status for answer in statuses.values()} == {SERVING}


def test_reflection_describes_the_services_to_who_has_the_token(models: Path) -> None:
    with RunningDaemon(steered()) as daemon, grpc.insecure_channel(daemon.listening.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        metadata = (("authorization", f"Bearer {paths.read_token()}"),)
        (answer,) = stub.ServerReflectionInfo(iter([request]), metadata=metadata)
        names = {service.name for service in answer.list_services_response.service}
        assert names >= {*SERVICE_NAMES, "grpc.health.v1.Health"}
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ServerReflectionInfo(iter([request])))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_second_daemon_on_the_same_state_or_socket_is_told_so(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunningDaemon(steered()) as first, Client() as client:
        with pytest.raises(AlreadyRunningError, match=r"daemon\.lock"), RunningDaemon(steered()):
            pass
        monkeypatch.setenv("SOUNDCTM_SOCKET", str(first.settings.socket))
        monkeypatch.setenv("SOUNDCTM_STATE", str(tmp_path / "other"))
        with pytest.raises(AlreadyRunningError, match=r"daemon\.sock\.lock"), RunningDaemon(steered()):
            pass
        assert len(client.models()) == 2  # the first is unharmed
    assert not first.settings.socket.exists()


def test_a_dead_daemons_socket_is_replaced() -> None:
    settings = load_settings()
    settings.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(settings.socket))
    assert not paths.answers(settings.socket)
    with sole_instance(settings):
        assert not settings.socket.exists()


def test_what_is_no_socket_is_not_removed() -> None:
    settings = load_settings()
    settings.socket.parent.mkdir(parents=True)
    settings.socket.write_text("somebody's notes")
    with pytest.raises(SettingsError, match="is no socket"), sole_instance(settings):
        pass
    assert settings.socket.read_text() == "somebody's notes"


@pytest.mark.parametrize("what", ["folder", "link"])
def test_neither_a_folder_nor_a_link_gives_way_to_the_socket(what: str, tmp_path: Path) -> None:
    settings = load_settings()
    settings.state_dir.mkdir(mode=0o700)
    if what == "folder":
        settings.socket.mkdir()
    else:
        settings.socket.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="is no socket"), sole_instance(settings):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_any_name_of_a_folder_will_do(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDCTM_STATE", str(tmp_path / "s #?%41é"))
    with RunningDaemon(steered()) as daemon, Client() as client:
        assert daemon.settings.socket.is_socket()
        assert client.models()


def test_folders_others_can_write_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setenv("SOUNDCTM_SOCKET", str(shared / "daemon.sock"))
    with pytest.raises(SettingsError, match=r"shared can be written by others \(mode"), sole_instance(load_settings()):
        pass
    monkeypatch.delenv("SOUNDCTM_SOCKET")
    monkeypatch.setenv("SOUNDCTM_STATE", str(shared))
    with pytest.raises(SettingsError, match="chmod go-w"), sole_instance(load_settings()):
        pass
    assert not list(shared.iterdir())


def test_a_folder_of_another_users_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(SettingsError, match=r"belongs to another user \(id"), sole_instance(load_settings()):
        pass


def test_a_state_folder_others_can_look_into_is_closed_to_them(caplog: pytest.LogCaptureFixture) -> None:
    settings = load_settings()
    settings.state_dir.mkdir(mode=0o755)
    with sole_instance(settings):
        assert mode_of(settings.state_dir) == 0o700
    assert str(settings.state_dir) in caplog.text


def test_a_state_folder_that_cannot_be_made_is_named() -> None:
    settings = load_settings()
    settings.state_dir.write_text("a file in its place")
    with pytest.raises(SettingsError, match=r"cannot be made or used .*SOUNDCTM_STATE"), sole_instance(settings):
        pass


def test_a_socket_beside_open_files_is_closed_from_the_start(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    monkeypatch.setenv("SOUNDCTM_SOCKET", str(elsewhere / "daemon.sock"))
    with RunningDaemon(steered()) as daemon, Client() as client:
        assert mode_of(daemon.settings.socket) == 0o600
        assert mode_of(elsewhere) == 0o755  # not ours alone to close
        assert client.models()


def test_a_socket_somebody_answers_at_is_not_taken() -> None:
    settings = load_settings()
    settings.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as foreign:
        foreign.bind(str(settings.socket))
        foreign.listen()
        with pytest.raises(AlreadyRunningError, match="without holding its lock"), sole_instance(settings):
            pass
        assert settings.socket.exists()


def test_the_lock_names_its_holder() -> None:
    settings = load_settings()
    assert holder(state_lock(settings)) is None
    with sole_instance(settings):
        assert holder(state_lock(settings)) is not None
    assert holder(state_lock(settings)) is None


def test_two_daemons_never_share_a_port(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunningDaemon(steered()) as first:
        port = int(first.listening.address.rpartition(":")[2])
        monkeypatch.setenv("SOUNDCTM_STATE", str(tmp_path / "other"))
        with pytest.raises(SettingsError, match="cannot listen"), RunningDaemon(steered(), port=port):
            pass
