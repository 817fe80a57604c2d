"""Waiting for things, and processes that are started and ended with all their children."""

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TypeVar

from soundctm_bridge.errors import HarnessError

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05
_STOP_SECONDS = 10.0
T = TypeVar("T")


def wait_until(what: str, condition: Callable[[], T | None], timeout_seconds: float) -> T:
    """Polls until `condition` returns something true and returns that.

    Raises HarnessError naming `what` when `timeout_seconds` pass first.
    """
    end = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise HarnessError(f"waited {timeout_seconds:g} s for {what}: it did not happen")
        time.sleep(_POLL_SECONDS)


def start_group(command: list[str], environment: Mapping[str, str], log_file: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts `command` as the leader of its own process group, so that stopping it stops its children too."""
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log_file,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Asks a process group to end, then kills what is left of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("%s ignored signal %d", process.args, number)
    process.wait(_STOP_SECONDS)


def udp_ports_of_group(group: int) -> set[int]:
    """The UDP ports on which any process of a process group listens (Linux: read from /proc)."""
    inodes = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            links = list((folder / "fd").iterdir()) if os.getpgid(int(folder.name)) == group else []
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue  # it ended, or is not ours
        for link in links:
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                inodes.add(link.readlink().name)
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in inodes}
