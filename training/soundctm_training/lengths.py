"""Which clip lengths a training draws."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LengthMix:
    """Shares by step; a batch holds `batch_frames` latent frames whatever the length."""

    frames: tuple[int, ...]
    shares: tuple[float, ...]
    batch_frames: int        # latent frames per batch
    odd_share: float         # of the batches is cut to a random shorter length
