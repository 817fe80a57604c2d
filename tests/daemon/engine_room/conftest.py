"""Rooms, each with the tiny bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_room import Room
from running_daemon import PATIENCE_SECONDS, install
from soundctm.bundle import Bundle, open_bundle
from soundctm.engines.protocol import Engine
from soundctm_daemon import worker


@pytest.fixture(autouse=True)
def _time_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine too, everybody chosen begins in the same tick."""
    monkeypatch.setattr(worker, "_BEGIN_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def bundle(tiny_bundle_dir: Path, tmp_path: Path) -> Bundle:
    return open_bundle(install(tiny_bundle_dir, tmp_path / "models"))


@pytest.fixture
def opened(tmp_path: Path, bundle: Bundle) -> Iterator[Callable[..., Room]]:
    rooms: list[Room] = []

    def open_room(load: Callable[[Bundle], Engine] | Engine, **options: Any) -> Room:
        rooms.append(Room(tmp_path, bundle, load if callable(load) else lambda asked: load, **options))
        return rooms[-1]

    yield open_room
    for room in rooms:
        room.close()
