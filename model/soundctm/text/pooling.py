"""One vector for a whole prompt."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def mean_token(tokens: Tensor, mask: Tensor) -> Tensor:
    """Of the kept tokens: [B, L, D], mask [B, L] (True = keep) -> [B, D]."""
    kept = mask[..., None].to(tokens.dtype)
    return (tokens * kept).sum(1) / kept.sum(1).clamp(min=1.0)


def sentence_embedding(tokens: Tensor, mask: Tensor) -> Tensor:
    """`mean_token` of unit length: [B, L, D], [B, L] -> [B, D].

    For MiniLM this is its own sentence embedding (sentence-transformers' mean pooling).
    """
    return functional.normalize(mean_token(tokens, mask), dim=-1)
