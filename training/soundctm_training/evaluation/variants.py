"""What distinguishes one student from another of the same teacher, read from the runs' configurations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CTM = "ctm"
TEACHER_DISTANCE, AT_S, AT_ZERO = "teacher", "s", "0"
_NAMED = ("method", "distance", "match_point", "denoising_weight", "latent_weight", "seed")


@dataclass(frozen=True, order=True)
class Variant:
    """`distance` and `match` are of the ctm method; `denoising` says whether its DSM loss was on.

    `others` are options, written "key=value", in which it differs from most students of its method.
    """

    method: str
    distance: str = ""
    match: str = ""
    denoising: bool = True
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = self.method
        if self.method == CTM:
            named = f"{CTM}, {self.distance} at {self.match}" + ("" if self.denoising else ", no DSM")
        return ", ".join((named, *self.others))


def variants_of(configs: Sequence[Mapping[str, Any]]) -> list[Variant]:
    """One per student, in order; what is usual is judged among the students of the same method."""
    tables = [config.get("distillation") or {} for config in configs]
    methods = [str(table.get("method", CTM)) for table in tables]
    usual = {
        method: _usual([table for table, its in zip(tables, methods, strict=True) if its == method])
        for method in set(methods)
    }
    return [_variant(table, method, usual[method]) for table, method in zip(tables, methods, strict=True)]


def seed_of(config: Mapping[str, Any]) -> int:
    """What the student's own training drew from."""
    table: Mapping[str, Any] = config.get("distillation") or {}
    return int(table.get("seed", config.get("seed", 0)))


def _variant(table: Mapping[str, Any], method: str, usual: Mapping[str, str]) -> Variant:
    options = dict(_options(table))
    others = tuple(f"{key}={value}" for key, value in sorted(options.items()) if usual.get(key) != value)
    if method != CTM:
        return Variant(method, others=others)
    distance = str(table.get("distance", TEACHER_DISTANCE))
    if float(table.get("latent_weight", 0.0)) > 0:
        distance += " and output l2"
    match = AT_ZERO if table.get("match_point") == "zero" else AT_S
    return Variant(method, distance, match, float(table.get("denoising_weight", 1.0)) > 0, others)


def _usual(tables: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The commonest value of every option."""
    seen: dict[str, Counter[str]] = {}
    for table in tables:
        for key, value in _options(table):
            seen.setdefault(key, Counter())[value] += 1
    return {key: counts.most_common(1)[0][0] for key, counts in seen.items()}


def _options(table: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """The options that have no place of their own in a variant's name."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _options(value, f"{where}{key}.")
        elif where or key not in _NAMED:
            yield f"{where}{key}", str(value)
