"""What a setting is: one entry of the one table that reading, checking, the sample file and the documents share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from soundctm_daemon.errors import SettingsError

_FIELD = "key"
_TRUE, _FALSE = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True)
class Allowed:
    """A rule of values and its words."""

    says: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Key:
    """`kind` is str, int, float, bool or Path; `default_says` is the default in words where None stands for more."""

    name: str
    kind: type
    default: Any
    help: str
    allowed: Allowed
    default_says: str

    @property
    def variable(self) -> str:
        return f"SOUNDCTM_{self.name.upper()}"


def key(default: Any, help: str, allowed: Allowed | None = None, default_says: str = "") -> Any:
    """A field of a settings dataclass that people may set; `help` says what it means, and why, in one line."""
    return field(default=default, metadata={_FIELD: (help, allowed, default_says)})


def keys_of(settings: type) -> dict[str, Key]:
    """The table: every field made by `key`, by name, in order."""
    hints = get_type_hints(settings)
    table: dict[str, Key] = {}
    for entry in fields(settings):
        if _FIELD in entry.metadata:
            (kind,) = set(get_args(hints[entry.name]) or {hints[entry.name]}) - {NoneType}
            help, allowed, default_says = entry.metadata[_FIELD]
            rule = allowed or _ANY[kind]
            table[entry.name] = Key(entry.name, kind, entry.default, help, rule, default_says)
    return table


def at_least(lowest: float, note: str = "") -> Allowed:
    """`note` explains a special value, in brackets."""
    return Allowed(f"{lowest:g}{_brackets(note)} or more", lambda value: lowest <= value < math.inf)


def between(lowest: float, highest: float, note: str = "") -> Allowed:
    return Allowed(f"{lowest:g} to {highest:g}{_brackets(note)}", lambda value: lowest <= value <= highest)


def one_of(*names: str) -> Allowed:
    return Allowed(", ".join(names[:-1]) + f" or {names[-1]}", lambda value: value in names)


def checked(values: Mapping[str, Any], table: Mapping[str, Key], source: str, folder: Path) -> dict[str, Any]:
    """Values of the right kind and within their rules. Paths begin in `folder`; empty text is None where None is meant.

    Raises SettingsError naming the setting, its value, its `source` and what is allowed.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in table:
            raise SettingsError(f"{source} sets {name!r}, which is no setting; known: {', '.join(table)}.")
        known = table[name]
        try:
            unset = value == "" and known.default is None
            found[name] = None if unset else _converted(value, known.kind, folder)
            right = unset or known.allowed.holds(found[name])
        except (TypeError, ValueError, OverflowError):
            right = False
        if not right:
            raise SettingsError(f"{name} is {value!r} in {source}; allowed: {known.allowed.says}.")
    return found


def _converted(value: Any, kind: type, folder: Path) -> Any:
    """Text (of the environment) becomes what it stands for. Raises TypeError, ValueError, OverflowError."""
    if kind is bool:
        return _switch(value)
    if isinstance(value, bool):
        raise TypeError("true and false are no numbers and no names")
    if kind is Path:
        return folder / Path(value).expanduser()
    if kind is int and isinstance(value, float) and not value.is_integer():
        raise ValueError("not a whole number")
    if kind is str and not isinstance(value, str):
        raise TypeError("not text")
    return kind(value)


def _switch(value: Any) -> bool:
    word = str(value).lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("neither yes nor no")
    return word in _TRUE


def _brackets(note: str) -> str:
    return f" ({note})" if note else ""


_ANY: dict[type, Allowed] = {
    str: Allowed("any text", lambda value: True),
    int: Allowed("a whole number", lambda value: True),
    float: Allowed("a number", math.isfinite),
    bool: Allowed("true or false", lambda value: True),
    Path: Allowed("a path; relative ones begin in the state folder", lambda value: True),
}
