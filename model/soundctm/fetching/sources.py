"""The published models that can be fetched by name: a table in the package."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from soundctm.errors import FetchNotFoundError

_ROLES = ("student", "vae", "z_stats", "tokenizer")


@dataclass(frozen=True)
class Repository:
    """`licence`: what its publisher states outside of the hub; empty where nothing was found."""

    id: str
    revision: str
    licence: str


@dataclass(frozen=True)
class SourceFile:
    """`sha256` None: the hub's record of the file decides."""

    repository: Repository
    path: str
    sha256: str | None


@dataclass(frozen=True)
class Source:
    """`files` by what `soundctm.checkpoints.convert.OfficialFiles` calls them; the numbers as in its `Choices`."""

    name: str
    description: str
    variant: str
    files: Mapping[str, SourceFile]
    num_heads: int = 24
    text_heads: int = 12


def sources_file() -> Path:
    return Path(str(resources.files("soundctm") / "fetching" / "sources.toml"))


def read_sources(file: Path) -> dict[str, Source]:
    """By name."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    repositories = {name: Repository(name, **about) for name, about in table["repositories"].items()}
    sources = {}
    for name, about in table["models"].items():
        files = {role: about.pop(role) for role in _ROLES}
        sources[name] = Source(
            name,
            files={
                role: SourceFile(repositories[file["repository"]], file["path"], file.get("sha256"))
                for role, file in files.items()
            },
            **about,
        )
    return sources


def find_source(name: str, file: Path) -> Source:
    """Raises FetchNotFoundError."""
    sources = read_sources(file)
    if name not in sources:
        raise FetchNotFoundError(
            f"no published model {name!r} is known; known: {', '.join(sources)}. Files of another one become a "
            "bundle by `soundctm models convert`."
        )
    return sources[name]
