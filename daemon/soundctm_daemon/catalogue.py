"""The models a request may name."""

from __future__ import annotations

from pathlib import Path

from soundctm.bundle import Bundle, find_bundle, installed_names
from soundctm.errors import BundleNotFoundError
from soundctm_daemon.errors import ModelNotFoundError


class Catalogue:
    """The daemon's default model, a name or a path, and whatever is installed. Methods read small files."""

    def __init__(self, default: str) -> None:
        self._default = default
        self.default_name = Path(default).name

    def find(self, name: str) -> tuple[str, Bundle]:
        """The model of this name, empty for the default, with the name it goes by.

        A request cannot name a path: which folders are read is the daemon's settings' matter.
        Raises ModelNotFoundError, BundleError.
        """
        if name in ("", self.default_name):
            return self.default_name, find_bundle(self._default)
        if Path(name).name != name:
            raise ModelNotFoundError(name, self.names())
        try:
            return name, find_bundle(name)
        except BundleNotFoundError as error:
            raise ModelNotFoundError(name, self.names()) from error

    def names(self) -> list[str]:
        """The default first."""
        return list(dict.fromkeys([self.default_name, *installed_names()]))
