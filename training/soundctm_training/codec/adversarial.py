"""The losses between a decoder and its discriminators: sums over discriminators of means over what each sees."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional

from soundctm_training.codec.discriminators import Verdict


class Adversary(StrEnum):
    LEAST_SQUARES = "least_squares"  # DAC's (Mao et al. 2017)
    HINGE = "hinge"                  # EnCodec's (Lim & Ye 2017)


def discriminator_loss(kind: Adversary, real: Sequence[Verdict], fake: Sequence[Verdict]) -> Tensor:
    """Least where real logits are (at least) 1 and fake ones 0 (least squares) or at most -1 (hinge)."""
    terms = []
    for x, y in zip(real, fake, strict=True):
        if kind is Adversary.HINGE:
            terms.append(functional.relu(1 - x.logits).mean() + functional.relu(1 + y.logits).mean())
        else:
            terms.append((1 - x.logits).square().mean() + y.logits.square().mean())
    return torch.stack(terms).sum()


def deception_loss(kind: Adversary, fake: Sequence[Verdict]) -> Tensor:
    """The decoder's: falls as the discriminators take its audio for real."""
    if kind is Adversary.HINGE:
        return torch.stack([-verdict.logits.mean() for verdict in fake]).sum()
    return torch.stack([(1 - verdict.logits).square().mean() for verdict in fake]).sum()


def feature_loss(real: Sequence[Verdict], fake: Sequence[Verdict]) -> Tensor:
    """Mean absolute difference of the hidden layers, summed over layers; no gradient reaches the real side."""
    terms = [
        functional.l1_loss(y, x.detach())
        for one, other in zip(real, fake, strict=True)
        for x, y in zip(one.features, other.features, strict=True)
    ]
    return torch.stack(terms).sum()
