"""A process's memory over time, and whether it grows."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import theilslopes

_PERIODS = 24
_CONFIDENCE = 0.95
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Slope:
    """Megabytes per hour; the true one lies between `low` and `high` with a probability of 95 %."""

    mb_per_hour: float
    low: float
    high: float


def resident_mb(pid: int) -> float:
    """What the process holds in memory now, as Linux counts it."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


def slope(samples: Sequence[tuple[float, float]]) -> Slope:
    """Of at least 24 samples (seconds, megabytes): the Theil-Sen estimator and its interval from ranks, over the
    medians of 24 periods. What a process holds now is nearly what it held a second ago: single samples are not
    independent of each other, and a line through them would seem surer than it is."""
    bounds = [round(len(samples) * period / _PERIODS) for period in range(_PERIODS + 1)]
    periods = [samples[begin:end] for begin, end in itertools.pairwise(bounds)]
    hours = [statistics.median(seconds for seconds, _ in period) / _SECONDS_PER_HOUR for period in periods]
    megabytes = [statistics.median(size for _, size in period) for period in periods]
    found = theilslopes(megabytes, hours, _CONFIDENCE)
    return Slope(float(found[0]), float(found[2]), float(found[3]))
