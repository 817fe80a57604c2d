"""What every text encoder is to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from soundctm.text.tokens import PromptTokenizer


class TextEncoder(Protocol):
    """Prompts -> tokens. A prompt's rows do not depend on which prompts are encoded beside it."""

    @property
    def network(self) -> nn.Module: ...

    @property
    def tokenize(self) -> PromptTokenizer: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def dim(self) -> int: ...

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(tokens float32 [B, max_tokens, dim], mask bool [B, max_tokens], True = keep)."""
        ...
