"""The benchmark of engines, at a minute size: its reference says what engines say, its model is what it claims."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from soundctm.bundle import open_bundle
from soundctm.engines.torch import load_engine
from soundctm.engines.torch_half import Precision, load_half_engine, snr_db

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture(scope="module")
def minute_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import full_size
    finally:
        sys.path.remove(str(BENCHMARKS))
    return full_size.write_bundle(tmp_path_factory.mktemp("minute") / "bundle", full_size.MINUTE).path


def test_the_reference_says_what_the_exact_engine_says(minute_bundle_dir: Path) -> None:
    import full_size
    from official import load_official

    bundle = open_bundle(minute_bundle_dir)
    engine, official = load_engine(bundle), load_official(bundle)
    z, _ = full_size.start(full_size.MINUTE)
    text = engine.encode_text(["heavy rain"])
    latent = engine.jump(z, [80.0], [0.002], [3.5], text)
    assert snr_db(latent.numpy(), official.jump(z, 80.0, 0.002, 3.5, "heavy rain").numpy()) > 100
    assert snr_db(engine.decode(latent, [0]), official.decode(latent).numpy()) > 100
    # both halves of its batch are heard
    other = engine.jump(z, [80.0], [0.002], [3.5], engine.encode_text([""]))
    mixed = official.jump(z, 80.0, 0.002, 3.5, "heavy rain", nu=2.0).numpy()
    assert snr_db((other + 2.0 * (latent - other)).numpy(), mixed) > 90


def test_the_random_model_behaves_like_a_trained_one() -> None:
    """No tensor is zero, blocks change the residual by 10 to 50 % of its norm, peaks lie between 0.3 and 0.8."""
    import full_size
    from full_size import MINUTE, OMEGA, SIGMA_DATA

    from soundctm.networks.preconditioning import c_in, c_noise

    network = full_size.random_network(MINUTE)
    assert all(parameter.abs().max() > 0 for parameter in network.parameters())
    z, text = full_size.start(MINUTE)
    t, s, omega = torch.tensor([80.0]), torch.tensor([0.002]), torch.tensor([OMEGA])
    level = network.level_embedding(c_noise(t), c_noise(s), omega, None)
    hidden = network.embed(c_in(t, SIGMA_DATA)[:, None, None] * z, level)
    for output in network.run_layers(hidden, network.encode_context(text), level):
        assert 0.1 <= float((output - hidden).norm() / hidden.norm()) <= 0.55
        hidden = output
    latent = 0.5 * torch.randn(1, MINUTE.network.io_channels, MINUTE.frames)
    codec = full_size.random_codec(MINUTE, latent)
    peak = float(codec.decode(latent, None).abs().max())
    assert 0.3 <= math.atanh(peak) <= 0.8


def test_the_whole_benchmark_of_a_minute_model(
    minute_bundle_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import engines

    monkeypatch.setattr(engines, "measured_alone", lambda *arguments: {"load_seconds": 1.0, "peak_bytes": 2 * 10**9})
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    figures_file = tmp_path / "out" / "figures.json"
    arguments = ["--full", "--size", "minute", "--rounds", "2", "--threads", "1"]
    arguments += ["--without", "torch-compiled", "--without", "torch-int8"]  # compiling takes a minute
    engines.main([*arguments, "--bundle", str(minute_bundle_dir), "--json", str(figures_file)])
    figures = json.loads(figures_file.read_text())
    assert set(figures["engines"]) == {"official", "torch", "torch-bf16"}
    for told in figures["engines"].values():
        assert [len(told["seconds"][what]) for what in ("1 jump", "4 jumps", "decode")] == [2, 1, 2]
    assert figures["engines"]["official"]["snr_db"]["decode"] > 100
    assert figures["engines"]["torch-bf16"]["snr_db"]["1 jump"] > 40
    shown = capsys.readouterr().out
    assert "| official |" in shown and "| torch-bf16, 1 jump |" in shown and "of the peak" in shown


def test_an_engine_alone_tells_its_memory_and_how_long_it_loads(minute_bundle_dir: Path) -> None:
    from full_alone import measured_alone

    own = b"x" * 2_000_000_000  # of the process that asks: none of the engine's
    told = measured_alone("torch-bf16", open_bundle(minute_bundle_dir), 1)
    assert 10_000_000 < told["peak_bytes"] < len(own) and told["load_seconds"] > 0


def test_every_engine_that_can_makes_clips_of_a_bundle(tiny_bundle_dir: Path) -> None:
    from starter_engines import starter_figures
    from tables import starter_tables

    measured = starter_figures(1, 1, str(tiny_bundle_dir), without=["torch-compiled", "torch-int8"])
    figures = {**measured, "machine": "this", "threads": 1, "date": "today"}
    assert {"torch"} <= set(figures["engines"])
    assert all(list(told["jump_seconds_per_clip"]) == [1, 2, 4, 8, 16, 32] for told in figures["engines"].values())
    assert "| torch |" in starter_tables(figures)


def test_operations_are_counted_as_they_are_known() -> None:
    """The full-size network's products by hand; the counter knows no others but attention and small ones."""
    import full_size
    from machine import jump_operations

    spec, rows = full_size.FULL.network, full_size.FULL.frames + 1
    products = 2 * rows * spec.embed_dim**2 * (3 + 1 + 8 + 4) * spec.depth
    attention = 4 * rows**2 * spec.embed_dim * spec.depth
    assert jump_operations(full_size.FULL) == pytest.approx(products + attention, rel=0.01)


def test_the_script_for_a_gpu_refuses_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device here"):
        gpu.main([])


def test_what_the_script_for_a_gpu_does_is_done_here_on_the_cpu(minute_bundle_dir: Path) -> None:
    import gpu

    bundle = open_bundle(minute_bundle_dir)
    told = gpu.compared(
        bundle, "cpu", 1, lambda bundle, device: load_half_engine(bundle, Precision.BFLOAT16, device)[0]
    )
    exact, fast = told.values()
    assert exact["latent_db"] == math.inf and 35 < fast["latent_db"] < 80
    assert list(fast["clip_ms"]) == [1, 2, 4, 16]
    assert "| minute, float32 |" in gpu.table({"minute": told})
