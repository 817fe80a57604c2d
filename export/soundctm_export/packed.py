"""Weights in few bits, in blocks along the inputs, as ONNX Runtime's MatMulNBits takes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)  # ranges that are tried for every block: the ends cost the others accuracy


@dataclass(frozen=True)
class Packed:
    """Of weights [inputs, outputs]. `steps` uint8 [outputs, blocks, block bytes], low bits first; `scales` float32 and
    `zeros` uint8 (packed like the steps), block after block of one output after another."""

    steps: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zeros: NDArray[np.uint8]


def packed(weights: NDArray[np.float32], bits: int, block: int) -> Packed:
    """`bits` 4 or 8. Of each block's ranges the one with the smallest squared error."""
    inputs, outputs = weights.shape
    blocks = -(-inputs // block)
    padded = np.zeros((outputs, blocks * block), np.float32)
    padded[:, :inputs] = weights.T
    parts = padded.reshape(outputs, blocks, block)
    tried = [_rounded(parts, bits, share) for share in _SHRUNK]
    best = np.argmin([error for error, *_ in tried], axis=0)
    steps, scales, zeros = (
        np.choose(best.reshape(best.shape + (1,) * (tried[0][field].ndim - 2)), [entry[field] for entry in tried])
        for field in (1, 2, 3)
    )
    return Packed(_joined(steps, bits), scales.astype(np.float32).reshape(-1), _joined(zeros, bits).reshape(-1))


def _rounded(parts: NDArray[np.float32], bits: int, share: float) -> tuple[NDArray[np.generic], ...]:
    """Squared error [outputs, blocks], steps, scales and zeros, where ranges are so much narrower."""
    top = 2**bits - 1
    low, high = (np.float32(share) * edge for edge in (parts.min(2).clip(max=0), parts.max(2).clip(min=0)))
    scales = np.maximum((high - low) / np.float32(top), np.finfo(np.float32).tiny)
    zeros = np.rint(-low / scales).clip(0, top)
    steps = (np.rint(parts / scales[..., None]) + zeros[..., None]).clip(0, top)
    error = np.square((steps - zeros[..., None]) * scales[..., None] - parts).sum(2)
    return error, steps.astype(np.uint8), scales, zeros.astype(np.uint8)


def _joined(values: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    """Two values of 4 bits in a byte along the last axis; an odd one has a zero beside it."""
    small = np.asarray(values, np.uint8)
    if bits == 8:
        return small
    if small.shape[-1] % 2:
        small = np.concatenate([small, np.zeros((*small.shape[:-1], 1), np.uint8)], axis=-1)
    return np.asarray(small[..., 0::2] | small[..., 1::2] << 4, np.uint8)
