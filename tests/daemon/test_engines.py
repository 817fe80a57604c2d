"""The daemon on the engines that it is told, or that the rules choose."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile

from command_line import soundctm
from running_daemon import PATIENCE_SECONDS, RunningDaemon, install, steered
from soundctm.bundle import open_bundle, sha256_file
from soundctm.engines.choosing import Wanted
from soundctm.exports import EXPORTS
from soundctm_daemon import checks
from soundctm_daemon.engines import EnginePool, engine_loader
from soundctm_daemon.errors import ModelTooBigError
from soundgen import types
from soundgen.client import Client
from soundgen.errors import PreconditionError

SECONDS = 4.0  # more than one tile


@pytest.fixture
def graphs(exported_tiny_dir: Path, tmp_path: Path) -> Path:
    """The bundle and its graphs as the model `tiny`."""
    return install(exported_tiny_dir, tmp_path / "models")


@pytest.fixture
def own_graphs(exported_tiny_dir: Path, tmp_path: Path) -> Path:
    """The same to be damaged."""
    return shutil.copytree(exported_tiny_dir, tmp_path / "models" / "tiny")


def preview_and_refined(client: Client) -> tuple[types.Clip, types.Clip]:
    ready = list(client.generate("rain on a tin roof", seconds=SECONDS, seed=7, nu=1.5))[-1]
    assert isinstance(ready, types.ClipReady)
    refined = list(client.refine(ready.clip.id, steps=3))[-1]
    assert isinstance(refined, types.ClipReady)
    return ready.clip, refined.clip


def audio_of(clip: types.Clip) -> np.ndarray:
    return soundfile.read(clip.path, dtype="float32")[0]


@pytest.mark.usefixtures("graphs")
def test_graphs_make_the_clips_that_pytorch_makes(caplog: pytest.LogCaptureFixture) -> None:
    made: dict[str, list[types.Clip]] = {}
    for engine in ("torch", "onnx"):
        with caplog.at_level(logging.INFO), RunningDaemon(engine=engine) as daemon, Client() as client:
            made[engine] = list(preview_and_refined(client))
            assert f"model tiny runs on {engine}: " in caplog.text
            assert daemon.settings.engine == engine
    for by_torch, by_graphs in zip(*made.values(), strict=True):
        assert by_graphs.recipe == by_torch.recipe  # whatever computes, it is the same recipe
        expected, found = audio_of(by_torch), audio_of(by_graphs)
        assert expected.shape == found.shape == (int(SECONDS * 44100),)
        # the share of the sound that differs: float32 in another order, through a few jumps
        assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


@pytest.mark.usefixtures("graphs")
def test_a_model_on_graphs_is_unloaded_loaded_and_reloaded() -> None:
    with RunningDaemon(engine="onnx"), Client() as client:
        first = client.load_model("tiny")
        assert first.state is types.ModelState.LOADED and first.memory_bytes > 0 and first.engine == "onnx"
        unloaded = client.unload_model("tiny")
        assert unloaded.state is types.ModelState.INSTALLED and unloaded.engine == ""
        assert client.load_model("tiny").memory_bytes == first.memory_bytes
        assert client.reload_model("tiny").state is types.ModelState.LOADED


def test_memory_is_that_of_the_graphs_and_known_before_the_load(graphs: Path) -> None:
    bundle, wanted = open_bundle(graphs), Wanted("onnx", threads=1)
    pool = EnginePool(engine_loader(wanted), lambda: 10**12, wanted=wanted)
    needed = pool.get(bundle).memory_bytes
    assert pool.measured_bytes(bundle.digest) == needed
    with pytest.raises(ModelTooBigError):
        EnginePool(engine_loader(wanted), lambda: needed - 1, wanted=wanted).get(bundle)


def refused(reason: str, **settings: Any) -> str:
    """What a client is told of a model that the daemon cannot run."""
    with RunningDaemon(**settings), Client() as client:
        with pytest.raises(PreconditionError) as caught:
            client.load_model("tiny")
        assert caught.value.reason == reason
        return str(caught.value)


@pytest.mark.usefixtures("graphs")
def test_a_provider_that_is_missing_is_an_error_unless_the_cpu_is_allowed(caplog: pytest.LogCaptureFixture) -> None:
    on_cuda = {"engine": "onnx-cuda", "device": "cuda"}
    assert "this ONNX Runtime has: " in refused("ENGINE_UNAVAILABLE", **on_cuda)
    with caplog.at_level(logging.WARNING), RunningDaemon(**on_cuda, allow_cpu=True), Client() as client:
        assert client.load_model("tiny").state is types.ModelState.LOADED
        assert "compute on the CPU" in caplog.text


@pytest.mark.parametrize("engine", ["onnx", "auto"])
def test_a_graph_altered_after_its_export_is_named_and_nothing_is_made(own_graphs: Path, engine: str) -> None:
    with (own_graphs / "jump.onnx.data").open("r+b") as file:
        file.write(b"\x55")
    assert "jump.onnx.data is truncated or altered" in refused("DIGEST_MISMATCH", engine=engine)


def test_graphs_are_asked_for_where_there_are_none(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    install(tiny_bundle_dir, tmp_path / "models")
    assert "make them: `soundctm export onnx tiny -o " in refused("ENGINE_UNAVAILABLE", engine="onnx")


def test_a_graph_that_the_runtime_does_not_know_leaves_its_place_to_the_next(
    own_graphs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write_opset(own_graphs, "text", 99)
    assert "exported at opset 99" in refused("GRAPH_UNUSABLE", engine="onnx")
    with caplog.at_level(logging.INFO), RunningDaemon(), Client() as client:
        assert client.load_model("tiny").state is types.ModelState.LOADED
    assert "the engine onnx fails, and the next one is tried: " in caplog.text
    assert "model tiny runs on torch: " in caplog.text


def _write_opset(folder: Path, role: str, opset: int) -> None:
    path, listed = folder / f"{role}.onnx", folder / EXPORTS
    graph = onnx.load(str(path), load_external_data=False)
    graph.opset_import[0].version = opset
    path.write_bytes(graph.SerializeToString())
    data = json.loads(listed.read_text())
    data["files"][path.name] = sha256_file(path)
    next(record for record in data["graphs"] if record["role"] == role)["opset"] = opset
    listed.write_text(json.dumps(data))


_WITHOUT_TORCH = """
import sys
from running_daemon import RunningDaemon
from soundgen.client import Client
with RunningDaemon(engine="onnx", threads=1), Client() as client:
    list(client.generate("rain", seconds=0.5))
