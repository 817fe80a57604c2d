"""A sheet of spectrograms: for each class a real clip beside generated ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt

from soundctm_training.evaluation.log_mel import log_mel

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def write_sheet(
    path: Path, columns: Sequence[str], rows: Mapping[str, Sequence[npt.NDArray[np.float32]]]
) -> None:
    """Writes a PNG with one row of log-mel spectrograms per key of `rows`, one clip per column."""
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(3.2 * len(columns), 1.25 * len(rows)), squeeze=False, layout="constrained"
    )
    for line, (name, clips) in zip(axes, rows.items(), strict=True):
        for axis, clip in zip(line, clips, strict=True):
            mel = log_mel(clip).numpy()
            axis.imshow(mel, origin="lower", aspect="auto", vmin=-16, vmax=0, cmap="magma", interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=7)
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(column, fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)
