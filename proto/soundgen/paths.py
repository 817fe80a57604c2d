"""Where the daemon's files lie, and how it is started. Nothing else in the project knows either.

Everything is in one folder, the state folder: the socket, the token, the clips, the log and the locks.
Environment: SOUNDCTM_STATE moves the folder, SOUNDCTM_SOCKET, SOUNDCTM_TOKEN_FILE and SOUNDCTM_CLIPS single things.
SOUNDCTM_ADDRESS names a daemon elsewhere, SOUNDCTM_CA, SOUNDCTM_CLIENT_CERT and SOUNDCTM_CLIENT_KEY how it is trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

import platformdirs

from soundgen.errors import DaemonStartError, UnauthenticatedError
from soundgen.tls import Tls

ALREADY_RUNNING_EXIT_CODE = 3  # of `soundctm_daemon`: another one holds this state folder or socket
_START_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.02
_LOG_LINES_SHOWN = 8
_started: list[subprocess.Popen[bytes]] = []  # kept: a Popen that is dropped while its process lives warns


@dataclass(frozen=True)
class Endpoint:
    """Where a running daemon listens, as it wrote it down. `address` is TCP, host:port; `engine` its setting."""

    pid: int
    socket: str
    address: str
    engine: str = ""


def state_dir() -> Path:
    return Path(os.environ.get("SOUNDCTM_STATE") or platformdirs.user_state_dir("soundctm"))


def socket_path() -> Path:
    return Path(os.environ.get("SOUNDCTM_SOCKET") or state_dir() / "daemon.sock")


def token_path() -> Path:
    return Path(os.environ.get("SOUNDCTM_TOKEN_FILE") or state_dir() / "token")


def clips_dir() -> Path:
    return Path(os.environ.get("SOUNDCTM_CLIPS") or state_dir() / "clips")


def log_path() -> Path:
    return state_dir() / "daemon.log"


def endpoint_path() -> Path:
    return state_dir() / "daemon.json"


def read_token() -> str:
    """The token calls carry. Raises UnauthenticatedError when there is none to read."""
    path = token_path()
    try:
        return path.read_text().strip()
    except OSError as error:
        raise UnauthenticatedError(
            f"the daemon's token cannot be read from {path} ({error.strerror}). The daemon writes it when it first "
            "starts (`soundctm daemon start`); only its own user may read it."
        ) from error


def read_endpoint() -> Endpoint | None:
    """What the last daemon wrote down, None where there is nothing readable; it need not be running any more."""
    try:
        return Endpoint(**json.loads(endpoint_path().read_text()))
    except (OSError, ValueError, TypeError):
        return None


def write_endpoint(endpoint: Endpoint) -> None:
    """Raises OSError."""
    partial = endpoint_path().with_suffix(".partial")
    partial.write_text(json.dumps(asdict(endpoint)) + "\n")
    partial.replace(endpoint_path())


def remote_address() -> str | None:
    """host:port of a daemon elsewhere, None for this machine's own."""
    return os.environ.get("SOUNDCTM_ADDRESS") or None


def socket_target(path: Path) -> str:
    """What gRPC dials, and listens at, for a Unix socket: it reads this as a URI, so '%', '#' and '?' are escaped."""
    return f"unix:{quote(str(path))}"


def default_address() -> str:
    """What a client connects to: the daemon the environment names, else this machine's Unix socket."""
    return remote_address() or socket_target(socket_path())


def default_tls() -> Tls | None:
    """For the daemon the environment names; None where it names no certificate."""
    ca, cert, key = (os.environ.get(f"SOUNDCTM_{name}") for name in ("CA", "CLIENT_CERT", "CLIENT_KEY"))
    if remote_address() is None or not (ca or cert or key):
        return None
    return Tls(*(Path(name) if name else None for name in (ca, cert, key)))


def answers(path: Path) -> bool:
    """Whether a process accepts connections on this Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def ensure_daemon(arguments: Sequence[str] = (), timeout_seconds: float = _START_TIMEOUT_SECONDS) -> bool:
    """Start the daemon unless one answers; True when this call started it. `arguments` as of `soundctm daemon start`.

    Raises DaemonStartError.
    """
    if answers(socket_path()):
        return False
    try:
        process = _spawn(arguments)
    except OSError as error:
        raise DaemonStartError(
            f"the daemon's log {log_path()} cannot be written ({error.strerror}). Make {state_dir()} writable, or name "
            "another folder by SOUNDCTM_STATE."
        ) from error
    _started.append(process)
    deadline = time.monotonic() + timeout_seconds
    while not answers(socket_path()):
        code = process.poll()
        if code is not None and code != ALREADY_RUNNING_EXIT_CODE:  # else: somebody else's is just coming up
            raise DaemonStartError(f"the daemon left with exit code {code}. Its last words:\n{_log_tail()}")
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            raise DaemonStartError(
                f"the daemon did not answer within {timeout_seconds:g} seconds. Its last words:\n{_log_tail()}"
            )
        time.sleep(_POLL_SECONDS)
    return True


def _spawn(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """The daemon as a process of its own session, so that Ctrl-C in this terminal does not reach it."""
    state_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    with log_path().open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "soundctm_daemon", "start", "--foreground", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _log_tail() -> str:
    try:
        lines = log_path().read_text(errors="replace").splitlines()
    except OSError as error:
        return f"(no log: {error.strerror})"
    return "\n".join(lines[-_LOG_LINES_SHOWN:])
