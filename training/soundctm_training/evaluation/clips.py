"""Labelled real and synthesised clips for the classifier, drawn from seeds that training never used."""

from collections.abc import Sequence

import numpy as np
import torch

from soundctm_training.evaluation.classifier import LabelledMels
from soundctm_training.evaluation.log_mel import log_mel
from soundctm_training.synth.catalogue import Sound, render
from soundctm_training.synth.recordings import RecordingLibrary

RECORDING_SHARE = 0.12


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
