"""The transformer's layers for inference: bfloat16 or 8-bit products around a residual, norms and levels in float32.

Made from the float32 layers of a loaded network, whose other parts stay as they are: what is told of t, s and omega,
what a prompt adds where the text is one token, and the way in and out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.networks.dit import NORM_EPS, DiT, Layer, LayerNorm, TextContext, split_heads
from soundctm.networks.kernels import KernelSet
from soundctm.networks.products import ByteGate, ExactProduct, HalfGate, HalfProduct
from soundctm.spec import DiTSpec

MakeProduct = Callable[[nn.Linear, bool, KernelSet], nn.Module]


@dataclass(frozen=True)
class Products:
    """Which product each matrix of a layer becomes; the widening one comes with its gate."""

    qkv: MakeProduct = HalfProduct
    out: MakeProduct = ExactProduct
    widen: MakeProduct = HalfGate
    narrow: MakeProduct = HalfProduct


# What comes out of attention is a mean, small beside the values that it was made of: its product in float32 is a
# sixteenth of the operations and leaves 1 dB more.
HALF = Products()
# 8 bits in half of the operations, whose inputs are normed. Queries and keys would take 2 dB more, and the inner state
# of the feed-forward, which has outliers, 5.
BYTES = Products(widen=ByteGate)


class HalfLayer(nn.Module):
    """Like `Layer`, with the same call."""

    def __init__(
        self, layer: Layer, spec: DiTSpec, products: Products, kernels: KernelSet, packed: bool, attends: bool
    ) -> None:
        super().__init__()
        self.head_dim, self.qk_norm, self.kernels = spec.embed_dim // spec.num_heads, spec.qk_norm, kernels
        self.pre_norm, self.ff_norm = layer.pre_norm, layer.ff_norm
        self.modulation = layer.modulation
        self.attend = attended_by_products if packed else functional.scaled_dot_product_attention
        self.qkv = products.qkv(layer.self_attn.to_qkv, packed, kernels)
        self.out = products.out(layer.self_attn.to_out, packed, kernels)
        self.widen = products.widen(layer.ff.ff[0].proj, packed, kernels)  # type: ignore[arg-type]
        self.narrow = products.narrow(layer.ff.ff[2], packed, kernels)  # type: ignore[arg-type]
        self.cross_attn = layer.cross_attn  # in float32: prompts are prepared with it
        self.cross_attend_norm = layer.cross_attend_norm
        if attends:
            self.ask = HalfProduct(layer.cross_attn.to_q, packed)
            self.tell = HalfProduct(layer.cross_attn.to_out, packed)

    def forward(self, x: Tensor, angles: Tensor, context: TextContext, index: int, level: Tensor | None) -> Tensor:
        """x float32 [B, N, E] -> [B, N, E]; see `Layer`."""
        if self.modulation is None:
            x = x + self._attended(self._normed(self.pre_norm, x), angles)
            x = x + self._cross(x, context, index)
            return x + self._fed(self._normed(self.ff_norm, x))
        assert level is not None
        parts = self.modulation(functional.silu(level))[:, None].chunk(6, dim=-1)  # 6 x [B, 1, E]
        scale_attn, shift_attn, gate_attn, scale_ff, shift_ff, gate_ff = parts
        attended = self._attended(self._modulated(self.pre_norm, x, scale_attn, shift_attn), angles)
        x = torch.addcmul(x, gate_attn, attended)
        x = x + self._cross(x, context, index)
        fed = self._fed(self._modulated(self.ff_norm, x, scale_ff, shift_ff))
        return torch.addcmul(x, gate_ff, fed)

    def _normed(self, norm: LayerNorm, x: Tensor) -> Tensor:
        normed: Tensor = self.kernels.current.normed(x.flatten(0, 1), norm.gamma, norm.beta, NORM_EPS)
        return normed.view(x.shape)

    def _modulated(self, norm: LayerNorm, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return self.kernels.current.modulated(x, norm.gamma, norm.beta, NORM_EPS, scale, shift)  # type: ignore[no-any-return]

    def _attended(self, x: Tensor, angles: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch * length, 3, -1, self.head_dim).unbind(1)  # each [rows, heads, head_dim]
        if self.qk_norm:
            q, k = (functional.rms_norm(part, (self.head_dim,), eps=NORM_EPS) for part in (q, k))
        cosine, sine = (turn.repeat(batch, 1)[:, None] for turn in (angles.cos(), angles.sin()))
        q, k = (self.kernels.current.turned(part, cosine, sine) for part in (q, k))
        q, k, v = (part.reshape(batch, length, -1, self.head_dim).transpose(1, 2) for part in (q, k, v))
        out = self.attend(q, k, v)
        return self.out(out.transpose(1, 2).flatten(2)).float()  # type: ignore[no-any-return]

    def _fed(self, x: Tensor) -> Tensor:
        return self.narrow(self.widen(x)).float()  # type: ignore[no-any-return]

    def _cross(self, x: Tensor, context: TextContext, index: int) -> Tensor:
        if context.constant is not None:
            return context.constant[:, index, None]
        assert context.keys is not None and context.values is not None
        q = split_heads(self.ask(self._normed(self.cross_attend_norm, x)), self.head_dim)
        if self.qk_norm:
            q = functional.rms_norm(q, (self.head_dim,), eps=NORM_EPS)
        k, v = (
            part[:, index].to(q.dtype).repeat_interleave(self.cross_attn.repeats, dim=1)
            for part in (context.keys, context.values)
        )
        mask = None if context.mask is None else context.mask[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.tell(out.transpose(1, 2).flatten(2)).float()  # type: ignore[no-any-return]


def attended_by_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v of [B, H, N, D] in bfloat16, each product whole: half the time of PyTorch's fused
    attention on a CPU, which multiplies bfloat16 no faster than float32. The weights [B, H, N, N] take memory."""
    weights: Tensor = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
    return weights @ v


def halve(network: DiT, products: Products, kernels: KernelSet, packed: bool, attends: bool) -> DiT:
    """The network with its layers made anew, one at a time; the float32 ones are dropped.

    `packed`: for this CPU. `attends`: prompts have several tokens; what adds one token is prepared with the prompt.
    """
    layers = network.transformer.layers
    for index, layer in enumerate(network.transformer.blocks()):
        layers[index] = HalfLayer(layer, network.spec, products, kernels, packed, attends)
    return network
