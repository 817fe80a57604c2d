"""Compiling never stands in the way and never changes the sound; what is recorded is replayed with new inputs.

The compiler and the recorder are passed in: neither a C++ compiler nor a GPU is needed here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from soundctm.bundle import Bundle, open_bundle
from soundctm.codecs.mel import WhitenedMelCodec
from soundctm.engines import torch_half, torch_kinds
from soundctm.engines.choosing import Able, Unable, Wanted
from soundctm.engines.registry import ENGINES
from soundctm.engines.torch import TorchEngine
from soundctm.engines.torch_compiled import compile_kernels, samples
from soundctm.engines.torch_graphs import RecordedCodec, Recordings
from soundctm.engines.torch_half import Precision, load_compiled_engine, load_half_engine, recorded
from soundctm.networks.kernels import EAGER, Kernel, KernelSet
from soundctm.spec import BundleSpec, Conditioning, DiTSpec
from tiny import TINY_SPEC

PATIENCE_SECONDS = 30.0
CPU = torch.device("cpu")
OFFICIAL = replace(TINY_SPEC, network=DiTSpec(io_channels=4, embed_dim=64, depth=2, num_heads=2, cond_dim=64))


@pytest.fixture(scope="module")
def bundle(tiny_bundle_dir: Path) -> Bundle:
    return open_bundle(tiny_bundle_dir)


def noise(engine: TorchEngine, rows: int, frames: int) -> Tensor:
    random = np.random.Generator(np.random.Philox(frames))
    return engine.array(80 * random.standard_normal((rows, 4, frames), np.float32))


def jump(engine: TorchEngine, rows: int, frames: int, prompt: str = "rain") -> Tensor:
    text = engine.encode_text([prompt]) * rows
    return engine.jump(noise(engine, rows, frames), [80.0] * rows, [0.5] * rows, [3.0] * rows, text)


def test_eager_kernels_serve_until_compiled_ones_are_there(bundle: Bundle) -> None:
    kernels, go_on = KernelSet(), threading.Event()
    made: list[str] = []

    def slow_compiler(kernel: Kernel) -> Kernel:
        def call(*inputs: Tensor) -> Tensor:
            assert go_on.wait(PATIENCE_SECONDS)
            made.append(kernel.__name__)
            return kernel(*inputs)

        return call

    engine, _ = load_half_engine(bundle, Precision.BFLOAT16, kernels=kernels)
    compiling = compile_kernels(kernels, bundle.spec, CPU, slow_compiler)
    before = jump(engine, 1, 22)
    assert made == [] and kernels.current is EAGER and not compiling.wait(0)
    go_on.set()
    assert compiling.wait(PATIENCE_SECONDS) and compiling.problem == ""
    assert kernels.current is not EAGER and {"modulated", "turned", "gated", "snake"} <= set(made)
    made.clear()
    assert torch.equal(jump(engine, 1, 22), before)
    assert made
    engine.decode(before, [0])
    assert "snake" in made


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        (lambda kernel: (lambda *inputs: 1.1 * EAGER.normed(*inputs)), "ArithmeticError: the compiled "),
        (lambda kernel: (lambda *inputs: EAGER.normed(*inputs) * torch.nan), "ArithmeticError: the compiled "),
        (lambda kernel: (lambda *inputs: 1 / 0), "ZeroDivisionError: division by zero"),
    ],
)
def test_kernels_that_cannot_be_had_or_are_wrong_are_never_used(
    failing: Callable[[Kernel], Kernel], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    kernels = KernelSet()
    compiling = compile_kernels(kernels, OFFICIAL, CPU, failing)
    assert compiling.wait(PATIENCE_SECONDS)
    assert kernels.current is EAGER
    assert compiling.problem.startswith(said) and said in caplog.text and "eager ones go on" in caplog.text


@pytest.mark.parametrize(("spec", "norm"), [(TINY_SPEC, "modulated"), (OFFICIAL, "normed")])
def test_samples_cover_what_the_networks_call(spec: BundleSpec, norm: str) -> None:
    told = list(samples(spec, CPU))
    assert {norm, "turned", "quantised", "restored", "gated", "snake"} <= {name for name, _ in told}
    batches = {inputs[0].shape[0] for name, inputs in told if name == "modulated"}
    assert batches == ({1, 2} if spec.network.conditioning is Conditioning.ADAPTIVE_NORM else set())
    widths = [inputs[0].shape[1] for name, inputs in told if name == "snake"]
    assert widths == [16, 8, 4, 2, 1]


class Recorder:
    """Runs once into memory that stays, as a graph does; replays into the same memory."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.recorded += 1
        output = run().clone()

        def replay() -> Tensor:
            self.replayed += 1
            return output.copy_(run())

        return replay


