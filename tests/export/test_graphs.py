"""Graphs one by one: other precisions, the mel codec's, and graphs that are not what they should be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from soundctm.bundle import open_bundle
from soundctm.codecs.mel import WhitenedMelCodec
from soundctm.engines.onnx import OnnxEngine
from soundctm.engines.onnx_graphs import open_graph
from soundctm.engines.providers import Provider
from soundctm.engines.torch import TorchEngine
from soundctm.exports import REQUIRED, GraphRecord, Role, read_exports
from soundctm.networks.dit import DiT
from soundctm.spec import DiTSpec, TextKind, TextSpec
from soundctm.text.clap import ClapNetwork, ClapText, roberta_spec
from soundctm_export.calibration import Ranges, activation_ranges, trajectories
from soundctm_export.errors import BakedShapeError, ParityError, PrecisionError
from soundctm_export.exporter import data_file, refuse_baked, save, write_graph
from soundctm_export.graphs import GraphPlan, Port, graph_plans, tiling
from soundctm_export.opsets import check_precision
from soundctm_export.packed import packed
from soundctm_export.parity import check_file, measured_snr_db, quiet_options, snr_db
from soundctm_export.parts import Parts, load_parts
from soundctm_export.precisions import activations, convert, tolerance_db
from soundctm_export.settings import Precision


@pytest.fixture(scope="module")
def parts(tiniest_bundle_dir: Path) -> Parts:
    return load_parts(open_bundle(tiniest_bundle_dir))


def plan_of(parts: Parts, role: Role) -> GraphPlan:
    with torch.inference_mode():
        return next(plan for plan in graph_plans(parts) if plan.role is role)


STORED_AS = {
    Precision.FP16: TensorProto.FLOAT16,
    Precision.INT8: TensorProto.INT8,
    Precision.W8A8: TensorProto.INT8,
    Precision.W8: TensorProto.UINT8,
    Precision.INT4: TensorProto.UINT8,
}


@pytest.fixture(scope="module")
def ranges(parts: Parts, exported_tiny_dir: Path) -> Ranges:
    source = exported_tiny_dir / "jump.onnx"
    with torch.inference_mode():
        return activation_ranges(source, plan_of(parts, Role.JUMP), activations(source), trajectories(parts, 22))


@pytest.mark.parametrize("precision", STORED_AS)
def test_the_jump_in_other_precisions(
    parts: Parts, exported_tiny_dir: Path, tmp_path: Path, precision: Precision, ranges: Ranges
) -> None:
    plan, path = plan_of(parts, Role.JUMP), tmp_path / "jump.onnx"
    for _ in range(2):
        before = [file.read_bytes() for file in sorted(tmp_path.iterdir())]
        convert(exported_tiny_dir / "jump.onnx", path, precision, ranges)
    assert before == [file.read_bytes() for file in sorted(tmp_path.iterdir())]
    check_file(plan, path)
    refuse_baked(plan, path)
    assert measured_snr_db(plan, path, [22, 30]) >= tolerance_db(Role.JUMP, precision)
    kinds = {tensor.data_type for tensor in onnx.load(str(path), load_external_data=False).graph.initializer}
    assert STORED_AS[precision] in kinds
    full, stored = (folder / "jump.onnx.data" for folder in (exported_tiny_dir, tmp_path))
    assert stored.stat().st_size < full.stat().st_size


def test_calibration_sees_every_activation_from_noise_to_sound(
    parts: Parts, exported_tiny_dir: Path, ranges: Ranges
) -> None:
    assert ranges.keys() == set(activations(exported_tiny_dir / "jump.onnx"))
    assert all(low <= 0 <= high and high > low for low, high in ranges.values())
    with torch.inference_mode():
        levels = [(float(t), float(s)) for _, t, s, *_ in trajectories(parts, 22)]
    diffusion = parts.spec.diffusion
    assert levels[0] == pytest.approx((diffusion.sigma_max, diffusion.sigma_min))  # a preview's only jump
    assert len(levels) == 3 * (1 + 4)
    assert not list(exported_tiny_dir.glob("watched*"))


def test_bf16_is_refused_where_the_runtime_cannot_multiply_it() -> None:
    check_precision(Precision.INT4)
    with pytest.raises(PrecisionError, match=r"no bf16 matrix product on its CPU provider.*Choose fp16"):
        check_precision(Precision.BF16)


def test_bf16_graphs_are_what_they_should_be(exported_tiny_dir: Path, tmp_path: Path) -> None:
    """For runtimes that multiply them; ONNX's own evaluator stands for one."""
    weights = np.linspace(-1, 1, 64 * 48, dtype=np.float32).reshape(64, 48)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in (("x", 64), ("y", 48))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "f.onnx")
    convert(tmp_path / "f.onnx", tmp_path / "b.onnx", Precision.BF16)
    x = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    (found,) = ReferenceEvaluator(str(tmp_path / "b.onnx")).run(None, {"x": x})
    assert 30 < snr_db(x @ weights, found) < 70  # 8 bits of mantissa


