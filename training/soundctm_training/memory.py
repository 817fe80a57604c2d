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
    nothing = torch.from_numpy(empty)
    remembered = [_kinds(network, texts.captions, kinds) for texts in by_label.values()]
    tensors = {}
    if phrases:
        every = [texts.phrases for texts in by_label.values()]
        sentences = [_means(torch.from_numpy(some), _groups(some, phrases)) for some in every]
        remembered = [_likest(*pair, network) for pair in zip(sentences, remembered, strict=True)]
        tensors[PHRASES] = torch.cat([*sentences, nothing])
    tensors[MEMORY] = torch.cat([*remembered, _own_vectors(network, nothing)])
    kept = {name: value for name, value in network.state_dict().items() if name not in (MEMORY, PHRASES)}
    found = DiT(replace(network.spec, text_memory=len(tensors[MEMORY]), text_phrases=bool(phrases)))
    found.load_state_dict({**kept, **tensors})
    return found.requires_grad_(False)


def _kinds(network: DiT, embeddings: Embeddings, most: int) -> Tensor:
    """The mean vector of every kind of a label's captions. Kinds are told by the embeddings, so that networks which
    learned from the same captions remember the same kinds in the same rows."""
    return _means(_own_vectors(network, torch.from_numpy(embeddings)), _groups(embeddings, most))


def _likest(sentences: Tensor, kinds: Tensor, network: DiT) -> Tensor:
    """Of every sentence [N, D] the kind [K, E] that its own vector is likest: [N, E]."""
    own, of_kinds = (functional.normalize(v, dim=-1) for v in (_own_vectors(network, sentences), kinds))
    return kinds[(own @ of_kinds.T).argmax(-1)]


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
