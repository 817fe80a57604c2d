"""The official text conditions: one token per prompt from CLAP's RoBERTa text branch.

v1: the pooled vector through CLAP's text projection; v2: the pooled vector itself. Both L2-normalised. Attribute names
follow the published checkpoint keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from soundctm.networks.loading import load_into
from soundctm.spec import TextSpec
from soundctm.text.encoder import Encoder, EncoderSpec
from soundctm.text.tokens import PromptTokenizer

PAD_ID = 1
PROMPT_IDS = 77  # the official length: longer prompts are cut; shorter ones padded there, which changes nothing


class ClapNetwork(nn.Module):
    """Ids [B, L] and mask [B, L] -> unit vectors [B, dim]. `projection_dim` None leaves the projection out (v2)."""

    def __init__(self, encoder: EncoderSpec, projection_dim: int | None) -> None:
        super().__init__()
        self.text_branch = Encoder(encoder)
        self.text_projection: nn.Sequential | None = None
        if projection_dim is not None:
            self.text_projection = nn.Sequential(
                nn.Linear(encoder.hidden, projection_dim), nn.ReLU(), nn.Linear(projection_dim, projection_dim)
            )

    def project(self, pooled: Tensor) -> Tensor:
        """[B, hidden] -> [B, dim], not yet normalised."""
        return pooled if self.text_projection is None else self.text_projection(pooled)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        pooled = self.text_branch.pool(self.text_branch(ids, mask))
        return functional.normalize(self.project(pooled), dim=-1)


def roberta_spec(
    *,
    vocab_size: int,
    hidden: int,
    layers: int,
    heads: int,
    intermediate: int,
    positions: int,
    token_types: int = 1,
    norm_eps: float = 1e-5,
) -> EncoderSpec:
    """The encoder of CLAP's text branch; the arguments are the bundle's text options."""
    return EncoderSpec(
        vocab_size, hidden, layers, heads, intermediate, positions, token_types, norm_eps,
        pad_id=PAD_ID, positions_after_pad=True, pooler=True,
    )  # fmt: skip


class ClapText:
    """Prompts -> one token each. The empty prompt is encoded like any other; it is not a zero vector."""

    max_tokens = 1

    def __init__(self, spec: TextSpec, tensors: Mapping[str, Tensor], tokenizer_json: Path) -> None:
        """`spec.options`: the arguments of `roberta_spec`, and `projection` (true: v1, false: v2).

        Raises TensorMismatchError or BundleError.
        """
        options = dict(spec.options)
        projection_dim = spec.dim if options.pop("projection") else None
        encoder = roberta_spec(**options)
        self.dim = spec.dim
        self.network = load_into(lambda: ClapNetwork(encoder, projection_dim), tensors, "text encoder (CLAP)")
        self.tokenize = PromptTokenizer(tokenizer_json, PROMPT_IDS, PAD_ID)

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(tokens float32 [B, 1, dim], mask bool [B, 1], all True). One prompt at a time, as in `MiniLMText`."""
        device = self.network.text_branch.embeddings.LayerNorm.weight.device
        rows = [self.network(*(tensor.to(device) for tensor in self.tokenize.unpadded(prompt))) for prompt in prompts]
        tokens = torch.stack(rows)
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=device)
