"""The text table: every distinct caption once, encoded; row 0 is "", the unconditional text.

texts.json, things.json (what each is a wording of), tokens.npy float16 [texts, L, D], masks.npy bool [texts, L]. Parts
of it are kept until it is whole, so that a stopped encode goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm.text.encoder import Encoder
from soundctm.text.tokens import PromptTokenizer
from soundctm_training.runs import write_whole

TEXTS, THINGS, TOKENS, MASKS = "texts.json", "things.json", "tokens.npy", "masks.npy"
_PART_TEXTS = 1024
_TEXTS_AT_ONCE = 64


class TextEncoder(Protocol):
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokens [B, L, D], zero where padded, and masks [B, L], True where real."""


class BatchedText:
    """A token encoder that runs texts of one length together: without padding, and several times faster than one by
    one. Products of another batch size round differently, far below the half precision the table is kept in."""

    def __init__(self, network: Encoder, tokenize: PromptTokenizer) -> None:
        self.network, self.tokenize = network, tokenize

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids, masks = (torch.cat(tensors) for tensors in zip(*map(self.tokenize, prompts), strict=True))
        lengths = masks.sum(1)
        tokens = None
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            for some in rows.split(_TEXTS_AT_ONCE):
                hidden = self.network(ids[some, :length], masks[some, :length])
                if tokens is None:
                    tokens = hidden.new_zeros((*ids.shape, hidden.shape[-1]))
                tokens[some, :length] = hidden
        assert tokens is not None, "no prompts"
        return tokens, masks


def encode_texts(
    texts: Sequence[str], folder: Path, encoder: Callable[[], TextEncoder], advance: Callable[[int], object]
) -> None:
    """Write the table of `texts`. `encoder` is built only if something is left to encode; `advance` hears of progress.

    Raises RunError when a file cannot be written.
    """
    built: TextEncoder | None = None
    starts = range(0, len(texts), _PART_TEXTS)
    for start in starts:
        part, some = _part(folder, start), texts[start : start + _PART_TEXTS]
        if not _holds(part, some):
            built = encoder() if built is None else built
            tokens, masks = built.encode(some)
            _write_part(part, some, tokens.cpu().numpy().astype(np.float16), masks.cpu().numpy())
        advance(len(some))
    parts = [_part(folder, start) for start in starts]
    _merge(folder / MASKS, len(texts), (_load(part, "masks") for part in parts))
    _merge(folder / TOKENS, len(texts), (_load(part, "tokens") for part in parts))
    write_whole(folder / TEXTS, lambda path: path.write_text(json.dumps(list(texts)), encoding="utf-8"))
    for part in parts:
        part.unlink()


def _part(folder: Path, start: int) -> Path:
    return folder / f"texts_{start:08d}.npz"


def _holds(part: Path, texts: Sequence[str]) -> bool:
    return part.is_file() and _load(part, "texts").tolist() == list(texts)


def _load(part: Path, name: str) -> NDArray[np.generic]:
    with np.load(part) as file:
        array: NDArray[np.generic] = file[name]
        return array


def _write_part(part: Path, texts: Sequence[str], tokens: NDArray[np.float16], masks: NDArray[np.bool_]) -> None:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, texts=np.array(texts), tokens=tokens, masks=masks)

    write_whole(part, write)


def _merge(path: Path, rows: int, parts: Iterable[NDArray[np.generic]]) -> None:
    """One .npy file out of parts, never holding more than one of them."""

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            for number, part in enumerate(parts):
                if number == 0:
                    header = {"descr": part.dtype.str, "fortran_order": False, "shape": (rows, *part.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(part).tobytes())

    write_whole(path, write)
