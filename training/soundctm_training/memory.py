"""The words a bundle remembers: what a prompt's conditioning vector is recalled by (`networks.dit.recalled`).

A student is steered well by the vectors of texts it was trained on, and badly by those that other wordings of the same
thing have, though they lie nearest to them. The memory puts the first in place of the second.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from soundctm.networks.dit import DiT
from soundctm.text.protocol import TextEncoder
from soundctm_training.config import ConfigError
from soundctm_training.familiar import embed

_SEED = 5


def remembered_texts(
    network: DiT, captions_with_labels: Iterable[tuple[str, str]], encoder: TextEncoder, per_label: int
) -> Tensor:
    """Memory [K, E] of a network without one: at most `per_label` centres of the vectors that a label's captions have,
    and the vector of the empty text, which must stay what it is. Raises ConfigError."""
    if not network.spec.pooled_text:
        raise ConfigError("text.remembered needs network.pooled_text = true: without it a prompt has no vector")
    by_label: dict[str, list[str]] = {}
    for caption, label in captions_with_labels:
        by_label.setdefault(label, []).append(caption)
    centres = [_centres(_vectors(network, texts, encoder), per_label) for texts in by_label.values()]
    return torch.cat([*centres, _vectors(network, [""], encoder)])


@torch.inference_mode()
def _vectors(network: DiT, texts: list[str], encoder: TextEncoder) -> Tensor:
    tokens = torch.from_numpy(embed(list(dict.fromkeys(texts)), encoder))[:, None]
    return network.pooled(tokens)


def _centres(vectors: Tensor, most: int) -> Tensor:
    if len(vectors) <= most:
        return vectors
    centres, members = kmeans2(vectors.double().numpy(), most, minit="++", seed=_SEED)
    return torch.from_numpy(centres[np.unique(members)]).to(vectors.dtype)  # an empty cluster has no centre of its own
