"""Orderings: what the paper found beside what was found here, and a stated rule for saying which holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from soundctm_training.evaluation.results import Metric

RULE = (
    "Differences are paired: the same student seed (or the same student, between its own settings) on the same "
    "prompts, seeds and noise. An ordering counts as **reproduced** when the mean difference has the paper's sign and "
    "exceeds 2 standard errors of the paired differences, **not reproduced** when it exceeds them with the other "
    "sign, **within error** otherwise. Where the paper finds no difference, within error is reproduced and anything "
    "beyond 2 standard errors is not. With fewer than two pairs the standard error is unknown: **undecided**. The "
    "rule speaks of other student seeds on these prompts, not of other prompts, and of few seeds: 2 standard errors of "
    "three pairs are exceeded by chance about one time in five."
)


class Expected(Enum):
    """What the paper finds of a against b."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "comparable"


class Verdict(Enum):
    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    WITHIN_ERROR = "within error"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences a - b, its standard error (NaN for one pair), and the number of pairs."""

    mean: float
    standard_error: float
    pairs: int


@dataclass(frozen=True)
class Finding:
    claim: str
    metric: Metric
    paper: str
    difference: Difference
    verdict: Verdict

    @property
    def found(self) -> str:
        """The difference in words and numbers, in the metric's own units."""
        mean, error, pairs = self.difference.mean, self.difference.standard_error, self.difference.pairs
        if pairs == 0:
            return "not measured"
        spread = f" ± {error:.3g}" if math.isfinite(error) else ""
        return f"{mean:+.3g}{spread} ({pairs} pair{'s' if pairs > 1 else ''})"


def difference(a: Sequence[float | None], b: Sequence[float | None]) -> Difference:
    """Of pairs in which both are known."""
    pairs = [x - y for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if not pairs:
        return Difference(math.nan, math.nan, 0)
    error = float(np.std(pairs, ddof=1) / math.sqrt(len(pairs))) if len(pairs) > 1 else math.nan
    return Difference(float(np.mean(pairs)), error, len(pairs))


def verdict(found: Difference, metric: Metric, expected: Expected) -> Verdict:
    """By RULE."""
    if found.pairs < 2:
        return Verdict.UNDECIDED
    beyond = abs(found.mean) > 2 * found.standard_error
    if expected is Expected.EQUAL:
        return Verdict.NOT_REPRODUCED if beyond else Verdict.REPRODUCED
    if not beyond:
        return Verdict.WITHIN_ERROR
    better = (found.mean > 0) == metric.higher_is_better
    return Verdict.REPRODUCED if better == (expected is Expected.BETTER) else Verdict.NOT_REPRODUCED


def compare(
    claim: str,
    metric: Metric,
    a: Sequence[float | None],
    b: Sequence[float | None],
    expected: Expected,
    paper: str,
) -> Finding:
    """The claim is about a against b; both hold one value per pair."""
    found = difference(a, b)
    return Finding(claim, metric, paper, found, verdict(found, metric, expected))
