"""The daemon as a service of its user: a systemd unit, a launchd property list. Text and paths only; nothing is run."""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from soundctm_daemon.errors import SettingsError

STOP_MARGIN_SECONDS = 15.0  # beyond the drain: a jump under way, answers under way
_LABEL = "org.soundctm.daemon"


@dataclass(frozen=True)
class Service:
    """What the service runs. `environment` holds the variables it starts with."""

    command: Sequence[str]
    environment: Mapping[str, str]
    drain_seconds: float
    log: Path

    def __post_init__(self) -> None:
        for text in (*self.command, *self.environment.values()):
            if not text.isprintable():
                raise SettingsError(f"{text!r} holds characters that no service file can; rename it, or leave it away.")


@dataclass(frozen=True)
class Unit:
    """A service file and what a person types to have it started now and at every login, or stopped."""

    path: Path
    content: bytes
    start: Sequence[str]
    stop: Sequence[str]


def systemd_unit(service: Service, config_home: Path) -> Unit:
    """`config_home` is XDG_CONFIG_HOME, or ~/.config."""
    template = Template(resources.files(__package__).joinpath("service/soundctm.service").read_text())
    variables = [f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(service.environment.items())]
    text = template.substitute(
        command=" ".join(_quoted(word).replace("$", "$$") for word in service.command),
        environment="\n".join(variables) or "# no variables of the environment",
        stop_seconds=f"{_stop_seconds(service):.0f}",
    )
    return Unit(
        config_home / "systemd" / "user" / "soundctm.service",
        text.encode(),
        start=("systemctl --user daemon-reload", "systemctl --user enable --now soundctm"),
        stop=("systemctl --user disable --now soundctm",),
    )


def launchd_unit(service: Service, home: Path, user_id: int) -> Unit:
    path = home / "Library" / "LaunchAgents" / f"{_LABEL}.plist"
    content = plistlib.dumps(
        {
            "Label": _LABEL,
            "ProgramArguments": list(service.command),
            "EnvironmentVariables": dict(service.environment),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": round(_stop_seconds(service)),
            "ProcessType": "Interactive",  # else it is slowed down while somebody waits for a preview
            "Umask": 0o077,
            "StandardOutPath": str(service.log),
            "StandardErrorPath": str(service.log),
        }
    )
    return Unit(
        path,
        content,
        start=(f"launchctl bootstrap gui/{user_id} '{path}'",),
        stop=(f"launchctl bootout gui/{user_id}/{_LABEL}",),
    )


def _stop_seconds(service: Service) -> float:
    return service.drain_seconds + STOP_MARGIN_SECONDS


def _quoted(word: str) -> str:
    """As systemd.syntax reads it, specifiers (%) included."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
