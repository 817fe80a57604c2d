"""Latent pools and caption embeddings, and the batches drawn from them.

Files of an encoded folder: latents_<frames>.npy float16 [clips, C, frames], captions_<frames>.npy int32 [clips]
(rows of the text table), texts.json (the distinct captions; row 0 is ""), tokens.npy float16 [texts, L, D],
masks.npy bool [texts, L].
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm_training.config import LengthMix, TextTraining

EMPTY = 0  # row of the text table that holds ""


@dataclass(frozen=True)
class Pool:
    """Clips of one length."""

    latents: NDArray[np.float16]   # [clips, C, frames]
    captions: NDArray[np.int32]    # [clips]


@dataclass(frozen=True)
class TextTable:
    tokens: Tensor  # float32 [texts, L, D]
    masks: Tensor   # bool [texts, L]
    texts: Sequence[str]

    def rows(self, index: NDArray[np.int32]) -> tuple[Tensor, Tensor]:
        """Tokens and masks of some rows, cut to their longest text: [B, L', D] and [B, L']."""
        rows = torch.from_numpy(index.astype(np.int64))
        masks = self.masks[rows]
        longest = int(masks.sum(1).max())
        return self.tokens[rows][:, :longest], masks[:, :longest]


@dataclass(frozen=True)
class Dataset:
    pools: Mapping[int, Pool]
    text: TextTable


@dataclass(frozen=True)
class Batch:
    latent: Tensor                 # [B, C, T]
    captions: NDArray[np.int32]    # [B], EMPTY where dropped
    tokens: Tensor                 # [B, L, D], with noise
    masks: Tensor                  # [B, L]


def open_dataset(folder: Path) -> Dataset:
    pools = {}
    for path in sorted(folder.glob("latents_*.npy")):
        frames = int(path.stem.split("_")[1])
        pools[frames] = Pool(np.load(path, mmap_mode="r"), np.load(folder / f"captions_{frames}.npy"))
    tokens = torch.from_numpy(np.load(folder / "tokens.npy").astype(np.float32))
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    return Dataset(pools, TextTable(tokens, torch.from_numpy(np.load(folder / "masks.npy")), texts))


def draw_batch(
    data: Dataset, lengths: LengthMix, text: TextTraining, patch_frames: int, generator: np.random.Generator
) -> Batch:
    """One length per batch; now and then cut short, because a request may ask for any length."""
    frames = int(generator.choice(lengths.frames, p=lengths.shares))
    pool = data.pools[frames]
    rows = np.sort(generator.integers(len(pool.captions), size=max(1, lengths.batch_frames // frames)))
    latent = torch.from_numpy(pool.latents[rows].astype(np.float32))
    if generator.random() < lengths.odd_share:
        tokens = int(generator.integers(frames // (4 * patch_frames), frames // patch_frames))
        latent = latent[:, :, : tokens * patch_frames]
    captions = np.where(generator.random(len(rows)) < text.drop, EMPTY, pool.captions[rows]).astype(np.int32)
    token_rows, masks = data.text.rows(captions)
    return Batch(latent, captions, *disturb_text(token_rows, masks, text, generator))


def disturb_text(
    tokens: Tensor, masks: Tensor, text: TextTraining, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Stands in for other wordings: every token is moved on its own, the whole text is moved together (which shifts
    its mean, the sentence's meaning, too), and tokens but the first are hidden."""
    kept = masks[..., None].to(tokens.dtype)
    mean = (tokens * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp(min=1)
    moved = tokens
    for share, size in ((text.token_noise, tokens), (text.sentence_noise, mean)):
        noise = torch.from_numpy(generator.standard_normal(size.shape, dtype=np.float32))
        moved = moved + share * size.square().mean(-1, keepdim=True).sqrt() * noise
    hidden = torch.from_numpy(generator.random(masks.shape) < text.token_drop)
    hidden[:, 0] = False
    return moved, masks & ~hidden
