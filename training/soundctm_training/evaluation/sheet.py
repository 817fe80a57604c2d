"""Spectrograms to look at: one clip's, and a sheet with a real clip beside generated ones in every row."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt

from soundctm_training.evaluation.log_mel import log_mel

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_QUIETEST, _LOUDEST = -16, 0  # natural log of band power: 70 dB of range


def write_sheet(
    path: Path, columns: Sequence[str], rows: Mapping[str, Sequence[npt.NDArray[np.float32]]]
) -> None:
    """Writes a PNG with one row of log-mel spectrograms per key of `rows`, one clip per column."""
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(3.2 * len(columns), 1.25 * len(rows)), squeeze=False, layout="constrained"
    )
    for line, (name, clips) in zip(axes, rows.items(), strict=True):
        for axis, clip in zip(line, clips, strict=True):
            axis.imshow(
                log_mel(clip).numpy(), origin="lower", aspect="auto", vmin=_QUIETEST, vmax=_LOUDEST, cmap="magma",
                interpolation="nearest",
            )
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=7)
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(column, fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def write_spectrogram(path: Path, clip: npt.NDArray[np.float32]) -> None:
    """One clip's log-mel spectrogram as a PNG, low bands at the bottom: a pixel per frame and three per band."""
    mel = np.repeat(log_mel(clip).numpy(), 3, axis=0)
    plt.imsave(path, mel, origin="lower", vmin=_QUIETEST, vmax=_LOUDEST, cmap="magma")
