"""`soundctm doctor` about the bridge: what is missing is told, what would not work is wrong and says what to do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bridge.fakes import FakeDaemon, FakeDaw
from soundctm.checks import Finding
from soundctm_bridge import ardour_install, checks, settings
from soundctm_bridge.errors import InstallError
from soundctm_bridge.osc import OscServer, send
from soundctm_bridge.service import Service


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv(settings.SPOOL_VARIABLE, str(tmp_path / "spool"))
    monkeypatch.setattr(settings, "DEFAULT_OSC_PORT", unused_port())


def unused_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[OscServer]:
    wav = tmp_path / "stored.wav"
    soundfile.write(wav, np.zeros(100), 44_100)
    service = Service(FakeDaw(), send, tmp_path / "prepared", FakeDaemon(wav))  # type: ignore[arg-type]
    with OscServer(0, service.handle) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    service.close()


def finding(check: str) -> Finding:
    return {found[0]: Finding(*found) for found in checks.checks()}[check]


def test_nothing_installed_is_nothing_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise InstallError("no Ardour 7 is installed here", "install it: apt-get install ardour")

    monkeypatch.setattr(ardour_install, "ardour_version", none)
    found = [Finding(*found) for found in checks.checks()]
    assert {one.check: one.ok for one in found} == {"Ardour": None, "Ardour hook": None, "bridge": None}
    assert "apt-get install ardour" in found[0].detail
    assert "`soundctm bridge install ardour`" in found[1].detail
    assert "`soundctm bridge run`" in found[2].detail


def test_a_hook_is_off_on_or_of_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, spool = settings.ardour_config_folder(), settings.spool_folder()
    file = ardour_install.install_hook(folder, spool)
    assert finding("Ardour hook").ok is None and "not switched on" in finding("Ardour hook").detail
    ardour_install.enable_hook(folder, ardour_install.hook_source(spool), "7.3")
    assert finding("Ardour hook").ok is True
    (folder / "ui_scripts").write_text("<broken")
    assert finding("Ardour hook").ok is False and "ui_scripts is not the XML" in finding("Ardour hook").detail
    monkeypatch.setenv(settings.SPOOL_VARIABLE, str(tmp_path / "elsewhere"))
    assert finding("Ardour hook").ok is False and "elsewhere" in finding("Ardour hook").detail
    monkeypatch.setenv(settings.SPOOL_VARIABLE, str(spool))
    file.write_bytes(b"\xff\xfe of some other program")
    assert finding("Ardour hook").ok is False and "--enable" in finding("Ardour hook").detail


def test_a_bridge_that_runs_answers(bridge: OscServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DEFAULT_OSC_PORT", bridge.port)
    found = finding("bridge")
    assert found.ok is True and f"port {bridge.port}; the DAW is stopped" in found.detail


def test_a_port_that_something_else_holds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_ANSWER_SECONDS", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        monkeypatch.setattr(settings, "DEFAULT_OSC_PORT", holder.getsockname()[1])
        assert finding("bridge").ok is False and "something else holds UDP port" in finding("bridge").detail


def test_a_port_that_may_not_be_opened_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: tuple[str, int]) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    assert finding("bridge").ok is False and "(Permission denied)" in finding("bridge").detail
