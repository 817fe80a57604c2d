"""Several encoded folders as one data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from soundctm_training.config import ConfigError
from soundctm_training.data.shards import ShardedRows
from soundctm_training.dataset import EMPTY, Dataset, Pool, TextTable, open_dataset


def open_datasets(folders: Sequence[Path], channels: int | None = None) -> Dataset:
    """Clips of all folders, by length; captions keep the rows of their own folder's text table, moved along.

    Raises DataError, or ConfigError where channels or text widths differ.
    """
    parts = [open_dataset(folder, channels) for folder in folders]
    if len(parts) == 1:
        return parts[0]
    widths = {tuple(part.text.tokens.shape[1:]) for part in parts}
    if len(widths) > 1:
        raise ConfigError(f"the text tokens of {', '.join(map(str, folders))} differ in shape: {sorted(widths)}")
    firsts = np.cumsum([0, *(len(part.text.texts) for part in parts)])
    lengths = sorted({frames for part in parts for frames in part.pools})
    return Dataset({frames: _joined_pool(parts, firsts, frames) for frames in lengths}, _joined_texts(parts))


def _joined_pool(parts: Sequence[Dataset], firsts: NDArray[np.int64], frames: int) -> Pool:
    pools = [(part.pools[frames], first) for part, first in zip(parts, firsts, strict=False) if frames in part.pools]
    captions = [np.where(pool.captions == EMPTY, EMPTY, pool.captions + first) for pool, first in pools]
    latents = [block for pool, _ in pools for block in _blocks(pool)]
    return Pool(ShardedRows(latents), np.concatenate(captions).astype(np.int32))


def _blocks(pool: Pool) -> Sequence[NDArray[np.float16]]:
    return pool.latents.parts if isinstance(pool.latents, ShardedRows) else [pool.latents]


def _joined_texts(parts: Sequence[Dataset]) -> TextTable:
    tokens, masks = (torch.cat([getattr(part.text, name) for part in parts]) for name in ("tokens", "masks"))
    texts = [text for part in parts for text in part.text.texts]
    return TextTable(tokens, masks, texts, [thing for part in parts for thing in _things(part.text)])


def _things(table: TextTable) -> Sequence[str]:
    return table.things or [""] * len(table.texts)
