"""The official layout at other sizes than the golden data's, against a plain float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from soundctm.networks.dit import DiT, TextContext
from soundctm.spec import DiTSpec

Array = NDArray[Any]

SIZES = {
    "rotary over 64 of 128 dims": DiTSpec(io_channels=3, embed_dim=256, depth=1, num_heads=2, cond_dim=128),
    "rotary over the whole head, 3 queries a key": DiTSpec(5, embed_dim=192, depth=3, num_heads=6, cond_dim=64),
    "as many keys as queries": DiTSpec(io_channels=2, embed_dim=192, depth=2, num_heads=3, cond_dim=192),
}
# float32 against float64 through a few layers; the sinusoid of 1000 omega alone is off by up to 4e-4
TOLERANCE = 2e-4


def _silu(x: Array) -> Array:
    return np.asarray(x / (1 + np.exp(-x)))


def _norm(x: Array, gamma: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma)


def _attend(q: Array, k: Array, v: Array, mask: NDArray[np.bool_] | None) -> Array:
    """[heads, N, d], [heads, L, d] -> [N, heads * d]."""
    scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask[None, None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    out = (weights / weights.sum(-1, keepdims=True)) @ v
    return np.concatenate(list(out), axis=-1)


def _split(x: Array, head_dim: int) -> Array:
    return np.stack([x[:, i : i + head_dim] for i in range(0, x.shape[1], head_dim)])


def _rotate(x: Array, dims: int) -> Array:
    half = dims // 2
    angle = np.arange(x.shape[1])[:, None] * 10000.0 ** (-np.arange(half) / half)
    a, b, rest = x[..., :half], x[..., half:dims], x[..., dims:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle), rest], -1)


def reference(
    w: dict[str, Array], spec: DiTSpec, x: Array, t: float, s: float, omega: float, text: Array, mask: NDArray[np.bool_]
) -> Array:
    """F for one row: x [C, T], text [L, D]."""

    def time(level: float) -> Array:
        angle = 2 * np.pi * np.log(level) / 4 * w["timestep_features.weight"][:, 0]
        hidden = np.concatenate([np.cos(angle), np.sin(angle)]) @ w["to_timestep_embed.0.weight"].T
        hidden = _silu(hidden + w["to_timestep_embed.0.bias"])
        return hidden @ w["to_timestep_embed.2.weight"].T + w["to_timestep_embed.2.bias"]

    half, head = spec.embed_dim // 2, spec.embed_dim // spec.num_heads
    angle = 1000 * omega * np.exp(-np.arange(half) * np.log(1e4) / (half - 1))
    token = time(t) + time(s) + np.concatenate([np.sin(angle), np.cos(angle)])
    y = x + w["preprocess_conv.weight"][:, :, 0] @ x
    h = np.concatenate([token[None], y.T @ w["transformer.project_in.weight"].T])
    context = _silu(text @ w["to_cond_embed.0.weight"].T) @ w["to_cond_embed.2.weight"].T
    for i in range(spec.depth):
        p = {name.removeprefix(f"transformer.layers.{i}."): value for name, value in w.items()}
        q, k, v = np.split(_norm(h, p["pre_norm.gamma"]) @ p["self_attn.to_qkv.weight"].T, 3, axis=1)
        q, k = (_rotate(_split(part, head), max(head // 2, 32)) for part in (q, k))
        h = h + _attend(q, k, _split(v, head), None) @ p["self_attn.to_out.weight"].T
        q = _split(_norm(h, p["cross_attend_norm.gamma"]) @ p["cross_attn.to_q.weight"].T, head)
        k, v = (_split(part, head) for part in np.split(context @ p["cross_attn.to_kv.weight"].T, 2, axis=1))
        k, v = (np.repeat(part, len(q) // len(part), axis=0) for part in (k, v))
        h = h + _attend(q, k, v, mask) @ p["cross_attn.to_out.weight"].T
        value, gate = np.split(
            _norm(h, p["ff_norm.gamma"]) @ p["ff.ff.0.proj.weight"].T + p["ff.ff.0.proj.bias"], 2, axis=1
        )
        h = h + (value * _silu(gate)) @ p["ff.ff.2.weight"].T + p["ff.ff.2.bias"]
    out = (h[1:] @ w["transformer.project_out.weight"].T).T
    return np.asarray(out + w["postprocess_conv.weight"][:, :, 0] @ out)


def _random_network(spec: DiTSpec) -> DiT:
    torch.manual_seed(spec.embed_dim + spec.num_heads)
    network = DiT(spec).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if not name.endswith("gamma"):  # gain near 1 per layer, so that every part is heard in the output
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
            torch.nn.init.normal_(parameter, std=1.0 if "timestep_features" in name else fan_in**-0.5)
    return network


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("spec", SIZES.values(), ids=SIZES.keys())
def test_raw_output_equals_the_reference(spec: DiTSpec, tokens: int) -> None:
    network = _random_network(spec)
    rows, frames = 3, 7
    x, text = torch.randn(rows, spec.io_channels, frames), torch.randn(rows, tokens, spec.cond_dim)
    mask = torch.arange(tokens)[None] < torch.tensor([1, tokens, max(1, tokens - 1)])[:, None]
    t, s, omega = torch.tensor([80.0, 1.0, 0.01]), torch.tensor([2.0, 0.002, 0.01]), torch.tensor([1.0, 3.5, 5.0])
    found = network(x, t.log() / 4, s.log() / 4, omega, network.encode_context(text, mask))
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    for row in range(rows):
        expected = reference(
            weights, spec, x[row].double().numpy(), float(t[row]), float(s[row]), float(omega[row]),
            text[row].double().numpy(), mask[row].numpy(),
        )  # fmt: skip
        assert np.abs(found[row].numpy() - expected).max() <= TOLERANCE * max(1.0, np.abs(expected).max())


def test_one_token_is_a_constant_vector_and_equals_attention() -> None:
    spec = SIZES["rotary over the whole head, 3 queries a key"]
    network = _random_network(spec)
    text = torch.randn(2, 1, spec.cond_dim)
    constant, general = network.encode_context(text), network.encode_context(text, general=True)
    assert constant.keys is None and general.constant is None
    x, level = torch.randn(2, spec.io_channels, 5), torch.zeros(2)
    outputs = [network(x, level, level, level + 2, context) for context in (constant, general)]
    # attention over one key: softmax is 1 exactly, the products are summed in another order
    assert (outputs[0] - outputs[1]).abs().max() <= 1e-5 * max(1.0, float(outputs[1].abs().max()))


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    spec = SIZES["as many keys as queries"]
    network = _random_network(spec)
    text, x = torch.randn(4, 3, spec.cond_dim), torch.randn(4, spec.io_channels, 6)
    level, omega = torch.linspace(-1, 1, 4), torch.linspace(2, 5, 4)
    together = network(x, level, level - 1, omega, network.encode_context(text))
    contexts = [network.encode_context(text[row : row + 1]) for row in range(4)]
    again = network(x, level, level - 1, omega, TextContext.cat(contexts))
    parts = zip(x.split(1), level.split(1), (level - 1).split(1), omega.split(1), contexts, strict=True)
    alone = [network(*part) for part in parts]
    scale = 1e-5 * max(1.0, float(together.abs().max()))
    assert (together - again).abs().max() <= scale
    assert (together - torch.cat(alone)).abs().max() <= scale
