from __future__ import annotations

from pathlib import Path

import pytest

from running_daemon import install


@pytest.fixture(autouse=True)
def models(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    """The models folder, with the tiny bundle installed."""
    return install(tiny_bundle_dir, tmp_path / "models").parent