def test_recorded_networks_say_the_same_for_every_shape_and_prompt(bundle: Bundle) -> None:
    """And what they gave before stays as it was, though they write into the same memory again."""
    engine, recorder = load_half_engine(bundle, Precision.BFLOAT16)[0], Recorder()
    calls = [(1, 22, "rain"), (2, 22, "rain"), (1, 40, "dog"), (1, 22, "dog"), (1, 22, "rain")]
    wanted = [jump(engine, *call) for call in calls]
    audio = engine.decode_tile(wanted[0], [0], 0, [None])[0]
    memory_bytes = engine.memory_bytes
    engine.replace_networks(partial(recorded, record=recorder, tile_frames=50))
    found = [jump(engine, *call) for call in calls]
    assert all(torch.equal(one, other) for one, other in zip(wanted, found, strict=True))
    assert (recorder.recorded, recorder.replayed) == (3, 5)
    assert engine.memory_bytes == memory_bytes
    np.testing.assert_array_equal(engine.decode_tile(found[0], [0], 0, [None])[0], audio)
    assert recorder.recorded == 4
    assert (engine.decode_tiles(50), engine.decode_tiles(51)) == (1, 2)


def test_the_least_lately_used_recording_goes() -> None:
    recorder = Recorder()
    recordings = Recordings(recorder, most=2)

    def double(size: int) -> Tensor:
        def run(inputs: Mapping[str, Tensor]) -> Tensor:
            return 2 * inputs["x"]

        return recordings(run, {"x": torch.full((size,), float(size))})

    for size in (1, 2, 1, 3, 1, 2):
        assert torch.equal(double(size), torch.full((size,), 2.0 * size))
    assert recorder.recorded == 4  # 1, 2, 3 and, since 3 took its place, 2 again


def test_a_decoder_whose_tiles_hand_something_on_is_not_recorded() -> None:
    codec = WhitenedMelCodec(3, slow_dim=8, slow_blocks=1, fast_dim=8, fast_blocks=1)
    with pytest.raises(ValueError, match="cannot be recorded"):
        RecordedCodec(codec, Recorder()).decode_tile(torch.zeros(1, 3, 4), torch.zeros(1, 1, 4096), 0, 0, None)


@pytest.mark.parametrize("name", ["torch-compiled", "torch-int8"])
def test_rows_of_compiled_kernels_need_a_compiler(name: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = next(kind for kind in ENGINES if kind.name == name)
    monkeypatch.setattr(torch_kinds, "native_int8", lambda: True)
    monkeypatch.setattr(torch_kinds, "native_bfloat16", lambda: True)
    monkeypatch.setattr(torch_kinds, "cpp_compiler", lambda: None)
    found = kind.judge(bundle, Wanted())
    assert isinstance(found, Unable) and "no C++ compiler here" in found.says
    monkeypatch.setattr(torch_kinds, "cpp_compiler", lambda: "/usr/bin/g++")
    assert isinstance(kind.judge(bundle, Wanted()), Able)
    monkeypatch.setattr(torch_kinds, "native_bfloat16", lambda: False)
    assert isinstance(kind.judge(bundle, Wanted()), Unable)


def test_a_machine_that_cannot_compile_serves_all_the_same(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> Kernel:
        raise RuntimeError("no compiler that works")

    monkeypatch.setattr(torch_half, "compile_kernels", partial(compile_kernels, compile_kernel=broken))
    engine, fidelity, compiling = load_compiled_engine(bundle, Precision.BFLOAT16)
    assert compiling.wait(PATIENCE_SECONDS) and compiling.problem == "RuntimeError: no compiler that works"
    assert fidelity.latent_db > 40 and torch.isfinite(jump(engine, 1, 22)).all()
