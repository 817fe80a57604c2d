"""A daemon of the tiny bundle and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from running_daemon import RunningDaemon
from soundgen.client import Client


@pytest.fixture
def daemon(models: Path) -> Iterator[RunningDaemon]:
    """With the tiny bundle and the real engine."""
    with RunningDaemon() as running:
        yield running


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with Client() as connected:
        yield connected
