"""What every room's tests share: bundles made once per run, and a state of its own for every test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_REQUIRING = "SOUNDCTM_REQUIRE_"  # what must not be skipped

# helpers shared by several rooms' tests (`tiny`, `parity`) lie beside this file
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute random-weight bundle, made once per run; copy it before you damage it."""
    from tiny import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny").path


@pytest.fixture
def models(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    """The models folder, with the tiny bundle installed."""
    from running_daemon import install

    return install(tiny_bundle_dir, tmp_path / "models").parent


@pytest.fixture(scope="session")
def tiniest_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `exported_tiny_dir` was exported from."""
    from tiny import TINIEST_SPEC, write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "tiniest", spec=TINIEST_SPEC).path


@pytest.fixture(scope="session")
def exported_tiny_dir(tiniest_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle and its graphs in float32; copy it before you damage it."""
    from soundctm_export.export import export_onnx
    from soundctm_export.settings import ExportSettings

    out = tmp_path_factory.mktemp("exported") / "tiny"
    export_onnx(ExportSettings(str(tiniest_bundle_dir), out))
    return out


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees or touches the user's own models, clips, socket or token."""
    for name in [name for name in os.environ if name.startswith("SOUNDCTM_") and not name.startswith(_REQUIRING)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SOUNDCTM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SOUNDCTM_MODELS", str(tmp_path / "models"))
