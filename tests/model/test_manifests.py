"""The full-size published files fit our networks, key by key: shown on the meta device from their key lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from soundctm.checkpoints import official
from soundctm.checkpoints.official import Variant
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.weight_norm import fold_weight_norm
from soundctm.networks.dit import DiT
from soundctm.networks.loading import check_fit, load_into
from soundctm.text.clap import ClapNetwork, roberta_spec

MANIFESTS = Path(__file__).parents[1] / "golden" / "dit" / "manifests"


def manifest(name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    data = json.loads((MANIFESTS / f"{name}.json").read_text())
    tensors = {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for key, shape, dtype, _ in data["keys"]
    }
    return tensors, data["meta"]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("role", ["student", "teacher"])
def test_every_key_of_the_published_network_finds_its_place(version: str, role: str) -> None:
    tensors, meta = manifest(f"dit_{version}_{role}")
    assert all(name.startswith(official.DIT_PREFIX) for name in tensors)
    network, left_out = official.leave_out(
        official.without_prefix(tensors, official.DIT_PREFIX), official.UNUSED_DIT
    )
    assert left_out == ({"to_global_embed.": 2} if role == "teacher" else {})
    config = meta["config"]
    spec = official.dit_spec(network, config["num_heads"])
    assert (spec.io_channels, spec.embed_dim, spec.depth, spec.cond_dim) == (
        config["io_channels"], config["embed_dim"], config["depth"], config["cond_token_dim"],
    )  # fmt: skip
    module = load_into(lambda: DiT(spec), network, version)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    dead = sum(tensor.numel() for name, tensor in tensors.items() if "to_global_embed" in name)
    assert parameters + dead == meta["n_parameters"]


@pytest.mark.parametrize(
    "name", ["gaussiandac_paper_4488", "gaussiandac_class_default_2488", "gaussiandac_paper_4488_plain"]
)
def test_every_key_of_the_published_codec_finds_its_place(name: str) -> None:
    tensors, meta = manifest(name)
    options = {key: value for key, value in meta["kwargs"].items() if key not in ("sample_rate", "double_z")}
    statistics = {key: torch.empty(options["latent_dim"], device="meta") for key in ("z_mean", "z_std")}
    codec = load_into(lambda: GaussianDAC(**options), fold_weight_norm(tensors) | statistics, name)
    assert codec.hop_samples == meta.get("hop", 1024)


@pytest.mark.parametrize("name", ["clap_text_branch", "clap_all"])
@pytest.mark.parametrize("variant", list(Variant))
def test_every_key_of_the_published_text_encoder_finds_its_place(name: str, variant: Variant) -> None:
    tensors, _ = manifest(name)
    cond_dim = {Variant.V1: 512, Variant.V2: 768}[variant]
    assert official.find_variant(cond_dim, tensors, None) is variant
    options = official.text_options(tensors, 12, variant)
    projects = options.pop("projection")
    unused = official.UNUSED_TEXT if projects else (*official.UNUSED_TEXT, official.PROJECTION)
    text, left_out = official.leave_out(tensors, unused)
    network = load_into(lambda: ClapNetwork(roberta_spec(**options), 512 if projects else None), text, name)
    assert len(text) + sum(left_out.values()) == len(tensors)
    check_fit(network, text, name)
    assert (options["layers"], options["hidden"], options["vocab_size"], options["positions"]) == (12, 768, 50265, 514)
