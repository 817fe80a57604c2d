"""Committed tables that are spread over several TOML files of one folder."""

import tomllib
from importlib import resources
from typing import Any


def read_tables(package: str, folder: str) -> list[dict[str, Any]]:
    """Every TOML file of `folder` inside `package`, in order of name."""
    files = sorted(resources.files(package).joinpath(folder).iterdir(), key=lambda file: file.name)
    return [tomllib.loads(file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".toml")]
