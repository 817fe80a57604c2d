"""Loading uses the stored tensors themselves, and says exactly what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from soundctm.errors import BundleError, TensorMismatchError
from soundctm.networks.dit import DiT
from soundctm.networks.loading import load_into, read_tensors
from soundctm.spec import DiTSpec

SPEC = DiTSpec(io_channels=2, embed_dim=64, depth=1, num_heads=2, cond_dim=64)


def test_no_second_copy_is_made(tmp_path: Path) -> None:
    save_file(DiT(SPEC).state_dict(), tmp_path / "network.safetensors")
    tensors = read_tensors(tmp_path / "network.safetensors")
    module = load_into(lambda: DiT(SPEC), tensors, "network")
    assert all(value.data_ptr() == tensors[name].data_ptr() for name, value in module.state_dict().items())
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_nothing_is_initialised_at_random_first() -> None:
    before = torch.random.get_rng_state()
    load_into(lambda: DiT(SPEC), {name: torch.zeros(t.shape) for name, t in _meta_state().items()}, "network")
    assert torch.equal(torch.random.get_rng_state(), before)


def _meta_state() -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return dict(DiT(SPEC).state_dict())


def test_stored_half_precision_is_widened(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2).half(), "b": torch.ones(2, dtype=torch.int8)}, tmp_path / "x.safetensors")
    tensors = read_tensors(tmp_path / "x.safetensors")
    assert tensors["a"].dtype is torch.float32 and tensors["b"].dtype is torch.int8


def test_what_does_not_fit_is_named() -> None:
    tensors = _meta_state()
    tensors["stranger"] = tensors.pop("preprocess_conv.weight")
    tensors["postprocess_conv.weight"] = torch.zeros(1)
    with pytest.raises(TensorMismatchError, match="network") as caught:
        load_into(lambda: DiT(SPEC), tensors, "network")
    assert caught.value.missing == ("preprocess_conv.weight",)
    assert caught.value.unexpected == ("stranger",)
    assert caught.value.shapes == ("postprocess_conv.weight [1] instead of [2, 2, 1]",)


def test_a_file_that_is_no_safetensors_is_named(tmp_path: Path) -> None:
    (tmp_path / "network.safetensors").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"network\.safetensors"):
        read_tensors(tmp_path / "network.safetensors")