@pytest.mark.parametrize(("bits", "block"), [(8, 128), (4, 32), (4, 16)])
@pytest.mark.parametrize("shape", [(64, 48), (100, 33), (32, 32)])
def test_packed_weights_are_what_the_runtime_unpacks(bits: int, block: int, shape: tuple[int, int]) -> None:
    weights = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    small, (inputs, outputs) = packed(weights, bits, block), shape
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "m"]) for name in ("x", "y")]
    node = helper.make_node(
        "MatMulNBits", ["x", "steps", "scales", "zeros"], ["y"], domain="com.microsoft",
        K=inputs, N=outputs, bits=bits, block_size=block,
    )  # fmt: skip
    constants = [numpy_helper.from_array(getattr(small, name), name) for name in ("steps", "scales", "zeros")]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(
        helper.make_graph([node], "g", ports[:1], ports[1:], constants), opset_imports=opsets, ir_version=10
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), quiet_options(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"x": np.eye(inputs, dtype=np.float32)})
    assert snr_db(weights, found) > {8: 40, 4: 18}[bits]


def test_weights_beyond_two_gigabytes_lie_outside_the_graph_and_are_found_there(tmp_path: Path) -> None:
    """One protobuf holds 2 GB at most: graphs hold places in files, and places may be any."""
    path = tmp_path / "g.onnx"
    plan, far_bytes = doubling(path, "batch"), (1 << 31) + 4096
    model = onnx.load(str(path))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full(1024, 2, np.float32), "factor"))
    model.graph.node.extend([
        helper.make_node("ReduceMax", ["factor"], ["most"], keepdims=1),
        helper.make_node("Mul", ["x", "most"], ["y"]),
    ])  # fmt: skip
    del model.graph.node[0]
    onnx.save(model, str(path))
    save(ir.load(path), path)
    stored = onnx.load(str(path), load_external_data=False)
    (factor,) = stored.graph.initializer
    assert factor.data_location == TensorProto.EXTERNAL and not factor.raw_data
    with (tmp_path / data_file(path.name)).open("r+b") as file:  # a hole costs no room
        values = file.read()
        file.seek(far_bytes)
        file.write(values)
    next(entry for entry in factor.external_data if entry.key == "offset").value = str(far_bytes)
    path.write_bytes(stored.SerializeToString())
    check_file(plan, path)
    assert measured_snr_db(plan, path, [1]) == 160


def test_no_graph_holds_weights_itself(exported_tiny_dir: Path) -> None:
    for path in exported_tiny_dir.glob("*.onnx"):
        held = [t for t in onnx.load(str(path), load_external_data=False).graph.initializer if t.raw_data]
        assert all(len(tensor.raw_data) <= 256 for tensor in held), path.name


def official_parts(parts: Parts, tokenizer_json: Path) -> Parts:
    """The official layout: one text token from CLAP, levels in a prepended token, one network for t and for s."""
    sizes = {"vocab_size": 16, "hidden": 32, "layers": 1, "heads": 2, "intermediate": 32, "positions": 80}
    dit = DiTSpec(io_channels=4, embed_dim=64, depth=1, num_heads=2, cond_dim=64)
    text = TextSpec(TextKind.CLAP, 64, 1, {**sizes, "projection": True})
    spec = dataclasses.replace(parts.spec, network=dit, text=text)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DiT(dit).eval().requires_grad_(False)
        for parameter in network.parameters():  # zero-initialised branches would say nothing
            torch.nn.init.normal_(parameter, std=0.15)
        tensors = ClapNetwork(roberta_spec(**sizes), 64).state_dict()
    return Parts(spec, network, parts.codec, ClapText(text, tensors, tokenizer_json))


def test_the_official_layout_has_graphs(parts: Parts, tiniest_bundle_dir: Path, tmp_path: Path) -> None:
    official = official_parts(parts, tiniest_bundle_dir / "tokenizer.json")
    for role, inputs in ((Role.TEXT, ["ids", "mask"]), (Role.JUMP, ["z", "t", "s", "omega", "constant"])):
        plan, path = plan_of(official, role), tmp_path / f"{role.value}.onnx"
        assert [port.name for port in plan.inputs] == inputs
        write_graph(plan, path, 20)
        check_file(plan, path)
        assert measured_snr_db(plan, path, [22, 31]) >= tolerance_db(role, Precision.FP32)
    (tmp_path / "int8").mkdir()
    convert(tmp_path / "jump.onnx", tmp_path / "int8" / "jump.onnx", Precision.INT8)
    assert measured_snr_db(plan, tmp_path / "int8" / "jump.onnx", [22]) >= tolerance_db(Role.JUMP, Precision.INT8)


