"""The models a request may name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from soundctm.bundle import Bundle, find_bundle, installed_names
from soundctm.errors import LicenceNotAcceptedError
from soundctm.licences import AcceptedLicences
from soundctm_daemon.errors import ModelNotFoundError


class Catalogue:
    """The daemon's default model, a name or a path, and whatever is installed. Methods read small files.

    A name goes on meaning the bundle it meant for as long as that is in memory (`holds` its digest), whatever becomes
    of the folder; `put_in_service` gives it another one.
    """

    def __init__(
        self, default: str, accepted: AcceptedLicences, holds: Callable[[str], bool] = lambda digest: False
    ) -> None:
        self._default, self.accepted, self._holds = default, accepted, holds
        self.default_name = Path(default).name
        self._in_service: dict[str, Bundle] = {}

    def find(self, name: str) -> tuple[str, Bundle]:
        """The model of this name, empty for the default, with the name it goes by: for making clips.

        Raises ModelNotFoundError, BundleError; LicenceNotAcceptedError where the licence asks for it first.
        """
        name, bundle = self.look_up(name)
        spec, known_as = bundle.spec, self._default if name == self.default_name else name
        if spec.restricted and (bundle.digest, spec.licence) not in self.accepted:
            raise LicenceNotAcceptedError(
                f"the licence of model {name!r} ({spec.licence}) may forbid what you want to do with its sounds and "
                f"was not accepted yet. Read it in {bundle.path}, then accept it once: `soundctm models accept "
                f"{known_as}`."
            )
        return name, bundle

    def look_up(self, name: str) -> tuple[str, Bundle]:
        """As `find`, whatever the licence. Raises ModelNotFoundError, BundleError."""
        name = name or self.default_name
        bundle = self._in_service.get(name)
        if bundle is None or not self._holds(bundle.digest):
            bundle = self._in_service[name] = self.read(name)
        return name, bundle

    def read(self, name: str) -> Bundle:
        """What lies in the model's folder now.

        A request cannot name a path: which folders are read is the daemon's settings' matter.
        Raises ModelNotFoundError, BundleError.
        """
        if name == self.default_name:
            return find_bundle(self._default)
        if name not in installed_names():  # "~" and ".." are folders too
            raise ModelNotFoundError(name, self.names())
        return find_bundle(name)

    def put_in_service(self, name: str, bundle: Bundle) -> None:
        self._in_service[name] = bundle

    def in_service(self) -> dict[str, str]:
        """Digests of what was asked for, by name."""
        return {name: bundle.digest for name, bundle in list(self._in_service.items())}

    def names(self) -> list[str]:
        """The default first."""
        held = [name for name, bundle in list(self._in_service.items()) if self._holds(bundle.digest)]
        return list(dict.fromkeys([self.default_name, *installed_names(), *held]))
