"""Clips of any length -> pieces of the few lengths that latents are kept in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from soundctm_training.data.clips import Audio, Clip


@dataclass(frozen=True)
class Piece:
    """`frames` latent frames of item `item`, from `start_samples` on: audio float32 [frames * hop], zeros at its end.

    `number` counts the pieces of one item.
    """

    item: int
    number: int
    frames: int
    start_samples: int
    audio: Audio
    caption: str
    name: str
    thing: str


def cuts(frames: int, lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(start, length) of the pieces of a clip, in latent frames.

    A clip longer than the longest length gives several of them; what is left, and any shorter clip, goes to the
    nearest length, cut or padded. A rest of less than half the shortest length is dropped.
    """
    longest, shortest = max(lengths), min(lengths)
    start = 0
    while frames - start > longest:
        yield start, longest
        start += longest
    rest = frames - start
    if start == 0 or 2 * rest >= shortest:
        yield start, min(lengths, key=lambda length: (abs(length - rest), -length))  # of two as near, the longer


def cut(clip: Clip, item: int, lengths: Sequence[int], hop_samples: int) -> Iterator[Piece]:
    """The pieces of a clip; silent ones too."""
    frames = -(-len(clip.audio) // hop_samples)
    for number, (start, length) in enumerate(cuts(frames, lengths)):
        first = start * hop_samples
        audio = np.zeros(length * hop_samples, np.float32)
        part = clip.audio[first : first + len(audio)]
        audio[: len(part)] = part
        yield Piece(item, number, length, first, audio, clip.caption, clip.name, clip.thing)
