"""Prompt -> padded token ids, from a tokenizer.json. No torch here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from soundctm.errors import BundleError


class PromptIds:
    """Ids of one prompt, cut and padded to `max_tokens`. Special tokens come from the file's own template."""

    def __init__(self, tokenizer_json: Path, max_tokens: int, pad_id: int) -> None:
        """Raises BundleError when the file is absent or is not a tokenizer."""
        try:
            text = tokenizer_json.read_text(encoding="utf-8")
            self._tokenizer = Tokenizer.from_str(text)
        # the tokenizers library raises plain Exception for text it cannot parse
        except Exception as error:
            raise BundleError(
                f"{tokenizer_json} is not a usable tokenizer: {error}. Install the bundle again."
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self.max_tokens = max_tokens
        self.pad_id = pad_id

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def arrays(self, prompt: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(ids [1, max_tokens], mask [1, max_tokens], True = real)."""
        ids = self._tokenizer.encode(prompt).ids
        padded = ids + [self.pad_id] * (self.max_tokens - len(ids))
        return np.array([padded], np.int64), (np.arange(self.max_tokens) < len(ids))[None]
