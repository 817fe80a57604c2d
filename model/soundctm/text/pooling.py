"""One vector for a whole prompt."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def sentence_embedding(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of the kept tokens, of unit length: tokens [B, L, D], mask [B, L] (True = keep) -> [B, D].

    For MiniLM this is its own sentence embedding (sentence-transformers' mean pooling).
    """
    kept = mask[..., None].to(tokens.dtype)
    return functional.normalize((tokens * kept).sum(1) / kept.sum(1).clamp(min=1.0), dim=-1)
