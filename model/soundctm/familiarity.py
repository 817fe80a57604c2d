"""How near a prompt lies to what a bundle was trained on: a table of text embeddings beside the weights.

A bundle may hold FAMILIAR_FILE: unit text embeddings of things it was trained on, a label for each, and the similarity
below which a prompt counts as unfamiliar. Labels may be things it does not make as they sound: what lies nearer to one
of them than to anything it makes is unfamiliar, too. A bundle without the file has no opinion. No torch here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from soundctm.bundle import FAMILIAR_FILE, Bundle
from soundctm.errors import BundleError

_EMBEDDINGS = "embeddings"
_TABLE = "table"  # one note and not several, whose order in the file would be by chance
_LABELS, _THRESHOLD, _UNLIKE = "labels", "threshold", "unlike"


@dataclass(frozen=True)
class Familiarity:
    """The nearest known thing's `label` and its cosine similarity to the prompt, -1 to 1.

    `threshold` is the table's, or how near the prompt lies to something the model does not make, if that is more.
    """

    label: str
    similarity: float
    threshold: float

    @property
    def unfamiliar(self) -> bool:
        return self.similarity < self.threshold


@dataclass(frozen=True)
class FamiliarTable:
    """`embeddings` float32 [N, D] of unit length, `labels` [N]; `unlike`: those of them that it does not make."""

    embeddings: NDArray[np.float32]
    labels: tuple[str, ...]
    threshold: float
    unlike: frozenset[str] = frozenset()

    @property
    def known(self) -> frozenset[str]:
        return frozenset(self.labels) - self.unlike

    @cached_property
    def _made(self) -> NDArray[np.bool_]:
        return np.array([label not in self.unlike for label in self.labels])

    def nearest(self, embedding: NDArray[np.float32]) -> Familiarity:
        """Of a unit embedding [D]."""
        similarities = self.embeddings @ embedding
        best = int(np.where(self._made, similarities, -np.inf).argmax())
        elsewhere = float(similarities[~self._made].max(initial=-1.0))
        return Familiarity(self.labels[best], float(similarities[best]), max(self.threshold, elsewhere))


def write_familiar_table(table: FamiliarTable, path: Path) -> None:
    """In half precision: a cosine moves by less than 1e-3. The same table gives the same bytes."""
    notes = {_LABELS: table.labels, _THRESHOLD: table.threshold, _UNLIKE: sorted(table.unlike)}
    document = json.dumps(notes, ensure_ascii=False)
    save_file({_EMBEDDINGS: table.embeddings.astype(np.float16)}, path, {_TABLE: document})


def read_familiar_table(bundle: Bundle) -> FamiliarTable | None:
    """None where the bundle has none. Raises BundleError where it is not usable."""
    if FAMILIAR_FILE not in bundle.files:
        return None
    path = bundle.file(FAMILIAR_FILE)
    try:
        with safe_open(path, framework="numpy") as file:
            notes = json.loads((file.metadata() or {})[_TABLE])
            embeddings = file.get_tensor(_EMBEDDINGS).astype(np.float32)
        labels, threshold = tuple(str(label) for label in notes[_LABELS]), float(notes[_THRESHOLD])
        unlike = frozenset(str(label) for label in notes[_UNLIKE])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise BundleError(f"{path} is no table of familiar texts ({error}). Install the bundle again.") from error
    wanted = (len(labels), bundle.spec.text.dim)
    if embeddings.shape != wanted or not set(labels) - unlike:
        raise BundleError(
            f"{path} holds embeddings of shape {embeddings.shape}; its {len(labels)} labels and the bundle's text "
            f"encoder ask for {wanted}, with at least one row of a thing it makes. Install the bundle again."
        )
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all() and -1.0 <= threshold <= 1.0):
        raise BundleError(f"{path} holds vectors without direction, or a threshold that is no cosine: {threshold}.")
    return FamiliarTable(embeddings / lengths, labels, threshold, unlike)
