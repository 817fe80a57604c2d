"""The folder's networks, loaded as a bundle's would be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parity.golden import Golden
from soundctm.checkpoints import official
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.weight_norm import fold_weight_norm
from soundctm.networks.dit import DiT
from soundctm.networks.loading import load_into
from soundctm.spec import DiffusionSpec, DiTSpec
from soundctm.text.clap import ClapNetwork, roberta_spec

_DAC_SIZES = ("encoder_dim", "encoder_rates", "latent_dim", "decoder_dim", "decoder_rates")


def dit_spec(config: Mapping[str, Any]) -> DiTSpec:
    """Of the official options only the sizes matter; one with an effect would show in the tensors. Raises KeyError."""
    return DiTSpec(
        io_channels=config["io_channels"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        cond_dim=config["cond_token_dim"],
    )


def student(golden: Golden, version: str) -> DiT:
    file = golden.file(f"{version}/student")
    return _dit(file.read_all(), _dit_config(golden, version, file.meta), file.name)


def teacher(golden: Golden, version: str) -> DiT:
    """The teacher's own tensors, or those of the file that teacher.json names."""
    if golden.has(f"{version}/teacher"):
        file = golden.file(f"{version}/teacher")
    else:
        named = golden.json(f"{version}/teacher")["teacher_weights"]
        file = golden.file(f"{version}/{named.removesuffix('.safetensors')}")
    return _dit(file.read_all(), _dit_config(golden, version, file.meta), file.name)


def _dit_config(golden: Golden, version: str, meta: Mapping[str, Any]) -> Mapping[str, Any]:
    config: Mapping[str, Any] = meta["dit_config"] if "dit_config" in meta else golden.settings["dit"][version]
    return config


def _dit(tensors: dict[str, Tensor], config: Mapping[str, Any], where: str) -> DiT:
    spec = dit_spec(config)
    named = {name.removeprefix(official.DIT_PREFIX): tensor for name, tensor in tensors.items()}
    kept, _ = official.leave_out(named, official.UNUSED_DIT)
    return load_into(lambda: DiT(spec), kept, where)


def codec(options: Mapping[str, Any], tensors: Mapping[str, Tensor], z_stats: Mapping[str, Tensor]) -> GaussianDAC:
    """From plain or weight-normalised tensors. Raises TensorMismatchError or KeyError."""
    sizes = {name: options[name] for name in _DAC_SIZES}
    return load_into(lambda: GaussianDAC(**sizes), fold_weight_norm(tensors) | dict(z_stats), "vae")


def clap(golden: Golden, projects: bool) -> ClapNetwork:
    """CLAP's text branch; `projects`: with the projection (v1) or without it (v2)."""
    weights, meta = golden.file("text/weights").read_all(), golden.file("text/cases").meta
    config, sizes = meta.get("roberta_config", {}), golden.settings.get("text", {})
    heads = config["num_attention_heads"] if "num_attention_heads" in config else sizes["heads"]
    variant = official.Variant.V1 if projects else official.Variant.V2
    options = official.text_options(weights, heads, variant)
    options |= {"norm_eps": config["layer_norm_eps"]} if "layer_norm_eps" in config else {}
    projection_dim = weights[f"{official.PROJECTION}2.weight"].shape[0] if options.pop("projection") else None
    unused = official.UNUSED_TEXT if projects else (*official.UNUSED_TEXT, official.PROJECTION)
    kept, _ = official.leave_out(weights, unused)
    return load_into(lambda: ClapNetwork(roberta_spec(**options), projection_dim), kept, "text/weights")


def diffusion(golden: Golden, *own: Mapping[str, Any]) -> DiffusionSpec:
    names = ("sigma_data", "sigma_min", "sigma_max", "rho")
    return DiffusionSpec(**{name: float(golden.setting(name, *own)) for name in names})


def levels(values: Tensor | float, rows: int) -> Tensor:
    """One float32 per row."""
    return torch.as_tensor(values, dtype=torch.float32).expand(rows)
