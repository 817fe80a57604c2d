"""What the official code does for a clip, restated: the reference that engines are measured against.

In float32, whatever nu is: both prompts are tokenised, padded and encoded in every jump, one after the other, and the
network runs on both; attention is written out, also to the one token of text; layers run under activation
checkpointing; the decoder normalises its weights in every call and decodes the clip whole.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from soundctm.bundle import CODEC_FILE, NETWORK_FILE, Bundle
from soundctm.codecs.dac import GaussianDAC
from soundctm.codecs.loading import load_codec
from soundctm.networks.dit import DiT, Layer, TextContext, rotate, split_heads
from soundctm.networks.loading import load_into, read_tensors
from soundctm.networks.preconditioning import jump
from soundctm.text.loading import load_text_encoder
from soundctm.text.protocol import TextEncoder


def load_official(bundle: Bundle) -> OfficialPath:
    """The weights are mapped: those of an engine beside it are the same memory."""
    network = load_into(lambda: DiT(bundle.spec.network), read_tensors(bundle.file(NETWORK_FILE)), NETWORK_FILE)
    codec = load_codec(bundle.spec, read_tensors(bundle.file(CODEC_FILE)))
    assert isinstance(codec, GaussianDAC)
    return OfficialPath(network, codec, load_text_encoder(bundle), bundle.spec.diffusion.sigma_data)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[B, heads, N, d] -> [B, N, heads * d], every score in memory."""
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1])
    attended = torch.einsum("bhij,bhjd->bhid", scores.softmax(-1, dtype=torch.float32), v)
    return attended.transpose(1, 2).flatten(2)


class OfficialPath:
    def __init__(self, network: DiT, codec: GaussianDAC, text: TextEncoder, sigma_data: float) -> None:
        self._network, self._text, self._sigma_data = network, text, sigma_data
        self._codec = codec
        for module in list(self._codec.decoder.modules()):
            if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                weight_norm(module, dim=0).requires_grad_(False)

    def jump(self, z: Tensor, t: float, s: float, omega: float, prompt: str, nu: float = 1.0) -> Tensor:
        """One clip [1, C, T]."""
        with torch.no_grad():
            tokens = torch.stack([self._text.network(*self._text.tokenize(text)) for text in (prompt, "")])
            context = self._network.encode_context(tokens, general=True)
            levels = (torch.tensor([value, value]) for value in (t, s, omega))
            both = jump(self._forward, torch.cat([z, z]), *levels, context, self._sigma_data)
        conditional, unconditional = both.chunk(2)
        return unconditional + nu * (conditional - unconditional)

    def decode(self, latent: Tensor) -> Tensor:
        with torch.no_grad():
            return self._codec.decode(latent, None)

    def _forward(
        self, x: Tensor, c_noise_t: Tensor, c_noise_s: Tensor | None, omega: Tensor | None, context: TextContext
    ) -> Tensor:
        network = self._network
        level = network.level_embedding(c_noise_t, c_noise_s, omega, None)
        hidden = network.embed(x, level)
        angles = network.transformer.rotary_pos_emb(hidden.shape[1])
        assert context.keys is not None and context.values is not None
        for index, layer in enumerate(network.transformer.blocks()):
            keys, values = context.keys[:, index], context.values[:, index]
            hidden = checkpoint(_layer, layer, hidden, angles, keys, values, use_reentrant=False)
        return network.project(hidden, level)


def _layer(layer: Layer, x: Tensor, angles: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    head_dim, repeats = layer.self_attn.head_dim, layer.cross_attn.repeats
    parts = layer.self_attn.to_qkv(layer.pre_norm(x)).chunk(3, dim=-1)
    q, k, v = (split_heads(part, head_dim) for part in parts)
    x = x + layer.self_attn.to_out(attention(rotate(q, angles), rotate(k, angles), v))
    q = split_heads(layer.cross_attn.to_q(layer.cross_attend_norm(x)), head_dim)
    k, v = (part.repeat_interleave(repeats, dim=1) for part in (keys, values))
    x = x + layer.cross_attn.to_out(attention(q, k, v))
    return x + layer.ff(layer.ff_norm(x))  # type: ignore[no-any-return]
