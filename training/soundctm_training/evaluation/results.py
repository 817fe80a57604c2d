"""Judged run folders, read back: what was trained, for how long, and what it was found to be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soundctm.errors import SoundCTMError
from soundctm_training.evaluation.judging import EVALUATION_FILE
from soundctm_training.evaluation.student import Kind
from soundctm_training.evaluation.variants import Variant, seed_of, variants_of
from soundctm_training.runs import CONFIG, METRICS

Row = Mapping[str, Any]


class ReportError(SoundCTMError):
    """Folders a report cannot be made of."""

    reason = "TRAINING_REPORT"


@dataclass(frozen=True)
class Metric:
    """A number of a row: where it stands, what it is called, and which way is better."""

    name: str
    path: tuple[str, ...]
    higher_is_better: bool = False

    def of(self, row: Row) -> float | None:
        """None where the row does not say."""
        return self._at(row, self.path)

    def error_of(self, row: Row) -> float | None:
        """Standard error over prompts, where the row says."""
        return self._at(row, (*self.path[:-1], "se")) if len(self.path) > 1 else None

    @staticmethod
    def _at(row: Row, path: Iterable[str]) -> float | None:
        value: Any = row
        for key in path:
            if not isinstance(value, Mapping) or value.get(key) is None:
                return None
            value = value[key]
        return float(value)


FRECHET = Metric("Fréchet ↓", ("frechet",))
KL = Metric("KL ↓", ("kl", "mean"))
TOP1 = Metric("top-1 ↑", ("top1", "rate"), higher_is_better=True)
TOP5 = Metric("top-5 ↑", ("top5", "rate"), higher_is_better=True)
QUALITY = (FRECHET, KL, TOP1, TOP5)
KEPT_EMBEDDING = Metric("embedding ↓", ("preservation", "embedding", "mean"))
KEPT_COURSE = Metric("course ↓", ("preservation", "course", "mean"))
KEPT_LSD = Metric("LSD dB ↓", ("preservation", "lsd_db", "mean"))
PRESERVATION = (KEPT_EMBEDDING, KEPT_COURSE, KEPT_LSD)


@dataclass(frozen=True)
class Result:
    """One judged folder. `config` is empty for a ceiling, which no run made."""

    folder: Path
    kind: Kind
    table: Mapping[str, Any]
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, float]]
    variant: Variant | None = None  # of a student

    @property
    def seed(self) -> int:
        return seed_of(self.config)

    @property
    def steps(self) -> int:
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def cpu_minutes(self) -> float:
        """What the process computed on all its cores; older runs kept wall-clock seconds alone."""
        last = self.metrics[-1] if self.metrics else {}
        return last.get("cpu_seconds", last.get("seconds", math.nan)) / 60

    def rows(self) -> Sequence[Row]:
        found: Sequence[Row] = self.table.get("rows", ())
        return found

    def row(
        self, steps: int, *, omega: float | None = None, nu: float = 1.0, gamma: float | None = None
    ) -> Row | None:
        """The row of a setting; None takes what the student was judged with. None where it was not judged.

        One jump adds no noise whatever gamma, so its row stands for all of them.
        """
        omega = self.table.get("omega") if omega is None else omega
        gamma = self.table.get("gamma", 0.0) if gamma is None else gamma
        for row in self.rows():
            same_gamma = row.get("gamma") == gamma or steps == 1
            if row["steps"] == steps and row["omega"] == omega and row.get("nu", 1.0) == nu and same_gamma:
                return row
        return None


def read_results(folders: Sequence[Path]) -> list[Result]:
    """Raises ReportError: no folders, one without evaluation.json, or folders judged on different benches."""
    if not folders:
        raise ReportError("no run folders; name at least one that was judged")
    results = [_read(folder) for folder in folders]
    benches: dict[str, Path] = {}
    for result in results:
        benches.setdefault(str(result.table["bench"]["digest"]), result.folder)
    if len(benches) > 1:
        raise ReportError(
            f"judged on different prompts, seeds or lengths: {', '.join(str(path) for path in benches.values())}; "
            "judge them again on one bench"
        )
    students = [result for result in results if result.kind is Kind.STUDENT]
    variants = variants_of([student.config for student in students])
    named = [replace(student, variant=variant) for student, variant in zip(students, variants, strict=True)]
    _require_own_seeds(named)
    return [*named, *(result for result in results if result.kind is not Kind.STUDENT)]


def _require_own_seeds(students: Sequence[Result]) -> None:
    """Raises ReportError for two students that nothing distinguishes: their differences could not be paired."""
    seen: dict[tuple[Variant | None, int], Path] = {}
    for student in students:
        other = seen.setdefault((student.variant, student.seed), student.folder)
        if other != student.folder:
            raise ReportError(
                f"{other} and {student.folder} are both '{student.variant}' of seed {student.seed}; leave one out, or "
                "train them with seeds of their own"
            )


def _read(folder: Path) -> Result:
    path = folder / EVALUATION_FILE
    if not path.is_file():
        raise ReportError(f"{folder} holds no {EVALUATION_FILE}; judge it first: `soundctm train evaluate`")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        kind = Kind(table["kind"])
        str(table["bench"]["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(f"{path} is no evaluation of ours ({error!r}); judge the folder again") from error
    config, metrics = folder / CONFIG, folder / METRICS
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    return Result(
        folder,
        kind,
        table,
        json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {},
        [json.loads(line) for line in lines if line.strip()],
    )
