"""Which engine runs a bundle: a table of engines, the rules, and what they come to in words. No torch, no onnxruntime.

`auto` takes the fastest engine that can run the bundle here, that somebody has timed, and that keeps at least 40 dB
against PyTorch in float32. A name takes that engine, whatever its error; where it cannot run, that is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soundctm.bundle import Bundle
from soundctm.errors import EngineUnavailableError

if TYPE_CHECKING:
    from soundctm.engines.protocol import Engine

AUTO = "auto"
LEAST_SNR_DB = 40  # of what `auto` takes: the error is a hundredth of the signal's amplitude, below what anybody hears


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `device` as PyTorch names it; `threads` None leaves the runtime its own choice.

    `allow_cpu`: an engine whose device cannot be had computes on the CPU instead of failing.
    """

    engine: str = AUTO
    device: str = "cpu"
    threads: int | None = None
    allow_cpu: bool = False

    @property
    def device_kind(self) -> str:
        return self.device.split(":")[0]


@dataclass(frozen=True)
class Able:
    """An engine can run a bundle here. `says`: with what. `bundle` is the folder it reads.

    `speed`: jumps beside those of PyTorch in float32 on the same device, as measured (docs/export.md); None where
    nobody has. `snr_db`: of its worst output against PyTorch in float32, infinite for PyTorch itself.
    """

    says: str
    bundle: Bundle
    speed: float | None = None
    snr_db: float = math.inf


@dataclass(frozen=True)
class Unable:
    """An engine cannot run a bundle here; `says` why, and what would help."""

    says: str


@dataclass(frozen=True)
class EngineKind:
    """A row of the table. `judge` is quick: it reads small files and loads no weights; it raises nothing.

    `load` verifies what it reads, and raises BundleError and its kinds; `verify` does that alone. `expected_bytes` is
    the memory it will take, before anybody measured it. All three are given the folder of `Able`.
    """

    name: str
    about: str
    judge: Callable[[Bundle, Wanted], Able | Unable]
    load: Callable[[Bundle, Wanted], Engine]
    verify: Callable[[Bundle], None]
    expected_bytes: Callable[[Bundle], int]


@dataclass(frozen=True)
class Choice:
    """An engine for a bundle, `reason` in words."""

    kind: EngineKind
    able: Able
    wanted: Wanted
    reason: str

    def load(self) -> Engine:
        engine = self.kind.load(self.able.bundle, self.wanted)
        engine.name = self.kind.name
        return engine

    def verify(self) -> None:
        self.kind.verify(self.able.bundle)

    def expected_bytes(self) -> int:
        return self.kind.expected_bytes(self.able.bundle)


def choices(bundle: Bundle, wanted: Wanted, table: Sequence[EngineKind]) -> tuple[Choice, ...]:
    """The engines to try, best first: one where it is asked for by name. Raises EngineUnavailableError where there is
    none, or no such name."""
    if wanted.engine != AUTO:
        return (_by_name(bundle, wanted, table),)
    fit = [
        (found.speed, kind, found)
        for kind, found in _judged(bundle, wanted, table)
        if isinstance(found, Able) and found.speed is not None and found.snr_db >= LEAST_SNR_DB
    ]
    if not fit:
        raise EngineUnavailableError(
            f"no engine can run the model {bundle.spec.name!r} on {wanted.device}: "
            f"{'; '.join(passed_over(bundle, wanted, table).values())}. `soundctm doctor` shows them."
        )
    fit.sort(key=lambda entry: -entry[0])  # of equal ones the table's first
    return tuple(
        Choice(kind, able, wanted, f"{able.says}; the fastest that keeps {LEAST_SNR_DB} dB"
                                   f"{'' if place == 0 else ' besides those that failed'}")
        for place, (_, kind, able) in enumerate(fit)
    )  # fmt: skip


def passed_over(bundle: Bundle, wanted: Wanted, table: Sequence[EngineKind]) -> Mapping[str, str]:
    """Why `auto` does not take an engine, by name; an engine that it might take is not in it."""
    told: dict[str, str] = {}
    for kind, found in _judged(bundle, wanted, table):
        if isinstance(found, Unable):
            told[kind.name] = found.says
        elif found.snr_db < LEAST_SNR_DB:
            told[kind.name] = f"{found.says}: less than {LEAST_SNR_DB} dB, so only when it is asked for by name"
        elif found.speed is None:
            told[kind.name] = f"{found.says}: nobody has timed it, so only when it is asked for by name"
    return told


def explained(bundle: Bundle, wanted: Wanted, table: Sequence[EngineKind]) -> str:
    """Which engine, why, and why not each of the others. Raises EngineUnavailableError."""
    found = choices(bundle, wanted, table)
    slower = {choice.kind.name: f"{choice.able.says}: slower" for choice in found[1:]}
    others = {**passed_over(bundle, wanted, table), **slower}
    others.pop(found[0].kind.name, None)
    return "; ".join([f"{found[0].kind.name} ({found[0].reason})", *(f"not {name}: {others[name]}" for name in others)])


def _by_name(bundle: Bundle, wanted: Wanted, table: Sequence[EngineKind]) -> Choice:
    kind = next((kind for kind in table if kind.name == wanted.engine), None)
    if kind is None:
        known = ", ".join([AUTO, *(kind.name for kind in table)])
        raise EngineUnavailableError(f"engine is {wanted.engine!r}; allowed: {known}. Choose one of these.")
    found = kind.judge(bundle, wanted)
    if isinstance(found, Unable):
        raise EngineUnavailableError(
            f"the engine {kind.name!r} cannot run the model {bundle.spec.name!r}: {found.says}. Choose another, or "
            f"{AUTO!r}; `soundctm doctor` tells which can."
        )
    return Choice(kind, found, wanted, f"{found.says}; asked for by name")


def _judged(
    bundle: Bundle, wanted: Wanted, table: Sequence[EngineKind]
) -> Sequence[tuple[EngineKind, Able | Unable]]:
    return [(kind, kind.judge(bundle, wanted)) for kind in table]
