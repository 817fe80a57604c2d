"""The transformer encoder that BERT (MiniLM) and RoBERTa (CLAP's text branch) share.

Written here because importing the Hugging Face model code costs seconds of the daemon's cold start. Attribute names
follow the published checkpoint keys, so that loading needs no table. Post-norm layers, learned absolute positions,
exact GELU (Devlin et al. 2019; Liu et al. 2019).

Shapes: B prompts, L positions, H = hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class EncoderSpec:
    """Sizes of the encoder. RoBERTa counts positions from `pad_id` + 1 over real tokens; BERT counts from 0."""

    vocab_size: int
    hidden: int
    layers: int
    heads: int
    intermediate: int
    positions: int
    token_types: int
    norm_eps: float
    pad_id: int
    positions_after_pad: bool
    pooler: bool


class _Embeddings(nn.Module):
    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.word_embeddings = nn.Embedding(spec.vocab_size, spec.hidden)
        self.position_embeddings = nn.Embedding(spec.positions, spec.hidden)
        self.token_type_embeddings = nn.Embedding(spec.token_types, spec.hidden)
        self.LayerNorm = nn.LayerNorm(spec.hidden, eps=spec.norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        if self.spec.positions_after_pad:
            real = (ids != self.spec.pad_id).long()
            positions = real.cumsum(dim=1) * real + self.spec.pad_id
        else:
            positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        embedded = self.word_embeddings(ids) + self.position_embeddings(positions)
        return self.LayerNorm(embedded + self.token_type_embeddings.weight[0])  # type: ignore[no-any-return]


class _Projections(nn.Module):
    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.query, self.key, self.value = (nn.Linear(spec.hidden, spec.hidden) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, L, H], mask [B, 1, 1, L] -> attended values [B, L, H]."""
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class _Output(nn.Module):
    """LN(dense(x) + residual)."""

    def __init__(self, inputs: int, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, spec.hidden)
        self.LayerNorm = nn.LayerNorm(spec.hidden, eps=spec.norm_eps)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.self = _Projections(spec)
        self.output = _Output(spec.hidden, spec)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.output(self.self(x, mask), x)  # type: ignore[no-any-return]


class _Intermediate(nn.Module):
    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.hidden, spec.intermediate)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.dense(x))


class _Layer(nn.Module):
    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.attention = _Attention(spec)
        self.intermediate = _Intermediate(spec)
        self.output = _Output(spec.intermediate, spec)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)  # type: ignore[no-any-return]


class _Stack(nn.Module):
    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(spec) for _ in range(spec.layers))


class _Pooler(nn.Module):
    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.dense = nn.Linear(spec.hidden, spec.hidden)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.dense(hidden[:, 0]).tanh()  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Token ids [B, L] and mask [B, L] (True = real) -> last hidden states [B, L, H]."""

    def __init__(self, spec: EncoderSpec) -> None:
        super().__init__()
        self.embeddings = _Embeddings(spec)
        self.encoder = _Stack(spec)
        self.pooler = _Pooler(spec) if spec.pooler else None

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden: Tensor = self.embeddings(ids)
        for layer in self.encoder.layer:
            hidden = layer(hidden, mask[:, None, None, :])
        return hidden

    def pool(self, hidden: Tensor) -> Tensor:
        """tanh(dense(first token)): [B, L, H] -> [B, H]. Raises ValueError when the spec has no pooler."""
        if self.pooler is None:
            raise ValueError("this encoder was built without a pooler (EncoderSpec.pooler is False)")
        return self.pooler(hidden)  # type: ignore[no-any-return]
