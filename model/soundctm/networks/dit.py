"""The diffusion transformer: the official SoundCTM-DiT layout and the starter's, from one configurable class.

Official layout (`Conditioning.PREPENDED_TOKEN`): t, s and omega travel in one token before the sequence.
Starter layout (`Conditioning.ADAPTIVE_NORM`): they scale, shift and gate every layer (adaLN-zero, Peebles & Xie 2023).
Attribute names follow the official checkpoint keys, so that conversion is a prefix and not a table.

Shapes: x [B, C, T]; N = tokens of the sequence; L = text tokens; E = embed_dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.networks.recall import MEMORY, PHRASES, likeness, recalled
from soundctm.spec import Conditioning, DiTSpec
from soundctm.text.pooling import sentence_embedding

_OMEGA_SCALE = 1000.0
_FOURIER_FREQUENCIES = 128
_ROTARY_BASE = 10000.0
NORM_EPS = 1e-5


@dataclass(frozen=True)
class TextContext:
    """What the layers need of a prompt, computed once per prompt and reused by every jump.

    With one text token, softmax over one key is 1 and cross-attention is the vector `constant` [B, depth, E].
    With several it needs `keys` and `values` [B, depth, kv_heads, L, head_dim] and `mask` [B, L] (True = keep).
    `pooled` [B, E] is the text's share of the conditioning vector.
    """

    constant: Tensor | None = None
    keys: Tensor | None = None
    values: Tensor | None = None
    mask: Tensor | None = None
    pooled: Tensor | None = None

    def fields(self) -> dict[str, Tensor]:
        return {name: value for name, value in vars(self).items() if value is not None}

    def expand(self, rows: int) -> TextContext:
        """One row as `rows` rows; several stay as they are, and must be that many."""
        return TextContext(**{name: value.expand(rows, *value.shape[1:]) for name, value in self.fields().items()})

    @staticmethod
    def cat(contexts: list[TextContext]) -> TextContext:
        """Rows of several contexts of one network, in order. All must have the same L."""
        return TextContext(**{name: torch.cat([c.fields()[name] for c in contexts]) for name in contexts[0].fields()})


class LayerNorm(nn.Module):
    """gamma is learned; beta is a buffer of zeros that official checkpoints store."""

    beta: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.register_buffer("beta", torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.gamma, self.beta, NORM_EPS)


class FourierFeatures(nn.Module):
    """Learned random Fourier features [cos, sin](2 pi c w): [B] -> [B, 256]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(_FOURIER_FREQUENCIES, 1)))

    def forward(self, c: Tensor) -> Tensor:
        angle = 2 * math.pi * c[:, None] @ self.weight.T
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


