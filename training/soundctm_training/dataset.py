"""Latent pools and caption embeddings, and the batches drawn from them.

Files of an encoded folder: block_<n>/latents_<frames>.npy float16 [clips, C, frames], captions_<frames>.npy int32
[clips] (rows of the text table, in the order of the blocks), texts.json (the distinct captions; row 0 is ""),
things.json (what each is a wording of), tokens.npy float16 [texts, L, D], masks.npy bool [texts, L], manifest.json and
skipped.jsonl.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm.text.pooling import mean_token
from soundctm_training.config import ConfigError, TextTraining
from soundctm_training.data.clips import DataError
from soundctm_training.data.manifest import read_manifest
from soundctm_training.data.shards import ShardedRows, block_folder
from soundctm_training.data.texts import MASKS, TEXTS, THINGS, TOKENS
from soundctm_training.lengths import LengthMix

_MEANS_AT_ONCE = 1024
EMPTY = 0  # row of the text table that holds ""


def captions_file(frames: int) -> str:
    return f"captions_{frames}.npy"


@dataclass(frozen=True)
class Pool:
    """Clips of one length."""

    latents: NDArray[np.float16] | ShardedRows  # [clips, C, frames]
    captions: NDArray[np.int32]                 # [clips]


@dataclass(frozen=True)
class TextTable:
    tokens: Tensor  # float32, or float16 and memory-mapped, [texts, L, D]
    masks: Tensor   # bool [texts, L]
    texts: Sequence[str]
    things: Sequence[str] = ()  # what each text is a wording of, "" where unknown; none at all in older folders

    @cached_property
    def wordings(self) -> Mapping[int, NDArray[np.int64]]:
        """The rows of every thing that has two or more texts, by each of these rows."""
        rows: dict[str, list[int]] = {}
        for row, thing in enumerate(self.things):
            rows.setdefault(thing, []).append(row)
        several = [np.array(some) for thing, some in rows.items() if thing and len(some) > 1]
        return {int(row): some for some in several for row in some}

    @cached_property
    def means(self) -> Tensor:
        """The mean of every text's tokens, float32 [texts, D]."""
        parts = zip(self.tokens.split(_MEANS_AT_ONCE), self.masks.split(_MEANS_AT_ONCE), strict=True)
        return torch.cat([mean_token(tokens.float(), masks) for tokens, masks in parts])

    def rows(self, index: NDArray[np.int32]) -> tuple[Tensor, Tensor]:
        """Tokens and masks of some rows, cut to their longest text: [B, L', D] and [B, L']."""
        rows = torch.from_numpy(index.astype(np.int64))
        masks = self.masks[rows]
        longest = int(masks.sum(1).max())
        return self.tokens[rows][:, :longest].float(), masks[:, :longest]


@dataclass(frozen=True)
class Dataset:
    pools: Mapping[int, Pool]  # by length in latent frames
    text: TextTable

    def pool(self, frames: int) -> Pool:
        """Raises ConfigError when no clip has this length."""
        if frames not in self.pools:
            raise ConfigError(
                f"lengths.frames asks for clips of {frames} latent frames; the encoded data has "
                f"{', '.join(map(str, self.pools))}. Change lengths.frames, or encode.frames and encode again"
            )
        return self.pools[frames]


@dataclass(frozen=True)
class Batch:
    latent: Tensor                 # [B, C, T]
    captions: NDArray[np.int32]    # [B], EMPTY where dropped
    tokens: Tensor                 # [B, L, D], with noise
    masks: Tensor                  # [B, L]


def open_dataset(folder: Path, channels: int | None = None) -> Dataset:
    """Files stay memory-mapped. Raises DataError when the folder holds no complete encode, ConfigError when its
    latents have not the `channels` the network takes."""
    manifest = read_manifest(folder)
    if not manifest["complete"]:
        raise DataError(f"{folder} holds an unfinished encode; run the same `train encode` again, it continues")
    found = manifest["identity"]["codec"]["channels"]
    if channels is not None and channels != found:
        raise ConfigError(
            f"the latents of {folder} have {found} channels, but network.io_channels is {channels}; set it to {found}, "
            "or encode with the codec it was written for"
        )
    pools = {int(frames): _open_pool(folder, int(frames), manifest["blocks"]) for frames in manifest["lengths"]}
    # copy-on-write, for torch warns about arrays it must not write to; nobody does
    tokens = torch.from_numpy(np.load(folder / TOKENS, mmap_mode="c"))
    texts = json.loads((folder / TEXTS).read_text(encoding="utf-8"))
    things = json.loads((folder / THINGS).read_text(encoding="utf-8")) if (folder / THINGS).is_file() else ()
    return Dataset(pools, TextTable(tokens, torch.from_numpy(np.load(folder / MASKS)), texts, things))


def _open_pool(folder: Path, frames: int, blocks: int) -> Pool:
    paths = [block_folder(folder, number) / f"latents_{frames}.npy" for number in range(blocks)]
    latents = ShardedRows([np.load(path, mmap_mode="r") for path in paths if path.is_file()])
    captions: NDArray[np.int32] = np.load(folder / captions_file(frames))
    if len(latents) != len(captions):
        raise DataError(
            f"{folder} holds {len(latents)} latents of {frames} frames but {len(captions)} captions: files were taken "
            "away or changed; encode the data again"
        )
    return Pool(latents, captions)


def describe(data: Dataset, batch: Batch) -> str:
    """The clips of a batch by length and caption, for messages."""
    captions = ", ".join(repr(data.text.texts[row]) for row in batch.captions)
    return f"{len(batch.captions)} clips of {batch.latent.shape[2]} frames: {captions}"


def draw_batch(
    data: Dataset, lengths: LengthMix, text: TextTraining, patch_frames: int, generator: np.random.Generator
) -> Batch:
    """One length per batch; now and then cut short, because a request may ask for any length."""
    frames = int(generator.choice(lengths.frames, p=lengths.shares))
    pool = data.pool(frames)
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
    mean = mean_token(tokens, masks)[:, None]
    moved = tokens
    for share, size in ((text.token_noise, tokens), (text.sentence_noise, mean)):
        noise = torch.from_numpy(generator.standard_normal(size.shape, dtype=np.float32))
        moved = moved + share * size.square().mean(-1, keepdim=True).sqrt() * noise
    hidden = torch.from_numpy(generator.random(masks.shape) < text.token_drop)
    hidden[:, 0] = False
    return moved, masks & ~hidden
