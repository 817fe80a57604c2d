"""One block of a source's items -> latents. A function of the block's number alone: blocks may be made in any order,
by any process, and again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soundctm_training.data.clips import DataError, Reason, Skipped
from soundctm_training.data.codecs import EncodingCodec
from soundctm_training.data.pieces import Piece, cut
from soundctm_training.data.settings import EncodeSettings
from soundctm_training.data.shards import Block
from soundctm_training.data.sources import Source

_SILENCE = 1e-3  # of full scale: a piece of a longer clip whose peak stays below is left out


@dataclass
class _Row:
    """What has been made of one length so far."""

    waiting: list[Piece] = field(default_factory=list)
    latents: list[NDArray[np.float16]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class BlockEncoder:
    """Picklable, so that processes can share the work."""

    source: Source
    codec: EncodingCodec
    settings: EncodeSettings
    device: str = "cpu"

    @property
    def blocks(self) -> int:
        return -(-len(self.source) // self.settings.clips_per_shard)

    def items(self, number: int) -> range:
        size = self.settings.clips_per_shard
        return range(number * size, min((number + 1) * size, len(self.source)))

    def block(self, number: int) -> Block:
        """Raises DataError naming the clips when the codec gives values that half precision cannot hold."""
        items, skipped, empty_items = self.items(number), list[Skipped](), 0
        rows: defaultdict[int, _Row] = defaultdict(_Row)
        for index in items:
            pieces = list(self._pieces(index))
            empty_items += all(isinstance(piece, Skipped) for piece in pieces)
            for piece in pieces:
                if isinstance(piece, Skipped):
                    skipped.append(piece)
                    continue
                row = rows[piece.frames]
                row.waiting.append(piece)
                if len(row.waiting) >= max(1, self.settings.batch_frames // piece.frames):
                    self._encode_waiting(row)
        for row in rows.values():
            if row.waiting:
                self._encode_waiting(row)
        latents = {frames: np.concatenate(row.latents) for frames, row in rows.items()}
        lines = {frames: row.lines for frames, row in rows.items()}
        return Block(len(items), empty_items, latents, lines, skipped)

    def _pieces(self, index: int) -> Iterator[Piece | Skipped]:
        item = self.source.item(index)
        if isinstance(item, Skipped):
            yield item
            return
        pieces = list(cut(item, index, self.settings.frames, self.codec.hop_samples))
        for piece in pieces:
            if len(pieces) > 1 and float(np.abs(piece.audio).max()) < _SILENCE:
                yield Skipped(item.name, Reason.SILENT, f"its piece {piece.number} of {len(pieces)}")
            else:
                yield piece

    def _encode_waiting(self, row: _Row) -> None:
        pieces, row.waiting = row.waiting, []
        seeds = [(self.settings.seed, piece.item, piece.number) for piece in pieces]
        audio = torch.from_numpy(np.stack([piece.audio for piece in pieces])).to(self.device)
        with torch.inference_mode():
            latent = self.codec.encode(audio, seeds, self.settings.posterior).float().cpu().numpy()
        with np.errstate(over="ignore"):
            stored = latent.astype(np.float16)
        broken = [piece.name for piece, one in zip(pieces, stored, strict=True) if not np.isfinite(one).all()]
        if broken:
            raise DataError(
                f"the codec's latents of {', '.join(broken[:5])} are not finite in half precision (largest "
                f"{float(np.abs(latent).max()):g}); the codec is broken or of another scale"
            )
        row.latents.append(stored)
        row.lines.extend(
            {"caption": piece.caption, "name": piece.name, "start_samples": piece.start_samples} for piece in pieces
        )
