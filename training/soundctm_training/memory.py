"""The words a bundle remembers: what a prompt's conditioning vector is recalled by (`networks.dit.recalled`).

A student is steered well by the vectors of texts it was trained on, and badly by those that other wordings of the same
thing have, though they lie nearest to them. The memory puts the first in place of the second.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from soundctm.networks.dit import DiT
from soundctm.text.protocol import TextEncoder
from soundctm_training.config import ConfigError
from soundctm_training.familiar import Embeddings, embed

_SEED = 5


def remembered_texts(
    network: DiT, by_label: Mapping[str, Embeddings], encoder: TextEncoder, per_label: int
) -> Tensor:
    """Memory [K, E] of a network without one: at most `per_label` centres of the vectors that a label's captions, given
    by their embeddings, have; and the vector of the empty text, which must stay what it is. Raises ConfigError."""
    if not network.spec.pooled_text:
        raise ConfigError("text.remembered needs network.pooled_text = true: without it a prompt has no vector")
    centres = [_centres(_vectors(network, embeddings), per_label) for embeddings in by_label.values()]
    return torch.cat([*centres, _vectors(network, embed([""], encoder))])


@torch.inference_mode()
def _vectors(network: DiT, embeddings: Embeddings) -> Tensor:
    """What the network makes of them [N, E]: a text's embedding is the mean of its tokens, and so of one token."""
    return network.pooled(torch.from_numpy(embeddings)[:, None])


def _centres(vectors: Tensor, most: int) -> Tensor:
    if len(vectors) <= most:
        return vectors
    centres, members = kmeans2(vectors.double().numpy(), most, minit="++", seed=_SEED)
    return torch.from_numpy(centres[np.unique(members)]).to(vectors.dtype)  # an empty cluster has no centre of its own
