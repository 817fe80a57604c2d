"""The words a network remembers: what a prompt's conditioning vector is recalled by (`networks.dit.recalled`).

A network is steered well by the vectors of texts it was trained on, and badly by those that other wordings of the same
thing have, though they lie nearest to them. The memory puts the first in place of the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from soundctm.networks.dit import MEMORY, DiT
from soundctm_training.config import ConfigError
from soundctm_training.familiar import Embeddings

_SEED = 5


def trainable_copy(network: DiT) -> DiT:
    """To train on. What a network remembers is found by the vectors of texts, so their map stays as it is."""
    copy = DiT(network.spec)
    copy.load_state_dict(network.state_dict())
    if copy.text_memory is not None:
        copy.to_pooled_embed.requires_grad_(False)
    return copy


def remembering(network: DiT, by_label: Mapping[str, Embeddings], empty: Embeddings, per_label: int) -> DiT:
    """The network with a memory: of every label the vectors of at most `per_label` kinds of its captions, and that of
    the empty text, which must stay what it is; all texts given by their embeddings. Raises ConfigError."""
    if not network.spec.pooled_text:
        raise ConfigError("text.remembered needs network.pooled_text = true: without it a prompt has no vector")
    kinds = [_kinds(network, embeddings, per_label) for embeddings in by_label.values()]
    memory = torch.cat([*kinds, _own_vectors(network, torch.from_numpy(empty))])
    found = DiT(replace(network.spec, text_memory=len(memory)))
    found.load_state_dict({**network.state_dict(), MEMORY: memory})
    return found.requires_grad_(False)


def _kinds(network: DiT, embeddings: Embeddings, most: int) -> Tensor:
    """The mean vector of every kind of a label's captions. Kinds are told by the embeddings, so that networks which
    learned from the same captions remember the same kinds in the same rows."""
    vectors = _own_vectors(network, torch.from_numpy(embeddings))
    if len(vectors) <= most:
        return vectors
    _, kind_of = kmeans2(embeddings.astype(np.float64), most, minit="++", seed=_SEED)
    return torch.stack([vectors[kind_of == kind].mean(0) for kind in np.unique(kind_of)])


@torch.no_grad()
def _own_vectors(network: DiT, embeddings: Tensor) -> Tensor:
    """What the map makes of them [N, E], nothing recalled. An embedding is a mean of tokens, and so of one."""
    return network.prompt_vector(embeddings[:, None])
