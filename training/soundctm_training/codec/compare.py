"""Codecs side by side on clips none of them was trained on: `python -m soundctm_training.codec.compare`.

Clips are synthesised class by class from a seed of their own; a classifier judges them as they are and after each
codec. Give codecs as NAME=FOLDER, the folder being a bundle or a run of `soundctm train codec`.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundctm.bundle import MANIFEST
from soundctm.codecs.protocol import Codec
from soundctm_training.codec.description import open_codec
from soundctm_training.codec.report import codec_report, reconstructions
from soundctm_training.codec.settings import CodecTrainingError
from soundctm_training.config import TrainingConfig
from soundctm_training.evaluation.classifier import SoundClassifier, load_classifier
from soundctm_training.evaluation.clips import labelled_sound
from soundctm_training.evaluation.judging import run_config
from soundctm_training.evaluation.metrics import accuracy
from soundctm_training.runs import write_whole

logger = logging.getLogger(__name__)

_FRAME_SAMPLES = 1024


def held_out_clips(labels: Sequence[str], per_label: int, seed: int, samples: int) -> tuple[Tensor, list[int]]:
    """Clips float32 [labels * per_label, samples] and the index of each one's label."""
    targets = [target for target in range(len(labels)) for _ in range(per_label)]
    clips = [labelled_sound(labels[target], seed, index, samples).audio for index, target in enumerate(targets)]
    return torch.from_numpy(np.stack(clips)), targets


def top1(classifier: SoundClassifier, clips: NDArray[np.float32], targets: Sequence[int]) -> dict[str, float | int]:
    """Share of clips [n, samples] recognised, with its standard error over classes."""
    posteriors = np.stack([classifier.probabilities(clip) for clip in clips]).astype(np.float64)
    return accuracy(posteriors, targets, targets)["top1"].to_json()


def compare_codecs(
    codecs: Mapping[str, Codec], clips: Tensor, targets: Sequence[int], classifier: SoundClassifier
) -> dict[str, Any]:
    """A row per codec beside that of the clips themselves."""
    rows: dict[str, Any] = {"real": {"classified": top1(classifier, clips.numpy(), targets)}}
    for name, codec in codecs.items():
        again = reconstructions(codec, clips)
        sizes = {"parameters": sum(parameter.numel() for parameter in codec.parameters())}
        report = asdict(codec_report(codec, clips, again))
        rows[name] = {**report, "classified": top1(classifier, again.numpy(), targets), **sizes}
        logger.info("%s: %s", name, rows[name])
    return {"kind": "codecs", "rows": rows}


def _open(entry: str) -> tuple[str, Codec]:
    name, found, path = entry.partition("=")
    folder = Path(path)
    if not found or not folder.is_dir():
        raise CodecTrainingError(f"{entry!r} is no NAME=FOLDER with a folder that exists")
    config = TrainingConfig(name) if (folder / MANIFEST).is_file() else run_config(folder)
    return name, open_codec(folder, config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codecs", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--classifier", type=Path, required=True, help="classifier.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the table")
    parser.add_argument("--per-label", type=int, default=4, help="clips of every class the classifier knows")
    parser.add_argument("--frames", type=int, default=216, help="length of a clip, in frames of 1024 samples")
    parser.add_argument("--seed", type=int, default=60_001, help="of the clips; no training may have used it")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    codecs, classifier = dict(map(_open, arguments.codecs)), load_classifier(arguments.classifier)
    samples = arguments.frames * _FRAME_SAMPLES
    clips, targets = held_out_clips(classifier.labels, arguments.per_label, arguments.seed, samples)
    table = compare_codecs(codecs, clips, targets, classifier)
    text = json.dumps({**table, "seed": arguments.seed, "frames": arguments.frames}, indent=1) + "\n"
    write_whole(arguments.out, lambda aside: aside.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
