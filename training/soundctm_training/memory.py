"""The words a network remembers: what a prompt's conditioning vector is recalled by (`soundctm.networks.recall`).

A network is steered well by the vectors of texts it was trained on, and badly by those that other wordings of the same
thing have, though they lie nearest to them. The memory puts the first in place of the second. It is found by those
vectors, and by phrases: what else the same thing is called, of which only the sentence embedding is known to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor
from torch.nn import functional

from soundctm.networks.dit import DiT
from soundctm.networks.recall import MEMORY, PHRASES
from soundctm_training.config import ConfigError
from soundctm_training.familiar import Embeddings

_SEED = 5

IntArray = NDArray[np.intp]


def trainable_copy(network: DiT) -> DiT:
    """To train on. What a network remembers is found by the vectors of texts, so their map stays as it is."""
    copy = DiT(network.spec)
    copy.load_state_dict(network.state_dict())
    if copy.text_memory is not None:
        copy.to_pooled_embed.requires_grad_(False)
    return copy


@dataclass(frozen=True)
class Texts:
    """Of one label the sentence embeddings [N, D] of captions that were trained on, and of every phrase it is known by,
    these captions among them."""

    captions: Embeddings
    phrases: Embeddings


def remembering(network: DiT, by_label: Mapping[str, Texts], empty: Embeddings, kinds: int, phrases: int) -> DiT:
    """The network with a memory: of every label the vectors of at most `kinds` kinds of its captions, and that of
    the empty text, which must stay what it is; all texts given by their embeddings. Where `phrases` is not 0, the
    memory is found by as many phrases of every label, too. Raises ConfigError."""
    if not network.spec.pooled_text:
        raise ConfigError("text.remembered needs network.pooled_text = true: without it a prompt has no vector")
    parts = [_remembered(network, texts, kinds, phrases) for texts in by_label.values()]
    nothing = torch.from_numpy(empty)
    tensors = {
        MEMORY: torch.cat([*(vectors for vectors, _ in parts), _own_vectors(network, nothing)]),
        PHRASES: torch.cat([*(sentences for _, sentences in parts), nothing]),
    }
    if not phrases:
        del tensors[PHRASES]
    kept = {name: value for name, value in network.state_dict().items() if name not in (MEMORY, PHRASES)}
    found = DiT(replace(network.spec, text_memory=len(tensors[MEMORY]), text_phrases=PHRASES in tensors))
    found.load_state_dict({**kept, **tensors})
    return found.requires_grad_(False)


def _remembered(network: DiT, texts: Texts, kinds: int, phrases: int) -> tuple[Tensor, Tensor]:
    """Of one label the vectors and the sentences remembered, in pairs [K, E] and [K, D]. A phrase has the vector of the
    kind that its own is likest."""
    own, sentences = _kinds(network, texts.captions, kinds)
    if not phrases:
        return own, sentences
    chosen = _means(torch.from_numpy(texts.phrases), _groups(texts.phrases, phrases))
    unit = functional.normalize(_own_vectors(network, chosen), dim=-1)
    return own[(unit @ functional.normalize(own, dim=-1).T).argmax(-1)], chosen


def _kinds(network: DiT, embeddings: Embeddings, most: int) -> tuple[Tensor, Tensor]:
    """The mean vector and sentence of every kind of a label's captions. Kinds are told by the embeddings, so that
    networks which learned from the same captions remember the same kinds in the same rows."""
    sentences, kind_of = torch.from_numpy(embeddings), _groups(embeddings, most)
    return _means(_own_vectors(network, sentences), kind_of), _means(sentences, kind_of)


def _groups(embeddings: Embeddings, most: int) -> IntArray:
    """Which of at most `most` groups of its like each belongs to."""
    if len(embeddings) <= most:
        return np.arange(len(embeddings))
    _, group_of = kmeans2(embeddings.astype(np.float64), most, minit="++", seed=_SEED)
    return np.unique(group_of, return_inverse=True)[1]


def _means(rows: Tensor, group_of: IntArray) -> Tensor:
    return torch.stack([rows[group_of == group].mean(0) for group in range(group_of.max() + 1)])


@torch.no_grad()
def _own_vectors(network: DiT, embeddings: Tensor) -> Tensor:
    """What the map makes of them [N, E], nothing recalled. An embedding is a mean of tokens, and so of one."""
    return network.prompt_vector(embeddings[:, None])
