"""Engines in fewer bits say what float32 says, within the decibels that their bits give, and say how many those are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from soundctm.bundle import Bundle, open_bundle
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.half import HalfDecoder
from soundctm.engines import torch_kinds
from soundctm.engines.choosing import Able, Unable, Wanted, choices
from soundctm.engines.processor import native_bfloat16, native_int8
from soundctm.engines.registry import ENGINES
from soundctm.engines.torch import TorchEngine, load_engine
from soundctm.engines.torch_half import Fidelity, Precision, load_half_engine, snr_db
from soundctm.errors import DigestMismatchError, EngineUnavailableError
from soundctm.networks.dit import DiT
from soundctm.networks.half import BYTES, HALF, Products, attended_by_products, halve
from soundctm.networks.kernels import KernelSet
from soundctm.networks.products import ByteGate, ExactProduct, HalfGate
from soundctm.recipe import Recipe
from soundctm.render import render_latent
from soundctm.spec import DiTSpec
from tiny import write_tiny_bundle

OFFICIAL = DiTSpec(io_channels=4, embed_dim=128, depth=2, num_heads=2, cond_dim=64)
# a bfloat16 has 8 bits: each rounding leaves 50 dB; 8-bit rows of some hundred normal numbers leave 40
LEAST_DB = {HALF: 42.0, BYTES: 34.0}


@pytest.fixture(scope="module")
def bundle(tiny_bundle_dir: Path) -> Bundle:
    return open_bundle(tiny_bundle_dir)


@pytest.fixture(scope="module")
def plain(bundle: Bundle) -> TorchEngine:
    return load_engine(bundle)


@pytest.fixture(scope="module")
def half(bundle: Bundle) -> TorchEngine:
    return load_half_engine(bundle, Precision.BFLOAT16)[0]


def official_network() -> DiT:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = DiT(OFFICIAL).eval().requires_grad_(False)
        for name, parameter in network.named_parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 64
            if not name.endswith("gamma"):
                torch.nn.init.normal_(parameter, std=1.0 if "timestep_features" in name else fan_in**-0.5)
    return network


@pytest.mark.parametrize("packed", {False, native_bfloat16()})
@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("products", [HALF, BYTES], ids=["bf16", "int8"])
def test_layers_of_the_official_layout_keep_their_decibels(products: Products, tokens: int, packed: bool) -> None:
    """Several lengths and batches, a text of one token and of several."""
    wanted, network = official_network(), official_network()
    halve(network, products, KernelSet(), packed, attends=tokens > 1)
    random = torch.Generator().manual_seed(0)
    for batch, frames in ((1, 7), (3, 30)):
        x, text = (torch.randn(batch, *shape, generator=random) for shape in ((4, frames), (tokens, 64)))
        level, omega = torch.linspace(-1, 1, batch), torch.linspace(2, 5, batch)
        outputs = [n(x, level, level - 1, omega, n.encode_context(text)).numpy() for n in (wanted, network)]
        assert outputs[1].dtype == np.float32
        assert snr_db(*outputs) > LEAST_DB[products]


@pytest.mark.parametrize("packed", {False, native_bfloat16()})
@pytest.mark.parametrize("bias", [True, False])
def test_products_of_one_layer(bias: bool, packed: bool) -> None:
    """A gate is rounded three times on its way, each 50 dB; float32 stays what it is, in any layout."""
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(4)
        x, linear = torch.randn(2, 5, 96), torch.nn.Linear(96, 128, bias)
        wide = linear.double()(x.double())
        value, gate = wide.chunk(2, dim=-1)
        linear.float()
        exact = ExactProduct(linear, packed)(x)
        assert exact.dtype == torch.float32 and (exact - wide).abs().max() <= 1e-6 * wide.abs().max()
        for kind, least_db in ((HalfGate, 43.0), (ByteGate, 34.0)):
            found = kind(linear, packed, KernelSet())(x)
            assert found.dtype == torch.bfloat16
            assert snr_db((value * functional.silu(gate)).numpy(), found.float().numpy()) > least_db


def test_attention_made_of_whole_products_is_attention() -> None:
    random = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(2, 3, 37, 64, generator=random).bfloat16() for _ in range(3))
    wanted = functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
    found = attended_by_products(q, k, v)
    assert found.dtype == torch.bfloat16
    assert snr_db(wanted.numpy(), found.float().numpy()) > 43  # scores, weights and sums are rounded, each 50 dB


@pytest.mark.parametrize("rates", [(8, 4, 2), (5, 3)])
def test_a_decoder_in_bfloat16_decodes_the_same_sound_whole_and_in_tiles(rates: tuple[int, ...]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = GaussianDAC(
            encoder_dim=2, encoder_rates=rates[::-1], latent_dim=8, decoder_dim=32, decoder_rates=rates
        )
    codec.eval().requires_grad_(False)
    latent = torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(0))
    wanted = [codec.decode(latent, None), codec.decode_tile(latent[..., 4:38], None, 12, 11, None)[0]]
    codec.decoder = HalfDecoder(codec.decoder, KernelSet())  # type: ignore[assignment]
    found = [codec.decode(latent, None), codec.decode_tile(latent[..., 4:38], None, 12, 11, None)[0]]
    for one, other in zip(wanted, found, strict=True):
        assert one.shape == other.shape and other.dtype == torch.float32
        assert snr_db(one.numpy(), other.numpy()) > 33  # untrained, so the sound is a small rest of large parts


def test_a_clip_is_the_same_sound_and_its_engine_knows_how_near(bundle: Bundle, plain: TorchEngine) -> None:
    recipe = Recipe(bundle.digest, "heavy rain", "", seed=5, seconds=2.0, steps=4, gamma=0.2, omega=3.0, nu=1.5)
    wanted = render_latent(plain, recipe).numpy()
    for precision, least_db in ((Precision.BFLOAT16, 40.0), (Precision.INT8, 34.0)):
        engine, fidelity = load_half_engine(bundle, precision)
        assert engine.digest == plain.digest and engine.memory_bytes < plain.memory_bytes
        assert snr_db(wanted, render_latent(engine, recipe).numpy()) > least_db
        assert least_db < fidelity.latent_db < 80 and 30 < fidelity.audio_db < 80


def test_prompts_change_the_sound_whatever_was_cached_before(plain: TorchEngine, half: TorchEngine) -> None:
    z = half.array(80 * np.random.Generator(np.random.Philox(1)).standard_normal((1, 4, 22), np.float32))
    landed = [half.jump(z, [80.0], [1.0], [3.0], half.encode_text([prompt])).numpy() for prompt in ("rain", "dog")]
    assert snr_db(*landed) < 30
    assert snr_db(plain.jump(z, [80.0], [1.0], [3.0], plain.encode_text(["dog"])).numpy(), landed[1]) > 40


def test_a_row_keeps_to_itself(half: TorchEngine) -> None:
    """Another batch shape may round otherwise, and a rounding here is 50 dB; it must never be more."""
    random = np.random.Generator(np.random.Philox(2))
    z = half.array(80 * random.standard_normal((3, 4, 30), np.float32))
    text = half.encode_text(["rain", "dog", "thunder"])
    together = half.jump(z, [80.0, 80.0, 2.0], [1.0, 0.1, 0.5], [3.0] * 3, text).numpy()
    for row, (t, s) in enumerate(((80.0, 1.0), (80.0, 0.1), (2.0, 0.5))):
        alone = half.jump(z[row : row + 1], [t], [s], [3.0], [text[row]]).numpy()
        assert snr_db(alone, together[row : row + 1]) > 45


def test_damaged_weights_are_refused_before_anything_is_made_of_them(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "damaged")
    with (bundle.path / "network.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\1\2\3\4")
    with pytest.raises(DigestMismatchError):
        load_half_engine(bundle, Precision.INT8)


def test_decibels() -> None:
    ones = np.ones(10, np.float32)
    assert snr_db(ones, ones) == math.inf
    assert snr_db(ones, 1.1 * ones) == pytest.approx(20, abs=1e-3)
    assert snr_db(0 * ones, ones) == -math.inf
    assert snr_db(ones, ones * math.nan) == -math.inf


def test_rows_of_the_table_are_for_processors_that_have_the_instructions(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {kind.name: kind for kind in ENGINES}
    monkeypatch.setattr(torch_kinds, "native_bfloat16", lambda: False)
    found = kinds["torch-bf16"].judge(bundle, Wanted())
    assert isinstance(found, Unable) and "no instructions for bf16" in found.says
    monkeypatch.setattr(torch_kinds, "native_bfloat16", lambda: True)
    monkeypatch.setattr(torch_kinds, "native_int8", lambda: False)
    monkeypatch.setattr(torch_kinds, "cpp_compiler", lambda: None)
    assert isinstance(kinds["torch-int8"].judge(bundle, Wanted()), Unable)
    able = kinds["torch-bf16"].judge(bundle, Wanted())
    assert isinstance(able, Able) and able.speed is not None and able.speed > 1
    assert able.snr_db < 40  # the starter's waveform: `auto` leaves it in float32
    official = replace(bundle, spec=replace(bundle.spec, network=OFFICIAL))
    for compiler, best in (("/usr/bin/g++", "torch-compiled"), (None, "torch-bf16")):
        monkeypatch.setattr(torch_kinds, "cpp_compiler", lambda compiler=compiler: compiler)
        assert choices(official, Wanted(), ENGINES)[0].kind.name == best
    on_gpu = kinds["torch-bf16"].judge(bundle, Wanted(device="cuda"))
    assert isinstance(on_gpu, Able) and on_gpu.speed is None  # nobody has timed it


def test_auto_passes_over_a_model_that_loses_too_much_and_a_name_does_not(
    bundle: Bundle, half: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "soundctm.engines.torch_half.load_half_engine", lambda *arguments: (half, Fidelity(39.0, math.inf))
    )
    kind = next(kind for kind in ENGINES if kind.name == "torch-bf16")
    with pytest.raises(EngineUnavailableError, match="keeps 39 dB of the model 'tiny'"):
        kind.load(bundle, Wanted())
    assert kind.load(bundle, Wanted("torch-bf16")) is half


@pytest.mark.parametrize(
    ("text", "bfloat16", "int8"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512_vnni\n", True, True),
        ("flags\t\t: fpu avx2 avx_vnni\n", False, True),
        ("Features\t: fp asimd bf16 i8mm\n", True, False),
        ("model name : avx512_bf16\nflags : sse2\n", False, False),
        ("", False, False),
    ],
)
def test_a_processor_says_what_it_multiplies(tmp_path: Path, text: str, bfloat16: bool, int8: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert native_bfloat16(tmp_path / "cpuinfo") is bfloat16
    assert native_int8(tmp_path / "cpuinfo") is int8
    assert not native_bfloat16(tmp_path / "absent")
