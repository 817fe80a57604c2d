"""Students of one variant together: means over their seeds, and the parts of a report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from soundctm_training.evaluation.findings import Expected, Finding, compare
from soundctm_training.evaluation.results import Metric, Result, Row
from soundctm_training.evaluation.student import Kind
from soundctm_training.evaluation.variants import AT_S, CTM, TEACHER_DISTANCE, Variant

NOT_JUDGED = "n/a"

Pick = Callable[[Result], Row | None]  # one row of a student


@dataclass(frozen=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """`figures` are PNG files by name; `note` says what the paper did differently and how to read the table."""

    title: str
    note: str
    tables: tuple[Table, ...] = ()
    findings: tuple[Finding, ...] = ()
    figures: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Groups:
    """The judged folders, sorted. `students` by variant, each by seed."""

    students: Mapping[Variant, tuple[Result, ...]]
    teachers: tuple[Result, ...]
    ceilings: tuple[Result, ...]

    @property
    def reference(self) -> Variant | None:
        """The student the paper proposes: ctm with the teacher's features and DSM, at s where there is one."""
        proposed = [
            variant
            for variant in self.students
            if variant.method == CTM and variant.denoising and variant.distance.startswith(TEACHER_DISTANCE)
            and not variant.others
        ]
        return min(proposed, key=lambda variant: (variant.match != AT_S, variant), default=None)

    def pairs(self, a: Variant, b: Variant) -> list[tuple[Result, Result]]:
        """Students of both variants with the same seed."""
        by_seed = {student.seed: student for student in self.students.get(b, ())}
        return [(x, by_seed[x.seed]) for x in self.students.get(a, ()) if x.seed in by_seed]


def group(results: Sequence[Result]) -> Groups:
    students: dict[Variant, list[Result]] = {}
    for result in results:
        if result.variant is not None:
            students.setdefault(result.variant, []).append(result)
    by_seed = {name: tuple(sorted(students[name], key=lambda result: result.seed)) for name in sorted(students)}
    teachers = tuple(result for result in results if result.kind is Kind.TEACHER)
    return Groups(by_seed, teachers, tuple(result for result in results if result.kind is Kind.CEILING))


def values(students: Sequence[Result], pick: Pick, metric: Metric) -> list[float | None]:
    """One per student; None where it was not judged so."""
    rows = [pick(student) for student in students]
    return [None if row is None else metric.of(row) for row in rows]


def cell(students: Sequence[Result], pick: Pick, metric: Metric) -> str:
    """Mean ± standard error over seeds; of a single student the standard error over prompts, marked p."""
    known = [value for value in values(students, pick, metric) if value is not None]
    if not known:
        return NOT_JUDGED
    if len(known) > 1:
        return f"{np.mean(known):.3g} ± {np.std(known, ddof=1) / math.sqrt(len(known)):.2g}"
    rows = [row for row in map(pick, students) if row is not None]
    error = metric.error_of(rows[0])
    return f"{known[0]:.3g}" if error is None else f"{known[0]:.3g} ± {error:.2g} p"


def row_cell(row: Row, metric: Metric) -> str:
    """Of a row that no seeds repeat: a teacher's, a ceiling's."""
    value, error = metric.of(row), metric.error_of(row)
    if value is None:
        return NOT_JUDGED
    return f"{value:.3g}" if error is None else f"{value:.3g} ± {error:.2g} p"


def at(steps: int, *, omega: float | None = None, nu: float = 1.0, gamma: float | None = None) -> Pick:
    """The row of a setting; None takes what the student was judged with."""
    return lambda student: student.row(steps, omega=omega, nu=nu, gamma=gamma)


def within(
    students: Sequence[Result], a: Pick, b: Pick, claim: str, metric: Metric, expected: Expected, paper: str
) -> Finding:
    """Two settings of the same students, pair by pair."""
    return compare(claim, metric, values(students, a, metric), values(students, b, metric), expected, paper)


def between(
    groups: Groups, a: Variant, b: Variant, pick: Pick, claim: str, metric: Metric, expected: Expected, paper: str
) -> Finding:
    """Two variants in the same setting, seed by seed."""
    pairs = groups.pairs(a, b)
    sides = ([pair[index] for pair in pairs] for index in (0, 1))
    left, right = (values(side, pick, metric) for side in sides)
    return compare(claim, metric, left, right, expected, paper)
