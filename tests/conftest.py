from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

# helpers shared by several rooms' tests (`tiny`, `parity`) lie beside this file
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute random-weight bundle, made once per run; copy it before you damage it."""
    from tiny import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or touches the user's own models, clips, socket or token."""
    for name in [name for name in os.environ if name.startswith("SOUNDCTM_") and name != "SOUNDCTM_REQUIRE_ARDOUR"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SOUNDCTM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SOUNDCTM_MODELS", str(tmp_path / "models"))
