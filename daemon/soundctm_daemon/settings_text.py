"""The settings as people read them: a commented sample file and a table. Both come from the one table of keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from soundctm_daemon.settings_keys import Key

_HEAD = """\
# Settings of the SoundCTM daemon. It reads this file as `daemon.toml` in its state folder when it starts.
# Everything is optional: the values here are the defaults. A variable of the environment wins over this file,
# an option of the command line over both.
"""


def sample_toml(keys: Mapping[str, Key]) -> str:
    """Every key at its default, commented out."""
    return "\n".join([_HEAD, *(_entry(known) for known in keys.values())])


def markdown_table(keys: Mapping[str, Key]) -> str:
    rows = [
        f"| `{known.name}` | {_default_words(known)} | {known.allowed.says} | {known.help} |" for known in keys.values()
    ]
    return "\n".join(["| key | default | allowed | what it means |", "|---|---|---|---|", *rows]) + "\n"


def _entry(known: Key) -> str:
    about = f"# {known.help}\n# Allowed: {known.allowed.says}. Default: {_default_words(known)}. {known.variable}\n"
    return f"{about}#{known.name} = {_toml(known.default)}\n"


def _default_words(known: Key) -> str:
    if known.default_says:
        return known.default_says
    return "none" if known.default in (None, "") else f"`{_toml(known.default)}`"


def _toml(value: Any) -> str:
    """A JSON scalar is a TOML one; none is written as an empty text, which sets nothing."""
    return json.dumps("" if value is None else value)