assert "torch" not in sys.modules
"""


@pytest.mark.usefixtures("graphs")
def test_a_daemon_on_graphs_never_imports_pytorch() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", _WITHOUT_TORCH]
    subprocess.run(command, check=True, env=environment, timeout=PATIENCE_SECONDS)


def of_engines() -> dict[str, tuple[bool | None, str]]:
    found = (finding for finding in checks.checks() if finding.check.startswith("engine for "))
    return {finding.check.removeprefix("engine for "): (finding.ok, finding.detail) for finding in found}


@pytest.mark.usefixtures("graphs")
def test_doctor_says_which_engine_each_model_gets_and_why_not_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = of_engines()
    assert all(ok for ok, _ in found.values())
    assert found["tiny"][1].startswith("onnx (fp32 graphs in ")
    assert "not torch: PyTorch in float32 on cpu: slower" in found["tiny"][1]
    assert found["starter"][1].startswith("torch (PyTorch in float32 on cpu; the fastest that keeps 40 dB")
    monkeypatch.setenv("SOUNDCTM_ENGINE", "onnx")
    found = of_engines()
    assert found["tiny"][0] is True and found["starter"][0] is False
    assert "The setting `engine` names it." in found["starter"][1]


@pytest.mark.usefixtures("graphs")
def test_generate_wants_the_engine_that_the_daemon_was_started_with() -> None:
    with RunningDaemon(steered(), engine="torch"):
        assert soundctm("generate", "rain", "--seconds=0.5", "--engine=torch").exit_code == 0
        shown = soundctm("generate", "rain", "--seconds=0.5", "--engine=onnx")
    assert shown.exit_code == 2
    assert "the daemon that runs was started with torch" in " ".join(shown.stderr.split())


def test_generate_starts_a_daemon_with_the_engine_it_is_told() -> None:
    shown = soundctm("generate", "rain", "--engine=warp")
    assert shown.exit_code == 3
    assert "engine is 'warp' in the command line; allowed: auto, torch, " in " ".join(shown.stderr.split())


def test_a_daemon_elsewhere_chooses_its_own_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDCTM_ADDRESS", "127.0.0.1:1")
    assert soundctm("generate", "rain", "--engine=onnx").exit_code == 2
