"""A golden folder: its files, its settings, and what became of every tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

_ZERO = 1e-7  # what an exact zero may be


class Tolerance(Enum):
    """Value and law. The numbers are fixed: they are what float32 reaches, not what this code needs."""

    PLAIN = (1e-5, "of max(1, max|ref|)")
    OMEGA = (5e-5, "of max(1, max|ref|), depends on omega")
    OMEGA_EMBEDDING = (1e-3, "of max(1, max|ref|), omega embedding")
    RELATIVE = (1e-5, "of each value")
    TRAINED = (1e-3, "of max|ref|, no floor; 0 stays < 1e-7")
    EXACT = (0.0, "exact")

    @property
    def limit(self) -> float:
        return self.value[0]

    @property
    def law(self) -> str:
        return self.value[1]

    def error(self, found: Tensor, reference: Tensor) -> float:
        """How far off, in the tolerance's own measure; infinite when shapes differ or a value is not finite."""
        if found.shape != reference.shape:
            return float("inf")
        if self is Tolerance.EXACT:
            return 0.0 if torch.equal(found, reference) else float("inf")
        difference, largest = (found.double() - reference.double()).abs(), float(reference.double().abs().max())
        if self is Tolerance.RELATIVE:
            # 0 / 0 is a match: the grid's appended zero
            scaled = torch.where(difference == 0, 0.0, difference / reference.double().abs())
        elif self is Tolerance.TRAINED:
            if largest == 0:
                return 0.0 if float(difference.max()) < _ZERO else float("inf")
            scaled = difference / largest
        else:
            scaled = difference / max(1.0, largest)
        worst = float(scaled.max())
        return worst if worst == worst else float("inf")


@dataclass(frozen=True)
class Comparison:
    group: str
    tensor: str
    error: float
    tolerance: Tolerance

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance.limit


@dataclass
class Outcome:
    """What the checks found. `problems` are (group, sentence); anything in there makes the run fail."""

    comparisons: list[Comparison] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems and all(comparison.ok for comparison in self.comparisons)


class GoldenFile:
    """`X.safetensors` with its `X.json`. A tensor is used once it was read as an input or compared."""

    def __init__(self, folder: Path, name: str, outcome: Outcome) -> None:
        """Raises OSError or ValueError when either file is absent or broken."""
        self.name = name
        self._outcome = outcome
        self._used: set[str] = set()
        description = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        self.meta: dict[str, Any] = description.get("meta", {})
        self.what: dict[str, str] = description.get("what", {})
        try:
            self._tensors = load_file(folder / f"{name}.safetensors")
        except SafetensorError as error:
            raise ValueError(f"{name}.safetensors cannot be read: {error}") from error
        absent = sorted(description.get("tensors", {}).keys() - self._tensors.keys())
        if absent:
            raise ValueError(f"{name}.json describes tensors that {name}.safetensors lacks: {', '.join(absent[:8])}")

    def __contains__(self, tensor: str) -> bool:
        return tensor in self._tensors

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, tensor: str) -> tuple[int, ...]:
        return tuple(self._tensors[tensor].shape)

    def read(self, tensor: str) -> Tensor:
        """An input of a check. Raises KeyError."""
        value = self._tensors[tensor]
        self._used.add(tensor)
        return value

    def read_all(self) -> dict[str, Tensor]:
        return {name: self.read(name) for name in self._tensors}

    def compare(self, group: str, tensor: str, found: Tensor, tolerance: Tolerance = Tolerance.PLAIN) -> None:
        """Raises KeyError when the folder has no such tensor."""
        self._record(group, tensor, found, self._tensors[tensor], tolerance)

    def compare_rows(self, group: str, tensor: str, found: Tensor, tolerance: Tolerance) -> None:
        """Each row on its own scale, so that a large first state cannot hide an error in the last."""
        reference = self._tensors[tensor]
        if found.shape != reference.shape:
            self._record(group, tensor, found, reference, tolerance)
            return
        for index, row in enumerate(reference):
            self._record(group, tensor, found[index], row, tolerance, f"[{index}]")

    def record(self, group: str, name: str, found: Tensor, reference: Tensor, tolerance: Tolerance) -> None:
        """A comparison with what is not a tensor of the file as it stands: a change, or a number of the JSON."""
        self._record(group, name, found, reference, tolerance)

    def unused(self) -> list[str]:
        return sorted(name for name in self._tensors.keys() - self._used if self._tensors[name].numel())

    def _record(
        self, group: str, tensor: str, found: Tensor, reference: Tensor, tolerance: Tolerance, part: str = ""
    ) -> None:
        self._used.add(tensor)
        error = tolerance.error(found, reference)
        self._outcome.comparisons.append(Comparison(group, f"{self.name}:{tensor}{part}", error, tolerance))


class Golden:
    """The folder: opened files are kept, so that the end of a run knows which tensors nobody asked for."""

    def __init__(self, folder: Path, outcome: Outcome) -> None:
        """Raises OSError or ValueError when config.json is absent or broken."""
        self.folder = folder
        self.outcome = outcome
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.settings: dict[str, Any] = config.get("settings", {})
        self._train_args: dict[str, Any] = config.get("train_args_base", {})
        self._files: dict[str, GoldenFile] = {}

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}.safetensors").is_file()

    def file(self, name: str) -> GoldenFile:
        if name not in self._files:
            self._files[name] = GoldenFile(self.folder, name, self.outcome)
        return self._files[name]

    def json(self, name: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        return data

    def has_json(self, name: str) -> bool:
        return (self.folder / f"{name}.json").is_file()

    def record(self, group: str, name: str, found: Tensor, reference: Tensor, tolerance: Tolerance) -> None:
        """A comparison with a JSON file that has no tensors beside it."""
        self.outcome.comparisons.append(Comparison(group, name, tolerance.error(found, reference), tolerance))

    def sources(self, *own: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Where a setting is looked for, the first one first."""
        return (*own, self.settings, self._train_args)

    def setting(self, key: str, *own: Mapping[str, Any]) -> Any:
        """The first of the case's own metas, `settings`, `train_args_base` that has the key. Raises KeyError."""
        for source in self.sources(*own):
            if key in source:
                return source[key]
        raise KeyError(f"setting {key!r} in none of the case's meta, settings, train_args_base")

    def versions(self) -> list[str]:
        """Folders that hold a student, in order of name."""
        named = {path.parent.name for path in self.folder.glob("*/student*.safetensors")}
        return sorted(named | set(self.settings.get("dit", {})))

    def close(self) -> None:
        """Report every tensor of the folder that no check used."""
        for path in sorted(self.folder.rglob("*.safetensors")):
            name = path.relative_to(self.folder).with_suffix("").as_posix()
            if name not in self._files:
                self.outcome.problems.append((name, f"{name}.safetensors: no check knows this file"))
            else:
                unused = self._files[name].unused()
                if unused:
                    shown = ", ".join(unused[:8]) + (" …" if len(unused) > 8 else "")
                    sentence = f"{len(unused)} tensors neither an input nor compared: {shown}"
                    self.outcome.problems.append((name, sentence))
