"""Teaches a network what captions are of from captions alone, where sound teaches it slowly.

A text steers every layer through its conditioning vector. Captions of one thing (`data.clips.Clip`) are drawn together
there and those of other things pushed away, by the supervised contrastive loss (Khosla et al. 2020, equation 2). Its
batches hold no sound, so a step reads ten times the captions that its clips have.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from soundctm.networks.dit import DiT
from soundctm_training.config import ConfigError, TextTraining
from soundctm_training.dataset import TextTable, disturb_text

_TEMPERATURE = 0.1


def require_wordings(table: TextTable, text: TextTraining, network: DiT) -> None:
    """Raises ConfigError where `text.contrast_weight` asks for what the data or the network does not have."""
    if text.contrast_weight <= 0:
        return
    if not network.spec.pooled_text:
        raise ConfigError("text.contrast_weight needs network.pooled_text = true: without it a prompt has no vector")
    if network.text_memory is not None:
        raise ConfigError(
            "text.contrast_weight moves the vectors of texts, and a network that remembers some has settled them; set "
            "it to 0"
        )
    if not table.wordings:
        raise ConfigError(
            "text.contrast_weight needs data that holds several captions of one thing (a class of the synthesiser, or "
            "a file with more than one caption); these latents know of none: set it to 0, or encode the data again"
        )


def wordings_loss(network: DiT, table: TextTable, text: TextTraining, generator: np.random.Generator) -> Tensor:
    """The contrastive loss of pairs of captions drawn from the table, disturbed as training disturbs them all."""
    rows = np.fromiter(table.wordings, np.int64)
    first = generator.choice(rows, text.contrast_captions // 2)
    second = [generator.choice(table.wordings[row]) for row in first]
    pairs = torch.from_numpy(np.concatenate([first, second]))
    ones = torch.ones(len(pairs), 1, dtype=torch.bool)
    tokens, masks = disturb_text(table.means[pairs][:, None], ones, text, generator)
    things = np.array([table.things[row] for row in pairs])
    device = next(network.parameters()).device
    same = torch.from_numpy(things[:, None] == things).to(device)
    return contrastive_loss(network.pooled(tokens.to(device), masks.to(device)), same)


def contrastive_loss(vectors: Tensor, same: Tensor) -> Tensor:
    """Vectors [n, E] and whether two are of one thing [n, n]; every row must have another of its thing."""
    unit = functional.normalize(vectors.float(), dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    likeness = (unit @ unit.T / _TEMPERATURE).masked_fill(itself, -torch.inf).log_softmax(-1)
    others = same & ~itself
    return -(likeness.masked_fill(~others, 0).sum(-1) / others.sum(-1)).mean()
