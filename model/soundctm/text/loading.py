"""The text encoder a bundle's spec names."""

from __future__ import annotations

from soundctm.bundle import TEXT_FILE, TOKENIZER_FILE, Bundle
from soundctm.networks.loading import read_tensors
from soundctm.spec import TextKind
from soundctm.text.protocol import TextEncoder


def load_text_encoder(bundle: Bundle) -> TextEncoder:
    """Raises TensorMismatchError or BundleError. Only the encoder asked for is imported."""
    tensors, tokenizer = read_tensors(bundle.file(TEXT_FILE)), bundle.file(TOKENIZER_FILE)
    if bundle.spec.text.kind is TextKind.CLAP:
        from soundctm.text.clap import ClapText

        return ClapText(bundle.spec.text, tensors, tokenizer)
    from soundctm.text.minilm import MiniLMText

    return MiniLMText(bundle.spec.text, tensors, tokenizer)
