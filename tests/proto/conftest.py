from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripted_daemon import ScriptedDaemon
from soundgen.client import Client


@pytest.fixture
def models(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    """The models folder, with the tiny bundle installed."""
    from running_daemon import install  # the whole daemon, which the client's own tests do without

    return install(tiny_bundle_dir, tmp_path / "models").parent


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    with ScriptedDaemon(f"unix:{tmp_path / 'scripted.sock'}") as daemon:
        yield daemon


@pytest.fixture
def client(scripted: ScriptedDaemon) -> Iterator[Client]:
    """Of the scripted daemon."""
    with Client(scripted.address, token="x") as connected:
        yield connected
