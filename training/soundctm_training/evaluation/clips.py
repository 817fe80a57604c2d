"""Labelled real and synthesised clips for the classifier: freshly drawn, or from pools on the disk."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from soundctm.errors import SoundCTMError
from soundctm_training.evaluation.classifier_training import LabelledMels
from soundctm_training.evaluation.log_mel import log_mel
from soundctm_training.synth.catalogue import Sound, render
from soundctm_training.synth.recordings import RecordingLibrary

RECORDING_SHARE = 0.12
_PCM_SCALE = np.float32(32_767)
_CLIPS_AT_ONCE = 16


class PoolError(SoundCTMError):
    """Pools that a classifier cannot learn from."""

    reason = "EVALUATION_POOL"


def labelled_sound(
    label: str, seed: int, index: int, samples: int, recordings: RecordingLibrary | None = None
) -> Sound:
    """One clip of a class, from its recordings now and then where there are some."""
    rng = np.random.default_rng([seed, samples, index])
    if recordings is not None and label in recordings.groups and rng.random() < RECORDING_SHARE:
        return recordings.render(label, rng, samples)[0]
    return render(label, rng, samples)


def labelled_mels(
    labels: Sequence[str], per_label: int, seed: int, samples: int, recordings: RecordingLibrary | None = None
) -> LabelledMels:
    """`per_label` clips of every class as log-mels, class by class."""
    mels, targets = [], []
    for index in range(per_label * len(labels)):
        target = index // per_label
        sound = labelled_sound(labels[target], seed, index, samples, recordings)
        mels.append(log_mel(sound.audio).half())
        targets.append(target)
    return LabelledMels(torch.stack(mels), torch.tensor(targets))


def pool_lengths(folder: Path) -> list[int]:
    """Lengths in latent frames of the pools that `synthesise` wrote into a folder. Raises PoolError for none."""
    lengths = sorted(int(path.stem.split("_")[1]) for path in folder.glob("audio_*.npy"))
    if not lengths:
        raise PoolError(f"{folder} holds no audio_<frames>.npy; give a folder that `synthesise` wrote")
    return lengths


def pool_mels(folder: Path, frames: int, labels: Sequence[str], per_label: int) -> LabelledMels:
    """Log-mels of the first `per_label` clips of every class in a pool; mixtures of two classes are left out.

    Raises PoolError naming a class of which the pool holds none.
    """
    audio = np.load(folder / f"audio_{frames}.npy", mmap_mode="r")
    lines = (folder / f"meta_{frames}.jsonl").read_text(encoding="utf-8").splitlines()
    rows: dict[str, list[int]] = {label: [] for label in labels}
    for row, line in enumerate(lines):
        of_label = rows.get(json.loads(line)["label"])
        if of_label is not None and len(of_label) < per_label:
            of_label.append(row)
    absent = [label for label, of_label in rows.items() if not of_label]
    if absent:
        raise PoolError(f"the pool of {frames} frames in {folder} holds no clip of {', '.join(absent)}")
    chosen = sorted((row, target) for target, of_label in enumerate(rows.values()) for row in of_label)
    mels = []
    for first in range(0, len(chosen), _CLIPS_AT_ONCE):
        part = [row for row, _ in chosen[first : first + _CLIPS_AT_ONCE]]
        mels.append(log_mel(audio[part].astype(np.float32) / _PCM_SCALE).half())
    return LabelledMels(torch.cat(mels), torch.tensor([target for _, target in chosen]))
