"""The ONNX Runtime engine is the PyTorch engine, without PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from soundctm.bundle import Bundle, open_bundle, sha256_file
from soundctm.engines.onnx import OnnxEngine, load_engine
from soundctm.engines.onnx_graphs import Graph
from soundctm.engines.providers import Provider
from soundctm.engines.torch import TorchEngine
from soundctm.engines.torch import load_engine as load_torch_engine
from soundctm.errors import BundleError, DigestMismatchError, GraphError, OutOfMemoryError, ProviderMissingError
from soundctm.exports import EXPORTS, Role, read_exports
from soundctm.recipe import Recipe
from soundctm.render import render, render_latent

PROMPTS = ["heavy rain on a tin roof", "", "a dog barks"]


@pytest.fixture(scope="module")
def bundle(exported_tiny_dir: Path) -> Bundle:
    return open_bundle(exported_tiny_dir)


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> OnnxEngine:
    return load_engine(bundle, threads=1)


@pytest.fixture(scope="module")
def torch_engine(bundle: Bundle) -> TorchEngine:
    return load_torch_engine(bundle)


@pytest.fixture
def copied(exported_tiny_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported_tiny_dir, tmp_path / "copied")


def error_of(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """As a share of what is expected."""
    assert found.shape == expected.shape and found.dtype == expected.dtype
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def recipe(bundle: Bundle, steps: int, nu: float, gamma: float) -> Recipe:
    return Recipe(bundle.digest, PROMPTS[0], "thunder", 7, 1.0, steps, gamma, omega=3.0, nu=nu)


def test_prompts_are_encoded_alike(engine: OnnxEngine, torch_engine: TorchEngine) -> None:
    assert error_of(engine.embed(PROMPTS), torch_engine.embed(PROMPTS)) < 1e-5
    np.testing.assert_allclose(np.linalg.norm(engine.embed(PROMPTS), axis=1), 1, atol=1e-5)
    for handle, context in zip(engine.encode_text(PROMPTS), torch_engine.encode_text(PROMPTS), strict=True):
        assert handle.keys() == context.fields().keys()
        for name, tensor in context.fields().items():
            np.testing.assert_allclose(handle[name], tensor.numpy(), atol=1e-5)
    assert engine.encode_text(PROMPTS)[0] is engine.encode_text(PROMPTS[:1])[0]


@pytest.mark.parametrize(("rows", "frames"), [(1, 22), (3, 22), (3, 130)])
def test_jumps_land_where_pytorchs_do(
    engine: OnnxEngine, torch_engine: TorchEngine, rows: int, frames: int
) -> None:
    z = np.random.default_rng(0).normal(size=(rows, 4, frames)).astype(np.float32)
    levels = [80.0, 5.0, 0.6][:rows], [0.002, 1.0, 0.05][:rows], [3.0, 1.0, 5.0][:rows]
    found = engine.jump(engine.array(z), *levels, engine.encode_text(PROMPTS[:rows]))
    expected = torch_engine.jump(torch.from_numpy(z), *levels, torch_engine.encode_text(PROMPTS[:rows]))
    assert error_of(found, expected.numpy()) < 1e-5


@pytest.mark.parametrize("frames", [22, 216])
def test_tiles_and_whole_clips_are_decoded_alike(
    engine: OnnxEngine, torch_engine: TorchEngine, frames: int
) -> None:
    latents = np.random.default_rng(1).normal(size=(2, 4, frames)).astype(np.float32)
    expected = torch_engine.decode(torch.from_numpy(latents), [1, 2])
    assert error_of(engine.decode(latents, [1, 2]), expected) < 1e-5
    pieces, carries = [], [None, None]
    for index in range(engine.decode_tiles(frames)):
        piece, carries = engine.decode_tile(latents, [1, 2], index, carries)
        pieces.append(piece)
    assert len(pieces) == torch_engine.decode_tiles(frames)
    assert error_of(np.concatenate(pieces, -1), expected) < 1e-5


def test_sounds_of_any_length_are_encoded_alike(engine: OnnxEngine, torch_engine: TorchEngine) -> None:
    audio = np.random.default_rng(2).uniform(-1, 1, (2, 1, 20_000)).astype(np.float32)
    assert error_of(engine.encode(audio, [1, 2]), torch_engine.encode(audio, [1, 2]).numpy()) < 1e-5


@pytest.mark.parametrize(("steps", "nu", "gamma"), [(1, 1.0, 0.0), (4, 2.0, 0.5)])
def test_one_recipe_gives_one_clip(
    engine: OnnxEngine, torch_engine: TorchEngine, bundle: Bundle, steps: int, nu: float, gamma: float
) -> None:
    assert engine.digest == torch_engine.digest == bundle.digest
    made = recipe(bundle, steps, nu, gamma)
    assert error_of(render_latent(engine, made), render_latent(torch_engine, made).numpy()) < 1e-4
    assert error_of(render(engine, made), render(torch_engine, made)) < 1e-4


_WITHOUT_TORCH = """
import sys
from pathlib import Path
from soundctm.bundle import open_bundle
from soundctm.engines.onnx import load_engine
from soundctm.engines.warm_up import warm_up
engine = load_engine(open_bundle(Path(sys.argv[1])), threads=1)
warm_up(engine)
assert "torch" not in sys.modules
"""


def test_pytorch_is_never_imported(exported_tiny_dir: Path) -> None:
    subprocess.run([sys.executable, "-c", _WITHOUT_TORCH, str(exported_tiny_dir)], check=True)


def test_memory_is_that_of_the_graphs_it_runs(engine: OnnxEngine, exported_tiny_dir: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in exported_tiny_dir.glob("*.onnx*")}
    assert engine.memory_bytes == sum(sizes.values()) - sizes["preview.onnx"]


def test_a_missing_provider_is_an_error_unless_the_cpu_is_allowed(bundle: Bundle) -> None:
    with pytest.raises(ProviderMissingError, match=r"CUDAExecutionProvider cannot be had; this ONNX .*CPU"):
        load_engine(bundle, Provider.CUDA)
    assert load_engine(bundle, Provider.CUDA, threads=1, allow_cpu=True).embed(["rain"]).shape == (1, 64)


def test_a_silent_fall_back_to_the_cpu_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU wheel names its providers on machines whose driver is missing, and then computes elsewhere."""
    session, providers = onnxruntime.InferenceSession, [provider.value for provider in Provider]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(
        onnxruntime, "InferenceSession",
        lambda path, options, providers: session(path, options, providers=["CPUExecutionProvider"]),
    )  # fmt: skip
    with pytest.raises(ProviderMissingError, match="fell back to: CPUExecutionProvider"):
        load_engine(bundle, Provider.CUDA)
    load_engine(bundle, Provider.CUDA, allow_cpu=True)


