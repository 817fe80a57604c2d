"""Prompt -> padded token ids, as tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from soundctm.text.prompt_ids import PromptIds


class PromptTokenizer(PromptIds):
    """Ids of one prompt, cut and padded to `max_tokens`."""

    def __call__(self, prompt: str) -> tuple[Tensor, Tensor]:
        """(ids int64 [1, max_tokens], mask bool [1, max_tokens], True = real)."""
        ids, mask = self.arrays(prompt)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def unpadded(self, prompt: str) -> tuple[Tensor, Tensor]:
        """The same without the padding, which attention masks away; most prompts are short."""
        ids, mask = self(prompt)
        length = max(1, int(mask.sum()))  # no ids at all: padding, for something must be encoded
        return ids[:, :length], mask[:, :length]
