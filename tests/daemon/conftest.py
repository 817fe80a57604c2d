from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from running_daemon import RunningDaemon, install
from soundgen.client import Client


@pytest.fixture
def models(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    """The models folder, with the tiny bundle installed."""
    return install(tiny_bundle_dir, tmp_path / "models").parent


@pytest.fixture
def daemon(models: Path) -> Iterator[RunningDaemon]:
    """With the tiny bundle and the real engine."""
    with RunningDaemon() as running:
        yield running


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with Client() as connected:
        yield connected