def test_an_altered_or_missing_file_is_named(copied: Path) -> None:
    data = copied / "jump.onnx.data"
    with data.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(DigestMismatchError, match=r"jump\.onnx\.data"):
        load_engine(open_bundle(copied))
    data.unlink()
    with pytest.raises(DigestMismatchError, match="it is missing"):
        load_engine(open_bundle(copied))


def test_another_tokenizer_is_refused(copied: Path) -> None:
    (copied / "tokenizer.json").write_text("{}")
    with pytest.raises(DigestMismatchError, match=r"tokenizer\.json"):
        load_engine(open_bundle(copied))


def test_a_bundle_without_graphs_says_how_to_make_them(tiny_bundle_dir: Path) -> None:
    assert read_exports(open_bundle(tiny_bundle_dir)) is None
    with pytest.raises(BundleError, match="soundctm export onnx tiny -o OUT"):
        load_engine(open_bundle(tiny_bundle_dir))


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Bundle:
    listed = folder / EXPORTS
    data = json.loads(listed.read_text())
    change(data)
    listed.write_text(json.dumps(data))
    return open_bundle(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data.update(format=9), "has format 9; this version reads format 1"),
        (lambda data: data.update(bundle_digest="0" * 64), "lists graphs of the bundle 000000000000"),
        (lambda data: data["graphs"][0].update(file="../jump.onnx"), "a file outside its folder"),
        (lambda data: data["files"].pop("jump.onnx"), "without a checksum"),
        (lambda data: data["graphs"][0].update(role="song"), "song"),
        (lambda data: data.pop("tiling"), "tiling"),
        (lambda data: data["graphs"].clear(), "lists no graph 'text'; it lists: none"),
    ],
)
def test_a_list_of_graphs_that_cannot_be_right_is_refused(
    copied: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    with pytest.raises(BundleError, match=said):
        load_engine(changed(copied, change))


def test_a_list_that_is_no_json_is_refused(copied: Path) -> None:
    (copied / EXPORTS).write_text("[")
    with pytest.raises(BundleError, match="not a valid list of graphs"):
        load_engine(open_bundle(copied))


def test_an_opset_that_the_runtime_lacks_is_named(copied: Path) -> None:
    graph = onnx.load(str(copied / "text.onnx"), load_external_data=False)
    graph.opset_import[0].version = 99
    (copied / "text.onnx").write_bytes(graph.SerializeToString())

    def newest(data: dict[str, Any]) -> None:
        data["files"]["text.onnx"] = sha256_file(copied / "text.onnx")
        next(record for record in data["graphs"] if record["role"] == "text")["opset"] = 99

    with pytest.raises(GraphError, match="exported at opset 99: upgrade ONNX Runtime"):
        load_engine(changed(copied, newest))


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 1"), OutOfMemoryError),
        (RuntimeError("std::bad_alloc"), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("Got invalid dimensions for input: z"), GraphError),
    ],
)
def test_a_failing_run_is_told_by_its_kind(failure: Exception, said: type[Exception]) -> None:
    def run(outputs: None, inputs: dict[str, Any]) -> None:
        raise failure

    session = SimpleNamespace(get_inputs=list, get_outputs=list, run=run)
    with pytest.raises(said):
        Graph(Role.JUMP, session)({})
