"""The report's figures, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from soundctm_training.evaluation.groups import Groups, at, values
from soundctm_training.evaluation.results import Metric, Result

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

_DPI = 110
_TIMES = ("step", "seconds", "cpu_seconds", "rate")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DPI, format="png", metadata={"Software": ""})
    plt.close(figure)
    return buffer.getvalue()


def over_jumps(groups: Groups, jumps: Sequence[int], metrics: Sequence[Metric]) -> bytes:
    """One panel per metric, one line per variant, error bars over seeds."""
    figure, axes = plt.subplots(1, len(metrics), figsize=(3.6 * len(metrics), 3.4), squeeze=False, layout="constrained")
    for axis, metric in zip(axes[0], metrics, strict=True):
        for variant, students in groups.students.items():
            points = []
            for count in jumps:
                known = [value for value in values(students, at(count), metric) if value is not None]
                if known:
                    error = np.std(known, ddof=1) / np.sqrt(len(known)) if len(known) > 1 else 0.0
                    points.append((count, float(np.mean(known)), float(error)))
            if points:
                x, y, error_bars = zip(*points, strict=True)
                axis.errorbar(x, y, yerr=error_bars, marker="o", markersize=3, capsize=2, label=str(variant))
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(jumps), [str(count) for count in jumps])
        axis.set(xlabel="jumps", title=metric.name)
    axes[0][0].legend(fontsize=6)
    return _png(figure)


def heat_maps(
    students: Sequence[Result],
    steps: Sequence[int],
    omegas: Sequence[float],
    nus: Sequence[float],
    metrics: Sequence[Metric],
) -> bytes:
    """omega against nu, a row of panels per metric and a column per number of jumps; mean over the students."""
    shape = (len(metrics), len(steps))
    figure, axes = plt.subplots(*shape, figsize=(3.2 * shape[1], 2.6 * shape[0]), squeeze=False, layout="constrained")
    for line, metric in zip(axes, metrics, strict=True):
        for axis, count in zip(line, steps, strict=True):
            grid = np.full((len(omegas), len(nus)), np.nan)
            for i, omega in enumerate(omegas):
                for j, nu in enumerate(nus):
                    known = [v for v in values(students, at(count, omega=omega, nu=nu), metric) if v is not None]
                    grid[i, j] = np.mean(known) if known else np.nan
            axis.imshow(grid, cmap="Blues" if metric.higher_is_better else "Blues_r", aspect="auto")
            middle = float(np.nanmean(grid)) if np.isfinite(grid).any() else 0.0
            for (i, j), value in np.ndenumerate(grid):
                if np.isfinite(value):
                    dark = (value > middle) == metric.higher_is_better
                    axis.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=7, color="w" if dark else "k")
            axis.set_xticks(range(len(nus)), [f"{nu:g}" for nu in nus])
            axis.set_yticks(range(len(omegas)), [f"{omega:g}" for omega in omegas])
            axis.set(xlabel="nu", ylabel="omega", title=f"{metric.name}, {count} jump{'s' if count > 1 else ''}")
    return _png(figure)


def bars(title: str, heights: Mapping[str, float]) -> bytes:
    """One bar per name."""
    figure, axis = plt.subplots(figsize=(1.0 + 0.9 * len(heights), 3.0), layout="constrained")
    axis.bar(range(len(heights)), list(heights.values()), color="#4878a8")
    axis.set_xticks(range(len(heights)), list(heights), fontsize=7)
    axis.set_title(title, fontsize=9)
    return _png(figure)


def training_curves(results: Sequence[Result]) -> bytes | None:
    """One panel per reported number, one line per run. None where no run kept metrics."""
    runs = [result for result in results if result.metrics]
    names = list(dict.fromkeys(key for run in runs for row in run.metrics for key in row if key not in _TIMES))
    if not names:
        return None
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4 * columns, 2.6 * lines), squeeze=False, layout="constrained")
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        for run in runs:
            points = [(row["step"], row[name]) for row in run.metrics if name in row]
            if points:
                axis.plot(*zip(*points, strict=True), linewidth=0.8, label=run.folder.name)
        axis.set(title=name, xlabel="step")
        if all(value > 0 for run in runs for row in run.metrics if (value := row.get(name)) is not None):
            axis.set_yscale("log")
    axes[0][0].legend(fontsize=5)
    return _png(figure)
