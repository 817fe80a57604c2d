"""`soundctm train remember`: a network's weights with a memory of its texts, to distil from or to assemble."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from soundctm_training.config import ConfigError, TrainingConfig, need
from soundctm_training.encode import text_encoder
from soundctm_training.familiar import catalogue_captions, embed, embedded_by_label
from soundctm_training.files import read_network
from soundctm_training.memory import remembering
from soundctm_training.runs import write_weights

logger = logging.getLogger(__name__)


def remember(config: TrainingConfig, weights: Path, labels: Sequence[str], out: Path) -> None:
    """Write the weights of a teacher or a student with a memory of the synthesiser's `labels`. Raises ConfigError,
    RunError."""
    text = need(config.text, "text", config)
    if not text.remembered:
        raise ConfigError("text.remembered is 0; say how many kinds of wordings of each class are to be remembered")
    network = read_network(need(config.network, "network", config), weights)
    if network.text_memory is not None:
        raise ConfigError(f"{weights} remembers {network.spec.text_memory} texts already; give weights that do not")
    encoder = text_encoder()
    captions = [(caption, label) for caption, label in catalogue_captions() if label in set(labels)]
    found = remembering(network, embedded_by_label(captions, encoder), embed([""], encoder), text.remembered)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_weights(out, found.state_dict())
    logger.info("%s: remembers %d texts", out, found.spec.text_memory)