def omega_embedding(omega: Tensor, dim: int) -> Tensor:
    """Fixed sinusoid [sin, cos] of 1000 omega: [B] -> [B, dim].

    The arguments reach 1e4 rad: build the frequencies with float32 torch operations, as the official code does,
    or the last digits differ.
    """
    half = dim // 2
    step = math.log(10000.0) / (half - 1)
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=omega.device) * -step)
    angle = (_OMEGA_SCALE * omega)[:, None] * frequencies[None]
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class RotaryEmbedding(nn.Module):
    inv_freq: Tensor

    def __init__(self, dims: int) -> None:
        super().__init__()
        # on the CPU even where modules are built on the meta device: arithmetic there imports torch._dynamo, 2 s
        exponents = torch.arange(0, dims, 2, device="cpu").float() / dims
        self.register_buffer("inv_freq", 1.0 / _ROTARY_BASE**exponents)

    def forward(self, length: int) -> Tensor:
        """Angles [N, dims]: two equal halves, position 0 first."""
        positions = torch.arange(length, dtype=torch.float32, device=self.inv_freq.device)
        angles = positions[:, None] * self.inv_freq[None]
        return torch.cat([angles, angles], dim=-1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotary positions on the first dims of every head, half-split pairing: x [B, heads, N, head_dim]."""
    dims = angles.shape[-1]
    turned, kept = x[..., :dims], x[..., dims:]
    first, second = turned.chunk(2, dim=-1)
    swapped = torch.cat([-second, first], dim=-1)
    return torch.cat([turned * angles.cos() + swapped * angles.sin(), kept], dim=-1)


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    batch, length, _ = x.shape
    return x.reshape(batch, length, -1, head_dim).transpose(1, 2)  # [B, N, E] -> [B, heads, N, head_dim]


class SelfAttention(nn.Module):
    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        self.head_dim = spec.embed_dim // spec.num_heads
        self.qk_norm = spec.qk_norm
        self.to_qkv = nn.Linear(spec.embed_dim, 3 * spec.embed_dim, bias=False)
        self.to_out = nn.Linear(spec.embed_dim, spec.embed_dim, bias=False)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.head_dim) for part in self.to_qkv(x).chunk(3, dim=-1))
        if self.qk_norm:
            q, k = (functional.rms_norm(part, (self.head_dim,), eps=NORM_EPS) for part in (q, k))
        out = functional.scaled_dot_product_attention(rotate(q, angles), rotate(k, angles), v)
        return self.to_out(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """kv heads = context_dim / head_dim; each is repeated consecutively for its share of the query heads."""

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        self.head_dim = spec.embed_dim // spec.num_heads
        context_dim = spec.context_dim or spec.cond_dim
        self.repeats = spec.num_heads // (context_dim // self.head_dim)
        self.qk_norm = spec.qk_norm
        self.to_q = nn.Linear(spec.embed_dim, spec.embed_dim, bias=False)
        self.to_kv = nn.Linear(context_dim, 2 * context_dim, bias=False)
        self.to_out = nn.Linear(spec.embed_dim, spec.embed_dim, bias=False)

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded text [B, L, D] -> keys and values [B, kv_heads, L, head_dim]."""
        k, v = (split_heads(part, self.head_dim) for part in self.to_kv(context).chunk(2, dim=-1))
        if self.qk_norm:
            k = functional.rms_norm(k, (self.head_dim,), eps=NORM_EPS)
        return k, v

    def constant(self, context: Tensor) -> Tensor:
        """What attention to a single text token [B, 1, D] adds at every position: [B, E]."""
        value = self.keys_values(context)[1].repeat_interleave(self.repeats, dim=1)  # [B, heads, 1, head_dim]
        return self.to_out(value.flatten(1))  # type: ignore[no-any-return]

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        q = split_heads(self.to_q(x), self.head_dim)
        if self.qk_norm:
            q = functional.rms_norm(q, (self.head_dim,), eps=NORM_EPS)
        k, v = (part.repeat_interleave(self.repeats, dim=1) for part in (keys, values))
        attention_mask = None if mask is None else mask[:, None, None, :].expand(-1, 1, x.shape[1], -1)
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)
        return self.to_out(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class GatedLinear(nn.Module):
    """value * SiLU(gate): the FIRST half of the projection is the value, the second the gate."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * functional.silu(gate)  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    def __init__(self, dim: int, mult: int) -> None:
        super().__init__()
        # index 1 is empty so that the keys are the official ff.0 and ff.2
        self.ff = nn.Sequential(GatedLinear(dim, mult * dim), nn.Identity(), nn.Linear(mult * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.ff(x)  # type: ignore[no-any-return]


class Layer(nn.Module):
    """x += selfattn(LN x); x += crossattn(LN x, text); x += FF(LN x). Adaptive norm modulates the first and last."""

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        self.pre_norm = LayerNorm(spec.embed_dim)
        self.self_attn = SelfAttention(spec)
        self.cross_attend_norm = LayerNorm(spec.embed_dim)
        self.cross_attn = CrossAttention(spec)
        self.ff_norm = LayerNorm(spec.embed_dim)
        self.ff = FeedForward(spec.embed_dim, spec.feed_forward_mult)
        self.modulation: nn.Linear | None = None
        if spec.conditioning is Conditioning.ADAPTIVE_NORM:
            self.modulation = nn.Linear(spec.embed_dim, 6 * spec.embed_dim)
            nn.init.zeros_(self.modulation.weight)
            nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, angles: Tensor, context: TextContext, index: int, level: Tensor | None) -> Tensor:
        """x [B, N, E] -> [B, N, E]. `index` picks this layer's part of the context; `level` [B, E] modulates."""
        if self.modulation is None:
            x = x + self.self_attn(self.pre_norm(x), angles)
            x = x + self._cross(x, context, index)
            return x + self.ff(self.ff_norm(x))  # type: ignore[no-any-return]
        assert level is not None
        parts = self.modulation(functional.silu(level))[:, None].chunk(6, dim=-1)  # 6 x [B, 1, E]
        scale_attn, shift_attn, gate_attn, scale_ff, shift_ff, gate_ff = parts
        x = x + gate_attn * self.self_attn(self.pre_norm(x) * (1 + scale_attn) + shift_attn, angles)
        x = x + self._cross(x, context, index)
        return x + gate_ff * self.ff(self.ff_norm(x) * (1 + scale_ff) + shift_ff)  # type: ignore[no-any-return]

    def _cross(self, x: Tensor, context: TextContext, index: int) -> Tensor:
        if context.constant is not None:
            return context.constant[:, index, None]
        assert context.keys is not None and context.values is not None
        keys, values = context.keys[:, index], context.values[:, index]
        return self.cross_attn(self.cross_attend_norm(x), keys, values, context.mask)  # type: ignore[no-any-return]


class Transformer(nn.Module):
    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        patch_channels = spec.io_channels * spec.patch_frames
        self.project_in = nn.Linear(patch_channels, spec.embed_dim, bias=False)
        self.project_out = nn.Linear(spec.embed_dim, patch_channels, bias=False)
        self.rotary_pos_emb = RotaryEmbedding(max(spec.embed_dim // spec.num_heads // 2, 32))
        self.layers = nn.ModuleList(Layer(spec) for _ in range(spec.depth))

    def blocks(self) -> list[Layer]:
        """The layers, typed."""
        return cast(list[Layer], list(self.layers))


def _mlp(inputs: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, dim), nn.SiLU(), nn.Linear(dim, dim))


def _sentence(tokens: Tensor, mask: Tensor | None) -> Tensor:
    kept = torch.ones(tokens.shape[:2], device=tokens.device) if mask is None else mask
    return sentence_embedding(tokens, kept)


class DiT(nn.Module):
    """F(x, t, s, omega, text). Student and teacher are one class: the teacher is called without s and omega."""

    def __init__(self, spec: DiTSpec) -> None:
        super().__init__()
        self.spec = spec
        self.adaptive = spec.conditioning is Conditioning.ADAPTIVE_NORM
        self.timestep_features = FourierFeatures()
        self.to_timestep_embed = _mlp(2 * _FOURIER_FREQUENCIES, spec.embed_dim)
        self.to_cond_embed = nn.Sequential(
            nn.Linear(spec.cond_dim, spec.cond_dim, bias=False),
            nn.SiLU(),
            nn.Linear(spec.cond_dim, spec.context_dim or spec.cond_dim, bias=False),
        )
        self.transformer = Transformer(spec)
        self.preprocess_conv = nn.Conv1d(spec.io_channels, spec.io_channels, 1, bias=False)
        self.postprocess_conv = nn.Conv1d(spec.io_channels, spec.io_channels, 1, bias=False)
        if self.adaptive:
            self.to_s_embed = _mlp(2 * _FOURIER_FREQUENCIES, spec.embed_dim)
            self.to_omega_embed = _mlp(spec.embed_dim, spec.embed_dim)
            self.final_norm = LayerNorm(spec.embed_dim)
            self.final_modulation = nn.Linear(spec.embed_dim, 2 * spec.embed_dim)
        if spec.pooled_text:
            self.to_pooled_embed = _mlp(spec.cond_dim, spec.embed_dim)
        self.text_memory: Tensor | None
        self.register_buffer(MEMORY, torch.zeros(spec.text_memory, spec.embed_dim) if spec.text_memory else None)
        self.text_phrases: Tensor | None
        self.register_buffer(PHRASES, torch.zeros(spec.text_memory, spec.cond_dim) if spec.text_phrases else None)
        self._zero_outputs()

    def _zero_outputs(self) -> None:
        """Official initialisation: residual branches start at zero. So do the starter's s and omega embeddings."""
        outputs: list[nn.Module] = [self.preprocess_conv, self.postprocess_conv]
        for layer in self.transformer.blocks():
            outputs += [layer.self_attn.to_out, layer.cross_attn.to_out, layer.ff.ff[2]]
        if self.adaptive:  # adaLN-zero gates do the zeroing of attention and feed-forward
            outputs = [self.preprocess_conv, self.postprocess_conv, self.transformer.project_out]
            outputs += [layer.cross_attn.to_out for layer in self.transformer.blocks()]
            outputs += [self.to_s_embed[2], self.to_omega_embed[2], self.final_modulation]
        for module in outputs:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)

    def encode_context(self, tokens: Tensor, mask: Tensor | None = None, *, general: bool = False) -> TextContext:
        """Text tokens [B, L, D] and mask [B, L] (True = keep; None = all) -> what the layers need of them.

        `general=True` keeps the attention path for a single token too (to test that both agree).
        """
        context = self.to_cond_embed(tokens)
        pooled = self.pooled(tokens, mask) if self.spec.pooled_text else None
        attentions = [layer.cross_attn for layer in self.transformer.blocks()]
        if tokens.shape[1] == 1 and not general:
            return TextContext(constant=torch.stack([a.constant(context) for a in attentions], dim=1), pooled=pooled)
        pairs = [a.keys_values(context) for a in attentions]
        keys, values = (torch.stack(parts, dim=1) for parts in zip(*pairs, strict=True))
        return TextContext(keys=keys, values=values, mask=mask, pooled=pooled)

    def pooled(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """A prompt's share of the conditioning vector, from the mean of its tokens: [B, L, D], [B, L] -> [B, E]."""
        sentence = _sentence(tokens, mask)
        vector = self._vector(sentence)
        if self.text_memory is None:
            return vector
        return recalled(likeness(vector, sentence, self.text_memory, self.text_phrases), self.text_memory)

    def prompt_vector(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """The same, before anything is recalled."""
        return self._vector(_sentence(tokens, mask))

    def _vector(self, sentence: Tensor) -> Tensor:
        vector: Tensor = self.to_pooled_embed(sentence * math.sqrt(self.spec.cond_dim))
        return vector

    def level_embedding(
        self, c_noise_t: Tensor, c_noise_s: Tensor | None, omega: Tensor | None, pooled: Tensor | None
    ) -> Tensor:
        """Everything that is not a sequence, in one vector [B, E]."""
        level = self.to_timestep_embed(self.timestep_features(c_noise_t))
        if c_noise_s is not None:
            embed_s = self.to_s_embed if self.adaptive else self.to_timestep_embed
            level = level + embed_s(self.timestep_features(c_noise_s))
        if omega is not None:
            raw = omega_embedding(omega, self.spec.embed_dim) if not self.adaptive else self._omega_features(omega)
            level = level + raw
        return level if pooled is None else level + pooled  # type: ignore[no-any-return]

    def _omega_features(self, omega: Tensor) -> Tensor:
        return self.to_omega_embed(omega_embedding(omega / _OMEGA_SCALE, self.spec.embed_dim))  # type: ignore[no-any-return]

    def embed(self, x: Tensor, level: Tensor) -> Tensor:
        """Latent [B, C, T] -> what the first layer gets [B, N, E]; N = T/patch, plus the prepended token if any."""
        x = x + self.preprocess_conv(x)
        batch, channels, frames = x.shape
        patches = x.reshape(batch, channels, frames // self.spec.patch_frames, self.spec.patch_frames)
        tokens = patches.permute(0, 2, 1, 3).flatten(2)  # [B, N, C * patch]
        hidden: Tensor = self.transformer.project_in(tokens)
        return hidden if self.adaptive else torch.cat([level[:, None], hidden], dim=1)

    def run_layers(self, hidden: Tensor, context: TextContext, level: Tensor) -> list[Tensor]:
        """Output of every layer in turn, each [B, N, E]."""
        angles = self.transformer.rotary_pos_emb(hidden.shape[1])
        outputs = []
        for index, layer in enumerate(self.transformer.blocks()):
            hidden = layer(hidden, angles, context, index, level)
            outputs.append(hidden)
        return outputs

    def run_layers_in_parallel(self, hidden: Tensor, context: TextContext, level: Tensor) -> list[Tensor]:
        """Every layer applied to the SAME input: what the official code calls the teacher's features."""
        angles = self.transformer.rotary_pos_emb(hidden.shape[1])
        return [layer(hidden, angles, context, i, level) for i, layer in enumerate(self.transformer.blocks())]

    def project(self, hidden: Tensor, level: Tensor) -> Tensor:
        """Last hidden state [B, N, E] -> raw output F [B, C, T]."""
        if self.adaptive:
            scale, shift = self.final_modulation(functional.silu(level))[:, None].chunk(2, dim=-1)
            hidden = self.final_norm(hidden) * (1 + scale) + shift
        else:
            hidden = hidden[:, 1:]
        tokens = self.transformer.project_out(hidden)  # [B, N, C * patch]
        batch, length, _ = tokens.shape
        patches = tokens.reshape(batch, length, self.spec.io_channels, self.spec.patch_frames)
        y = patches.permute(0, 2, 1, 3).flatten(2)  # [B, C, T]
        return y + self.postprocess_conv(y)  # type: ignore[no-any-return]

    def forward(
        self, x: Tensor, c_noise_t: Tensor, c_noise_s: Tensor | None, omega: Tensor | None, context: TextContext
    ) -> Tensor:
        """x [B, C, T] scaled by c_in; levels as log(sigma)/4 [B]; returns F [B, C, T]."""
        level = self.level_embedding(c_noise_t, c_noise_s, omega, context.pooled)
        return self.project(self.run_layers(self.embed(x, level), context, level)[-1], level)
