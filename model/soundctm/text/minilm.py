"""The starter's text encoder: all-MiniLM-L6-v2, every token's last hidden state.

The network is a six-layer BERT of width 384 (Wang et al. 2020; sentence-transformers, Apache-2.0), stored as
block-wise int8 and computed in float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from soundctm.errors import CheckpointError
from soundctm.networks.loading import load_into
from soundctm.spec import TextSpec
from soundctm.text.encoder import Encoder, EncoderSpec
from soundctm.text.quantisation import dequantise_matrices, quantise_matrices
from soundctm.text.tokens import PromptTokenizer

# in the published file, used by no token's last hidden state
_UNUSED = ("pooler.", "embeddings.position_ids")
_PAD_ID = 0


def minilm_options(source_folder: Path) -> dict[str, int | float]:
    """`TextSpec.options` of a published MiniLM folder, from its config.json."""
    config = json.loads((source_folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise CheckpointError(
            f"{source_folder}: model_type {config.get('model_type')!r} with {config.get('hidden_act')!r} is not a BERT "
            "with exact GELU; give the folder of all-MiniLM-L6-v2"
        )
    return {
        "vocab_size": config["vocab_size"],
        "hidden": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "intermediate": config["intermediate_size"],
        "positions": config["max_position_embeddings"],
        "token_types": config["type_vocab_size"],
        "norm_eps": config["layer_norm_eps"],
    }


def quantise_minilm(source_folder: Path) -> dict[str, Tensor]:
    """What a bundle's text.safetensors holds, from a published folder (config.json, model.safetensors)."""
    with safe_open(source_folder / "model.safetensors", framework="pt") as file:
        return quantise_matrices({name: file.get_tensor(name) for name in file.keys() if not name.startswith(_UNUSED)})  # noqa: SIM118


class MiniLMText:
    """Prompts -> token hidden states. Padded positions are zero, so that nothing can leak from them."""

    def __init__(self, spec: TextSpec, tensors: Mapping[str, Tensor], tokenizer_json: Path) -> None:
        """`tensors` is text.safetensors as stored. Raises TensorMismatchError or BundleError."""
        encoder = EncoderSpec(**spec.options, pad_id=_PAD_ID, positions_after_pad=False, pooler=False)
        self.max_tokens = spec.max_tokens
        self.dim = spec.dim
        self.network = load_into(lambda: Encoder(encoder), dequantise_matrices(tensors), "text encoder (MiniLM)")
        self.tokenize = PromptTokenizer(tokenizer_json, spec.max_tokens, _PAD_ID)

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(tokens float32 [B, max_tokens, dim], mask bool [B, max_tokens]).

        One prompt at a time: matrix products of another batch size round differently, and a clip must not depend on
        whose prompt was encoded beside its own.
        """
        device = self.network.embeddings.LayerNorm.weight.device
        tokens, masks = [], []
        for prompt in prompts:
            ids, real = (tensor.to(device) for tensor in self.tokenize.unpadded(prompt))
            padding = self.max_tokens - ids.shape[1]
            tokens.append(functional.pad(self.network(ids, real), (0, 0, 0, padding)))
            masks.append(functional.pad(real, (0, padding)))
        return torch.cat(tokens), torch.cat(masks)
