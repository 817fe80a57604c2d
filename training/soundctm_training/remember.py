"""`soundctm train remember`: a network's weights with a memory of its texts, to distil from or to assemble."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track

from soundctm.text.pooling import sentence_embedding
from soundctm_training.config import ConfigError, TrainingConfig, need
from soundctm_training.data.texts import BatchedText
from soundctm_training.encode import batched_text_encoder
from soundctm_training.familiar import Embeddings, captions_by_label, catalogue_captions
from soundctm_training.files import read_network
from soundctm_training.memory import Texts, remembering
from soundctm_training.runs import write_weights
from soundctm_training.synth.captions import class_wordings

logger = logging.getLogger(__name__)


def remember(config: TrainingConfig, weights: Path, labels: Sequence[str], out: Path) -> None:
    """Write the weights of a teacher or a student with a memory of the synthesiser's `labels`. One that they hold
    already is made anew: the map that it is made by does not train. Raises ConfigError, RunError."""
    text = need(config.text, "text", config)
    if text.remembered < 1:
        raise ConfigError(
            f"text.remembered is {text.remembered}; say how many kinds of captions of each class are to be remembered"
        )
    if text.phrases < 0:
        raise ConfigError(
            f"text.phrases is {text.phrases}; say by how many phrases of each class the memory is found, 0 for none"
        )
    network = read_network(need(config.network, "network", config), weights)
    encoder = batched_text_encoder()
    captions = captions_by_label(pair for pair in catalogue_captions() if pair[1] in set(labels))
    by_label = {
        label: _texts(known, class_wordings().get(label, ()), encoder)
        for label, known in track(captions.items(), description="reading wordings")
    }
    found = remembering(network, by_label, _embedded([""], encoder), text.remembered, text.phrases)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_weights(out, found.state_dict())
    logger.info("%s: remembers %d texts", out, found.spec.text_memory)


def _texts(captions: Sequence[str], wordings: Sequence[str], encoder: BatchedText) -> Texts:
    known = _embedded(captions, encoder)
    return Texts(known, np.concatenate([known, _embedded(wordings, encoder)]) if wordings else known)


def _embedded(texts: Sequence[str], encoder: BatchedText) -> Embeddings:
    """Unit embeddings [N, D]."""
    found: Embeddings = sentence_embedding(*encoder.encode(texts)).numpy()
    return found
