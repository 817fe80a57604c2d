"""Daemons as processes of their own, in the state folder that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from running_daemon import PATIENCE_SECONDS
from soundgen import paths

_POLL_SECONDS = 0.01
_TESTS = Path(__file__).parents[1]
_TRACEBACK = "Traceback (most recent call last)"
# What gRPC says of metadata that is not UTF-8, which it takes for Latin-1 then; and of a method, which ends its server.
_EXPECTED = ("Invalid encoding on", "exception=UnicodeDecodeError('utf-8'")


@contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that answers, killed in the end unless it has ended. Its log goes to `daemon.out` beside its state."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(_TESTS),
        "SOUNDCTM_CLIENT_REQUESTS_PER_SECOND": "0",  # whoever looks at everything asks a lot
    }
    with (
        _log().open("ab") as output,
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdout=output, stderr=output, env=environment
        ) as started,
    ):
        try:
            wait_until(lambda: paths.answers(paths.socket_path()) or started.poll() is not None)
            yield started
        finally:
            started.kill()


def product() -> AbstractContextManager[subprocess.Popen[bytes]]:
    """The daemon as people run it, with the tests' bundle."""
    return process("soundctm_daemon", "start", "--foreground", "--port=0", "--model=tiny")


def unexpected() -> list[str]:
    """What the daemons of this state folder did not expect, by their logs: the lines around each traceback."""
    lines = _log().read_text(errors="replace").splitlines()
    return [
        "\n".join(("in the daemon's log:", *lines[max(at - 1, 0) : at + 30]))
        for at, line in enumerate(lines)
        if _TRACEBACK in line and not any(expected in lines[at - 1] for expected in _EXPECTED)
    ]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it never happened")
        time.sleep(_POLL_SECONDS)


def _log() -> Path:
    return paths.state_dir().with_name("daemon.out")
