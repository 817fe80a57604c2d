"""What runs a bundle. One protocol for PyTorch and, later, exported graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from soundctm.engines.costs import Costs
from soundctm.familiarity import Familiarity
from soundctm.spec import BundleSpec

Floats = NDArray[np.float32]


class Engine(Protocol):
    """Arrays (`Any` below) are the engine's own kind, on its own device; they support +, - and * with themselves
    and with floats. `text` handles are opaque: one per prompt, made once, usable for any number of jumps.
    """

    name: str  # of its row in the table of engines; "" where it was not chosen from it

    @property
    def spec(self) -> BundleSpec: ...

    @property
    def digest(self) -> str:
        """Digest of the bundle: part of every recipe."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Of its weights, on whatever device they are."""
        ...

    def encode_text(self, prompts: Sequence[str]) -> list[Any]:
        """One handle per prompt, cached by prompt."""
        ...

    def familiarity(self, prompt: str) -> Familiarity | None:
        """How near the prompt lies to what the bundle was trained on; None where the bundle does not say."""
        ...

    def embed(self, prompts: Sequence[str]) -> Floats:
        """One vector of unit length per prompt, float32 [N, D]: the cosine of two says how near their prompts lie. Only
        vectors of one bundle may be compared."""
        ...

    def array(self, values: Floats) -> Any:
        """Bring values to the engine's device."""
        ...

    def stack(self, rows: Sequence[Any]) -> Any:
        """Arrays [1, ...] of one shape -> [B, ...]."""
        ...

    def jump(self, z: Any, t: Sequence[float], s: Sequence[float], omega: Sequence[float], text: Sequence[Any]) -> Any:
        """G (eq. 6) for a batch: z [B, C, T], one t, s, omega and text handle per row -> [B, C, T].

        Returns when the device has computed it. Raises OutOfMemoryError.
        """
        ...

    def decode(self, z: Any, seeds: Sequence[int]) -> Floats:
        """Latents [B, C, T] -> audio float32 [B, channels, T * hop]; a decoder's own noise comes from the seeds.

        Raises OutOfMemoryError.
        """
        ...

    def decode_tiles(self, frames: int) -> int:
        """In how many tiles a clip of so many latent frames is decoded. They cost about the same."""
        ...

    def decode_tile(
        self, z: Any, seeds: Sequence[int], index: int, carries: Sequence[Any]
    ) -> tuple[Floats, list[Any]]:
        """Tile `index` of whole latents [B, C, T]: the samples that `decode` gives there, float32 [B, channels, part].

        Tiles are decoded in order; `carries` are what the tile before gave, one per row (None before the first).
        Raises OutOfMemoryError.
        """
        ...

    def costs(self) -> Costs:
        """What jumps and tiles take on this device; measured at the first call."""
        ...

    def encode(self, audio: Floats, seeds: Sequence[int]) -> Any:
        """Audio float32 [B, channels, samples] -> latents [B, C, T] of standard deviation sigma_data."""
        ...
