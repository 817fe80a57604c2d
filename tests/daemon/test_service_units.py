"""The daemon as a service: unit files that their systems read back as meant, and the container's recipe."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from running_daemon import RunningDaemon, steered
from soundctm_daemon import cli
from soundctm_daemon.errors import SettingsError
from soundctm_daemon.service_units import Service, launchd_unit, systemd_unit
from soundctm_daemon.settings import KEYS
from soundgen.client import Client

AWKWARD = 'a b"c\\d%e$f'
SERVICE = Service(
    command=("/opt/sound ctm/python", "-m", AWKWARD),
    environment={"SOUNDCTM_STATE": f"/state/{AWKWARD}", "SOUNDCTM_MODEL": "starter"},
    drain_seconds=20.0,
    log=Path("/state/daemon.log"),
)
DOCKERFILE = Path(__file__).parents[2] / "docker" / "Dockerfile"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, arguments)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def config_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # systemd-analyze asks for one
    return tmp_path / "config"


def unquoted(words: str) -> list[str]:
    """As systemd.syntax(7) reads a line of quoted words."""
    found, word, escaped = [], "", False
    for letter in words:
        if not escaped and letter in '"\\':
            escaped = letter == "\\"
            if letter == '"' and word:
                found.append(word)
                word = ""
        elif letter != " " or word:
            word, escaped = word + letter, False
    return [word.replace("%%", "%") for word in found]


def test_systemd_reads_the_unit_back_as_meant(tmp_path: Path) -> None:
    unit = systemd_unit(SERVICE, tmp_path)
    assert unit.path == tmp_path / "systemd" / "user" / "soundctm.service"
    lines = [line.partition("=") for line in unit.content.decode().splitlines()]
    (command,) = (value for name, _, value in lines if name == "ExecStart")
    assert [word.replace("$$", "$") for word in unquoted(command)] == list(SERVICE.command)
    variables = [unquoted(value)[0].partition("=") for name, _, value in lines if name == "Environment"]
    assert {name: value for name, _, value in variables} == SERVICE.environment
    values = {name: value for name, _, value in lines}
    assert values["TimeoutStopSec"] == "35"  # longer than a drain takes
    assert values["RestartPreventExitStatus"].split() == [
        str(cli._BAD_SETTINGS_EXIT_CODE), str(cli._NOT_RUNNING_EXIT_CODE), str(cli._LIBRARY_EXIT_CODE)
    ]  # fmt: skip


def test_launchd_reads_the_list_back_as_meant(tmp_path: Path) -> None:
    unit = launchd_unit(SERVICE, tmp_path, 501)
    assert unit.path == tmp_path / "Library" / "LaunchAgents" / "org.soundctm.daemon.plist"
    read = plistlib.loads(unit.content)
    assert read["Label"] == "org.soundctm.daemon"
    assert read["ProgramArguments"] == list(SERVICE.command)
    assert read["EnvironmentVariables"] == SERVICE.environment
    assert (read["RunAtLoad"], read["KeepAlive"], read["ExitTimeOut"]) == (True, {"SuccessfulExit": False}, 35)
    assert unit.start == (f"launchctl bootstrap gui/501 '{unit.path}'",)


@pytest.mark.parametrize("text", ["a\nExecStartPre=rm", "a\x00", "a\x1b[2J"])
def test_what_would_break_out_of_a_line_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="characters that no service file can"):
        Service(command=("python",), environment={"SOUNDCTM_MODEL": text}, drain_seconds=1.0, log=Path("/log"))


def test_the_service_is_written_and_removed(config_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("SOUNDCTM_ADDRESS", "elsewhere:1")  # the client's business
    monkeypatch.setenv("SOUNDCTM_DRAIN_SECONDS", "5")
    code, out, _ = run("install-service")
    assert code == 0
    path = config_home / "systemd" / "user" / "soundctm.service"
    assert str(path) in out
    assert "systemctl --user enable --now soundctm" in out
    text = path.read_text()
    assert f'"{sys.executable}" "-m" "soundctm_daemon" "start" "--foreground"' in text
    assert f'"SOUNDCTM_STATE={os.environ["SOUNDCTM_STATE"]}"' in text
    assert "elsewhere" not in text
    assert "TimeoutStopSec=20" in text
    if analyze := shutil.which("systemd-analyze"):
        checked = subprocess.run([analyze, "verify", "--user", path], capture_output=True, text=True, check=False)
        assert "soundctm.service:" not in checked.stderr  # what it finds wrong, by line
    assert run("install-service")[0] == 0  # once more, the same
    path.write_text("somebody's own")
    code, _, error = run("install-service")
    assert (code, path.read_text()) == (2, "somebody's own")
    assert "is another" in error
    assert run("install-service", "--replace")[0] == 0
    assert path.read_text() == text
    assert run("uninstall-service")[0] == 0
    assert not path.exists()
    assert run("uninstall-service") == (0, "No service is installed.\n", "")


def test_wrong_settings_and_unknown_systems_are_told_before_anything_is_written(
    config_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    code, _, error = run("install-service")
    assert code == 2
    assert "no service file can be written for win32; docs/daemon.md" in error
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("SOUNDCTM_PORT", "many")
    code, _, error = run("install-service")
    assert code == 2
    assert "port is 'many' in the environment" in error
    config_home.write_text("a file in the folder's place")
    monkeypatch.delenv("SOUNDCTM_PORT")
    code, _, error = run("install-service")
    assert code == 2
    assert "nothing was installed" in error


def test_health_is_an_exit_code(models: Path) -> None:
    code, _, error = run("health")
    assert code == 1
    assert "no daemon answers" in error
    with RunningDaemon(steered()) as daemon:
        with Client() as client:
            list(client.generate("rain", seconds=0.5))
        daemon.settings.token_file.unlink()  # health asks for none
        assert run("health") == (0, "serving\n", "")


def test_the_container_is_nobody_special_and_knows_its_settings() -> None:
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    users = [argument for step, argument in steps if step == "USER"]
    assert users
    assert users[-1] != "root"
    (check,) = (argument for step, argument in steps if step == "HEALTHCHECK")
    assert "soundctm_daemon" in check
    assert "health" in check
    root = DOCKERFILE.parent.parent
    for source in [word for step, argument in steps if step == "COPY" and "--from" not in argument
                   for word in argument.split()[:-1]]:  # fmt: skip
        assert (root / source).exists(), source
    variables = [word.partition("=")[0] for step, argument in steps if step == "ENV" for word in argument.split()]
    ours = {name for name in variables if name.startswith("SOUNDCTM_")} - {"SOUNDCTM_STATE", "SOUNDCTM_MODELS"}
    assert ours <= {known.variable for known in KEYS.values()}
    assert ("VOLUME", "/state") in [(step, argument) for step, argument in steps]
