"""One block of a source's items -> latents. A function of the block's number alone: blocks may be made in any order,
by any process, and again."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm_training.data.clips import SAMPLE_RATE_HZ, DataError, Reason, Skipped
from soundctm_training.data.codecs import EncodingCodec
from soundctm_training.data.mixing import mix_batch
from soundctm_training.data.pieces import Piece, cut
from soundctm_training.data.settings import EncodeSettings
from soundctm_training.data.shards import Block
from soundctm_training.data.sources import Source

_MIX_AMONG = 16  # clips that partners are drawn from
_SILENCE = 1e-3  # of full scale: a piece of a longer clip whose peak stays below is left out


@dataclass
class _Row:
    """What has been made of one length so far; `pieces` are those encoded, without their mixes."""

    pieces: int = 0
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
                if len(row.waiting) >= self._group(piece.frames):
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
        waves = torch.from_numpy(np.stack([piece.audio for piece in pieces]))
        lines = [
            {"caption": one.caption, "name": one.name, "start_samples": one.start_samples, "thing": one.thing}
            for one in pieces
        ]
        seeds = [(self.settings.seed, piece.item, piece.number, 0) for piece in pieces]
        mixed, captions = self._mix(waves, pieces, row)
        first = seeds[0][:3]
        seeds += [(*first, place) for place in range(1, len(captions) + 1)]
        lines += [
            {"caption": caption, "name": f"mix {place} beside {pieces[0].name}", "start_samples": 0, "thing": ""}
            for place, caption in enumerate(captions)
        ]
        size = self._batch(pieces[0].frames)
        for start in range(0, len(lines), size):
            some = slice(start, start + size)
            row.latents.append(self._latents(torch.cat([waves, mixed])[some], seeds[some], lines[some]))
        row.lines.extend(lines)

    def _batch(self, frames: int) -> int:
        return max(1, self.settings.batch_frames // frames)

    def _group(self, frames: int) -> int:
        """Pieces of one length that wait for one another; those that are to be mixed wait for a choice of partners."""
        return max(self._batch(frames), _MIX_AMONG if self.settings.mix_share > 0 else 1)

    def _mix(self, waves: Tensor, pieces: Sequence[Piece], row: _Row) -> tuple[Tensor, list[str]]:
        """Mixes of a group: over all groups of a length, `mix_share` per piece."""
        share, before = self.settings.mix_share, row.pieces
        row.pieces += len(pieces)
        count = int(row.pieces * share) - int(before * share)
        rng = random.Random(f"{self.settings.seed} {pieces[0].item} {pieces[0].number}")
        return mix_batch(waves, [piece.caption for piece in pieces], count, rng, SAMPLE_RATE_HZ)

    def _latents(
        self, waves: Tensor, seeds: Sequence[Sequence[int]], lines: Sequence[Mapping[str, Any]]
    ) -> NDArray[np.float16]:
        with torch.inference_mode():
            latent = self.codec.encode(waves.to(self.device), seeds, self.settings.posterior).float().cpu().numpy()
        with np.errstate(over="ignore"):  # an overflow is the error below
            stored: NDArray[np.float16] = latent.astype(np.float16)
        broken = [str(line["name"]) for line, one in zip(lines, stored, strict=True) if not np.isfinite(one).all()]
        if broken:
            raise DataError(
                f"the codec's latents of {', '.join(broken[:5])} are not finite in half precision (largest "
                f"{float(np.abs(latent).max()):g}); the codec is broken or of another scale"
            )
        return stored
