"""The daemon's settings: defaults, then `daemon.toml` in the state folder, then the environment, then arguments."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundctm.engines.choosing import AUTO, Wanted
from soundctm.engines.registry import ENGINE_NAMES
from soundctm_daemon.errors import SettingsError
from soundctm_daemon.settings_keys import Allowed, at_least, between, checked, key, keys_of, one_of
from soundgen import paths
from soundgen.tls import is_loopback

DEFAULT_PORT = 50717
_LONGEST_SOCKET_PATH_BYTES = 103  # of sockaddr_un on every system we meet

_AN_ADDRESS = Allowed("an address or a name of this machine", lambda host: host != "")


@dataclass(frozen=True)
class Settings:
    """Where things lie, then everything that can be set. `port` None takes 50717, or any free one where it is taken."""

    state_dir: Path
    clips_dir: Path
    socket: Path
    token_file: Path
    host: str = key("127.0.0.1", "Where to listen. Beyond loopback it takes `tls_cert` and `tls_key`.", _AN_ADDRESS)
    port: int | None = key(
        None, "The TCP port.", between(0, 65535, "0 takes any free one"), f"{DEFAULT_PORT}, or a free one"
    )
    model: str = key("starter", "The model of requests that name none: an installed one's name, or a bundle's folder.")
    device: str = key("cpu", "Where models compute, as PyTorch names it: cpu, cuda, cuda:1, mps.")
    engine: str = key(
        AUTO, "What runs models: the fastest that keeps 40 dB, or this one. `soundctm doctor` says which, and why.",
        one_of(*ENGINE_NAMES),
    )  # fmt: skip
    allow_cpu: bool = key(False, "Where ONNX Runtime finds no GPU, engines that were asked for compute on the CPU.")
    model_memory_mb: int = key(
        0, "Megabytes models may take in memory; the least lately used ones leave.", at_least(0, "70 % of what is free")
    )
    threads: int = key(0, "Processor threads models compute with.", at_least(0, "all cores"))
    queue_limit: int = key(256, "Clips that may wait; one more is refused with RESOURCE_EXHAUSTED.", at_least(1))
    client_jobs: int = key(64, "Clips one client, that is one token, may have in flight.", at_least(1))
    preview_steps: int = key(4, "Clips of at most this many jumps are previews and go before all others.", at_least(1))
    tls_cert: Path | None = key(None, "The certificate of the TCP port, those that signed it behind it; PEM.")
    tls_key: Path | None = key(None, "Its private key, without a passphrase; PEM.")
    tls_client_ca: Path | None = key(None, "Callers need a certificate signed by one of these as well; PEM.")
    allow_plain_text: bool = key(False, "Serve beyond loopback without TLS: `plain_text_host` must say so too.")
    plain_text_host: str = key("", "`host` again, to mean it: whoever hears that network hears prompts and tokens.")
    drain_seconds: float = key(10.0, "Clips in flight when it is stopped get so long; then they fail.", at_least(0))
    trash_days: float = key(30.0, "Deleted clips can be brought back for so long.", at_least(0, "an hour at most"))
    import_limit_mb: int = key(256, "Largest sound file that is taken in, as it is and decoded.", between(1, 4000))
    log_format: str = key("text", "How the log is written: for people, or JSON lines.", one_of("text", "json"))
    log_level: str = key("info", "The least important lines the log has.", one_of("debug", "info", "warning", "error"))
    metrics_port: int | None = key(
        None, "Prometheus metrics, at http://127.0.0.1:PORT/metrics.", between(0, 65535, "0 takes any free one"), "off"
    )
    client_requests_per_second: float = key(200.0, "Calls one token may make in the long run.", at_least(0, "no limit"))
    client_burst: int = key(1000, "Calls one token may make at once after a pause.", at_least(1))
    client_calls: int = key(1024, "Calls one token may have under way at once, streams among them.", at_least(1))
    message_limit_kb: int = key(1024, "Largest request message; uploads come in parts of 256.", between(512, 65536))
    connection_calls: int = key(128, "Calls one connection may carry at once; further ones wait.", at_least(1))
    connection_limit: int = key(512, "Connections at once; one more is closed as it is made.", at_least(1))

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.engine, self.device, self.threads or None, self.allow_cpu)


KEYS = keys_of(Settings)


def load_settings(arguments: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """`arguments` that are None are not set. Raises SettingsError naming the setting, its value and its source."""
    environment = os.environ if environment is None else environment
    folder = paths.state_dir()
    config = folder / "daemon.toml"
    values = checked(_read_toml(config), KEYS, str(config), folder)
    from_environment = {name: text for name, known in KEYS.items() if (text := environment.get(known.variable))}
    values |= checked(from_environment, KEYS, "the environment", folder)
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    values |= checked(given, KEYS, "the command line", folder)
    settings = Settings(
        state_dir=folder,
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


def _require_usable(settings: Settings) -> None:
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise SettingsError("tls_cert and tls_key go together; name both files, or neither.")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        raise SettingsError("tls_client_ca asks callers for certificates: name tls_cert and tls_key too.")
    if not is_loopback(settings.host) and settings.tls_cert is None:
        _require_told_twice(settings)
    if len(os.fsencode(settings.socket)) > _LONGEST_SOCKET_PATH_BYTES:
        raise SettingsError(
            f"the socket's path {settings.socket} is longer than the {_LONGEST_SOCKET_PATH_BYTES} bytes a Unix socket "
            "may have. Name a shorter one by SOUNDCTM_SOCKET, or move the state folder by SOUNDCTM_STATE."
        )


def _require_told_twice(settings: Settings) -> None:
    if settings.allow_plain_text and settings.plain_text_host == settings.host:
        return
    raise SettingsError(
        f"host is {settings.host!r}, which other machines can reach; without TLS, prompts and tokens would cross the "
        "network in the clear. Name tls_cert and tls_key; or stay at 127.0.0.1, ::1 or localhost and forward the port "
        f"through SSH; or set both allow_plain_text = true and plain_text_host = {json.dumps(settings.host)}."
    )
