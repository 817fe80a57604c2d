"""A prompt's vector recalled by texts the network was trained on: words never trained on become words that were."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

MEMORY, PHRASES = "text_memory", "text_phrases"  # names of the tensors of texts remembered
_REACH = 0.05  # behind the likest
_PHRASE_WEIGHT = 6.0  # of the cosine of sentences beside that of vectors


def likeness(vectors: Tensor, sentences: Tensor, memory: Tensor, phrases: Tensor | None) -> Tensor:
    """Of prompts to the texts remembered, [B, K]: the cosine of their vectors, [B, E] and [K, E], and where `phrases`
    [K, D] are remembered, that of their sentence embeddings [B, D], too. The first was taught what is one thing, the
    second knows more words."""
    alike = _cosines(vectors, memory)
    return alike if phrases is None else alike + _PHRASE_WEIGHT * _cosines(sentences, phrases)


def recalled(alike: Tensor, memory: Tensor) -> Tensor:
    """What an associative memory [K, E] holds that is likest [B, K].

    As in Ramsauer et al. 2021, equation 3, but the weights fall in a line to zero instead of by softmax: what is much
    less alike takes no part at all, and of two that are as like as each other neither is lost.
    """
    weights = functional.relu(1 - (alike.amax(-1, keepdim=True) - alike) / _REACH)
    return weights / weights.sum(-1, keepdim=True) @ memory


def _cosines(queries: Tensor, keys: Tensor) -> Tensor:
    return functional.normalize(queries, dim=-1) @ functional.normalize(keys, dim=-1).T