def small_mel() -> WhitenedMelCodec:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = WhitenedMelCodec(4, slow_dim=8, slow_blocks=1, fast_dim=8, fast_blocks=1).eval()
        for name, tensor in codec.named_buffers():
            if "whitening" in name:
                tensor.normal_()
    return codec.requires_grad_(False)


def test_the_mel_decoder_in_tiles_is_pytorchs(parts: Parts, exported_tiny_dir: Path, tmp_path: Path) -> None:
    codec, bundle = small_mel(), open_bundle(exported_tiny_dir)
    mel_parts = dataclasses.replace(parts, codec=codec)
    plan, path = plan_of(mel_parts, Role.DECODER), tmp_path / "decoder.onnx"
    write_graph(plan, path, 20)
    assert measured_snr_db(plan, path, [22]) >= tolerance_db(Role.DECODER, Precision.FP32)
    exports = read_exports(bundle)
    assert exports is not None
    graphs = {role: open_graph(exports, role, Provider.CPU, 1, False) for role in REQUIRED}
    record = GraphRecord(Role.DECODER, path.name, "fp32", 20, 0, 0)
    own = dataclasses.replace(exports, folder=tmp_path, graphs={Role.DECODER: record}, tiling=tiling(mel_parts))
    graphs[Role.DECODER] = open_graph(own, Role.DECODER, Provider.CPU, 1, False)
    tokenize = parts.text.tokenize
    engine = OnnxEngine(bundle.spec, bundle.digest, own, graphs, tokenize)
    torch_engine = TorchEngine(bundle.spec, bundle.digest, parts.network, codec, parts.text, torch.device("cpu"))

    latents = torch.randn(2, 4, 250, generator=torch.Generator().manual_seed(0)) / 2
    assert engine.decode_tiles(250) == torch_engine.decode_tiles(250) == 3
    carries, torch_carries = [None, None], [None, None]
    for index in range(3):
        found, carries = engine.decode_tile(latents.numpy(), [1, 2], index, carries)
        expected, torch_carries = torch_engine.decode_tile(latents, [1, 2], index, torch_carries)
        assert found.shape == expected.shape
        assert snr_db(expected, found) > 50  # rounding in the seventh digit can send a bin to another peak
    assert snr_db(torch_engine.decode(latents, [1, 2]), engine.decode(latents.numpy(), [1, 2])) > 50


def test_the_mel_encoder_is_real_arithmetic(parts: Parts) -> None:
    plan = plan_of(dataclasses.replace(parts, codec=small_mel()), Role.ENCODER)
    with torch.inference_mode():
        inputs = plan.inputs_for(3, 22)
        (expected,), found = plan.reference(inputs), plan.module(*inputs)
    assert snr_db(expected.numpy(), found.numpy()) > tolerance_db(Role.ENCODER, Precision.FP32)


def doubling(path: Path, rows: int | str, factor: float = 2.0) -> GraphPlan:
    """A graph that was to double a vector, as somebody might have written it."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows]) for name in ("x", "y")]
    value = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "factor"], ["y"])], "g", ports[:1], ports[1:], [value])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return GraphPlan(
        Role.JUMP, torch.nn.Identity(), (Port("x", {0: "batch"}),), (Port("y", {0: "batch"}),),
        lambda rows, frames: (torch.arange(rows) + 1.0,), lambda inputs: (2 * inputs[0],),
    )  # fmt: skip


def test_a_batch_that_the_exporter_baked_in_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    plan = doubling(path, 2)
    with pytest.raises(BakedShapeError, match="holds the batch of 'x' as the constant 2"):
        refuse_baked(plan, path)
    with pytest.raises(BakedShapeError, match="does not run 1 rows"):
        measured_snr_db(plan, path, [1])


def test_what_a_graph_says_is_compared_by_value_name_and_shape(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    plan = doubling(path, "batch")
    refuse_baked(plan, path)
    assert measured_snr_db(plan, path, [1]) == 160
    assert measured_snr_db(doubling(path, "batch", factor=2.19), path, [1]) == 20
    with pytest.raises(ParityError, match="all finite"):
        measured_snr_db(doubling(path, "batch", factor=float("inf")), path, [1])
    plan = doubling(path, "batch")
    with pytest.raises(ParityError, match="'z'"):
        measured_snr_db(dataclasses.replace(plan, outputs=(Port("z", {}),)), path, [1])
    with pytest.raises(ParityError, match=r"float32\[1\]"):
        measured_snr_db(dataclasses.replace(plan, reference=lambda inputs: (inputs[0][None],)), path, [1])


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    plan = doubling(path, "batch")
    model = onnx.load(str(path))
    model.graph.node[0].input[0] = "nowhere"
    onnx.save(model, str(path))
    with pytest.raises(ParityError, match="not valid ONNX"):
        check_file(plan, path)


def test_equal_arrays_have_the_highest_ratio() -> None:
    ones = np.ones(4, np.float32)
    assert snr_db(ones, ones) == 160
    assert snr_db(ones, ones * np.float32(1.1)) == pytest.approx(20, abs=0.01)
