"""The portable random stream: the seed alone fixes the noise, on every device and for every batch size.

Philox 4x64 is specified bit for bit (Salmon et al. 2011) and NumPy guarantees the raw stream of its bit generators,
not that of its distributions; the normal transform is therefore ours (Box-Muller in float64, rounded to float32).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

SEED_MAX = 2**32 - 1
_NORMALS_PER_BLOCK = 4  # of Philox 4x64, whose counter `advance` moves


class Stream(IntEnum):
    """Independent streams of one seed. Numbers are part of the recipe's meaning: never renumber."""

    START = 0    # the noise a trajectory starts from
    STEP = 1     # noise added after a jump; the jump's index picks the sub-stream
    DECODER = 2  # the decoder's noise branch
    ENCODER = 3  # the draw from a codec's posterior


def standard_normal(
    seed: int, stream: Stream, index: int, shape: tuple[int, int], first_frame: int = 0
) -> NDArray[np.float32]:
    """Standard normals [channels, frames], those of `first_frame` and after.

    Frames are drawn one after the other, so a longer clip begins with the noise of a shorter one of the same seed,
    and a piece of a clip has the noise that the whole clip has there.
    Raises ValueError when the seed is outside 0 .. 2**32 - 1.
    """
    if not 0 <= seed <= SEED_MAX:
        raise ValueError(f"seed is {seed}; allowed: 0 to {SEED_MAX}")
    channels, frames = shape
    block, skipped = divmod(channels * first_frame, _NORMALS_PER_BLOCK)
    count = skipped + channels * frames
    pairs = (count + 1) // 2
    philox = np.random.Philox(key=[seed, (int(stream) << 32) | index])
    raw = philox.advance(block).random_raw(2 * pairs)
    # 53 random bits each; u1 lies in (0, 1] so that its logarithm is finite
    u1 = ((raw[0::2] >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53
    u2 = (raw[1::2] >> np.uint64(11)).astype(np.float64) * 2.0**-53
    radius, angle = np.sqrt(-2.0 * np.log(u1)), 2.0 * np.pi * u2
    normals = np.empty(2 * pairs, dtype=np.float64)
    normals[0::2] = radius * np.cos(angle)
    normals[1::2] = radius * np.sin(angle)
    return np.ascontiguousarray(normals[skipped:count].astype(np.float32).reshape(frames, channels).T)
