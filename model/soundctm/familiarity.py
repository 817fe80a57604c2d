"""How near a prompt lies to what a bundle was trained on: a table of text embeddings beside the weights.

A bundle may hold FAMILIAR_FILE: unit text embeddings of things it was trained on, a label for each, and the similarity
below which a prompt counts as unfamiliar. A bundle without it has no opinion. No torch here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from soundctm.bundle import FAMILIAR_FILE, Bundle
from soundctm.errors import BundleError

_EMBEDDINGS = "embeddings"
_LABELS, _THRESHOLD = "labels", "threshold"


@dataclass(frozen=True)
class Familiarity:
    """The nearest known thing's `label` and its cosine similarity to the prompt, -1 to 1."""

    label: str
    similarity: float
    threshold: float

    @property
    def unfamiliar(self) -> bool:
        return self.similarity < self.threshold


@dataclass(frozen=True)
class FamiliarTable:
    """`embeddings` float32 [N, D] of unit length, `labels` [N]."""

    embeddings: NDArray[np.float32]
    labels: tuple[str, ...]
    threshold: float

    def nearest(self, embedding: NDArray[np.float32]) -> Familiarity:
        """Of a unit embedding [D]."""
        similarities = self.embeddings @ embedding
        best = int(similarities.argmax())
        return Familiarity(self.labels[best], float(similarities[best]), self.threshold)


def write_familiar_table(table: FamiliarTable, path: Path) -> None:
    """In half precision: a cosine moves by less than 1e-3."""
    notes = {_LABELS: json.dumps(table.labels, ensure_ascii=False), _THRESHOLD: repr(table.threshold)}
    save_file({_EMBEDDINGS: table.embeddings.astype(np.float16)}, path, notes)


def read_familiar_table(bundle: Bundle) -> FamiliarTable | None:
    """None where the bundle has none. Raises BundleError where it is not usable."""
    if FAMILIAR_FILE not in bundle.files:
        return None
    path = bundle.file(FAMILIAR_FILE)
    try:
        with safe_open(path, framework="numpy") as file:
            notes = file.metadata() or {}
            embeddings = file.get_tensor(_EMBEDDINGS).astype(np.float32)
        labels, threshold = tuple(str(label) for label in json.loads(notes[_LABELS])), float(notes[_THRESHOLD])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise BundleError(f"{path} is no table of familiar texts ({error}). Install the bundle again.") from error
    wanted = (len(labels), bundle.spec.text.dim)
    if embeddings.shape != wanted or not labels:
        raise BundleError(
            f"{path} holds embeddings of shape {embeddings.shape}; its {len(labels)} labels and the bundle's text "
            f"encoder ask for {wanted}, with at least one row. Install the bundle again."
        )
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all() and -1.0 <= threshold <= 1.0):
        raise BundleError(f"{path} holds vectors without direction, or a threshold that is no cosine: {threshold}.")
    return FamiliarTable(embeddings / lengths, labels, threshold)
