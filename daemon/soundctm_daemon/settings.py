"""The daemon's settings: defaults, then `daemon.toml` in the state folder, then the environment, then arguments."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundctm_daemon.errors import SettingsError
from soundgen import paths

DEFAULT_PORT = 50717
_LONGEST_SOCKET_PATH_BYTES = 103  # of sockaddr_un on every system we meet


@dataclass(frozen=True)
class Settings:
    """`port` None takes 50717, or any free one where that is taken; 0 takes any free one."""

    state_dir: Path
    clips_dir: Path
    socket: Path
    token_file: Path
    host: str = "127.0.0.1"
    port: int | None = None
    model: str = "starter"        # name of an installed bundle, or the path of one
    device: str = "cpu"           # as PyTorch names it
    threads: int = 0              # of PyTorch on the CPU; 0 is its own choice, all cores
    queue_limit: int = 64         # clips that may wait
    preview_steps: int = 4        # clips of at most this many jumps go before all others
    drain_seconds: float = 10.0   # what is in flight at SIGTERM may take this long; then it is cancelled


_SETTABLE = ("host", "port", "model", "device", "threads", "queue_limit", "preview_steps", "drain_seconds")
_NUMBERS: dict[str, type[int] | type[float]] = {
    "port": int, "threads": int, "queue_limit": int, "preview_steps": int, "drain_seconds": float
}


def load_settings(arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """`arguments` that are None are not set. Raises SettingsError naming the setting, its value and its source."""
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    config = paths.state_dir() / "daemon.toml"
    values |= _checked(_read_toml(config), str(config))
    from_environment = {name: environment.get(f"SOUNDCTM_{name.upper()}") for name in _SETTABLE}
    values |= _checked({name: value for name, value in from_environment.items() if value}, "the environment")
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    values |= _checked(given, "the command line")
    settings = Settings(
        state_dir=paths.state_dir(),
        clips_dir=paths.clips_dir(),
        socket=paths.socket_path(),
        token_file=paths.token_path(),
        **values,
    )
    _require_usable(settings)
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as TOML ({error}). Mend or remove it.") from error


def _checked(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Values of the right type. Raises SettingsError for unknown names and values that are no such number."""
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in _SETTABLE:
            raise SettingsError(f"{source} sets {name!r}, which is no setting; known: {', '.join(_SETTABLE)}.")
        kind = _NUMBERS.get(name, str)
        try:
            checked[name] = kind(value)
        except (TypeError, ValueError) as error:
            raise SettingsError(f"{name} is {value!r} in {source}; allowed: a number.") from error
    return checked


def _require_usable(settings: Settings) -> None:
    if settings.port is not None and not 0 <= settings.port <= 65535:
        raise SettingsError(f"port is {settings.port}; allowed: 0 to 65535 (0 takes any free one).")
    if settings.threads < 0:
        raise SettingsError(f"threads is {settings.threads}; allowed: 0 (all cores) or more.")
    for name in ("queue_limit", "preview_steps"):
        if getattr(settings, name) < 1:
            raise SettingsError(f"{name} is {getattr(settings, name)}; allowed: 1 or more.")
    if not 0.0 <= settings.drain_seconds < float("inf"):
        raise SettingsError(f"drain_seconds is {settings.drain_seconds}; allowed: 0 or more.")
    if not _is_loopback(settings.host):
        raise SettingsError(
            f"host is {settings.host!r}, which other machines can reach; without TLS, which this version does not have "
            "yet, prompts and the token would cross the network in the clear. Allowed: 127.0.0.1, ::1 or localhost; "
            "to reach the daemon from elsewhere, forward the port through SSH."
        )
    if len(os.fsencode(settings.socket)) > _LONGEST_SOCKET_PATH_BYTES:
        raise SettingsError(
            f"the socket's path {settings.socket} is longer than the {_LONGEST_SOCKET_PATH_BYTES} bytes a Unix socket "
            "may have. Name a shorter one by SOUNDCTM_SOCKET, or move the state folder by SOUNDCTM_STATE."
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
