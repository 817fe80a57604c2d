"""Everything that can go wrong in the model library, by name.

SoundCTMError
├── InvalidRequestError     a field of a request is out of its range (carries the violations)
├── BundleError             a model folder cannot be used
│   ├── BundleNotFoundError     no such model
│   ├── DigestMismatchError     a file is not the one the bundle's checksums name
│   ├── TensorMismatchError     tensors are missing, left over or of another shape
│   ├── GraphError              an exported graph cannot be loaded, or fails
│   ├── ProviderMissingError    what exported graphs are to run on cannot be had
│   └── EngineUnavailableError  no engine, or not the one that was asked for, can run a bundle here
├── LicenceNotAcceptedError a model's licence forbids some uses and nobody has accepted it yet
├── LicenceNotKeptError     that it was accepted cannot be written down
├── FetchError              published files cannot be brought here
│   ├── FetchUnreachableError   the hub does not answer, or not now
│   ├── FetchForbiddenError     the hub wants to know who asks
│   ├── FetchNotFoundError      there is nothing of that name
│   ├── FetchDigestError        a file is not the one that was published
│   └── FetchSpaceError         the disk has no room for them
├── CheckpointError         an official file cannot be converted
├── NonFiniteAudioError     the model produced NaN or infinity
├── OutOfMemoryError        the device has no memory left for this much at once
└── CancelledError          the caller asked to stop

Every message says what was wrong, the value seen, what is allowed and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class SoundCTMError(Exception):
    """Root of the tree. `reason` is a stable upper-case word for programs; the message is for people."""

    reason = "SOUNDCTM_ERROR"


@dataclass(frozen=True)
class FieldViolation:
    """One field that is out of its range: `allowed` is prose, `value` is what was seen."""

    field: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.field} is {self.value}; allowed: {self.allowed}"


class InvalidRequestError(SoundCTMError):
    reason = "INVALID_REQUEST"

    def __init__(self, violations: Iterable[FieldViolation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(str(violation) for violation in self.violations))


class BundleError(SoundCTMError):
    reason = "BUNDLE_UNUSABLE"


class BundleNotFoundError(BundleError):
    reason = "MODEL_NOT_FOUND"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(
            f"model {name!r} is not installed; known models: {', '.join(self.known) or 'none'}. "
            "List them with `soundctm models list`, or give the path of a bundle folder."
        )


class DigestMismatchError(BundleError):
    reason = "DIGEST_MISMATCH"

    def __init__(self, file: Path, expected: str, found: str) -> None:
        self.file = file
        super().__init__(
            f"{file} is truncated or altered: its sha256 is {found}, the bundle names {expected}. "
            "Install the bundle again; nothing was loaded."
        )


class TensorMismatchError(BundleError):
    reason = "TENSOR_MISMATCH"

    def __init__(self, where: str, missing: Iterable[str], unexpected: Iterable[str], shapes: Iterable[str]) -> None:
        self.missing, self.unexpected, self.shapes = tuple(missing), tuple(unexpected), tuple(shapes)
        parts = [
            f"{len(names)} {what}: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
            for what, names in (
                ("missing", self.missing),
                ("left over", self.unexpected),
                ("of another shape", self.shapes),
            )
            if names
        ]
        super().__init__(f"{where}: the tensors do not fit the network described: {'; '.join(parts)}")


class GraphError(BundleError):
    reason = "GRAPH_UNUSABLE"


class ProviderMissingError(BundleError):
    reason = "PROVIDER_MISSING"


class EngineUnavailableError(BundleError):
    reason = "ENGINE_UNAVAILABLE"


class LicenceNotAcceptedError(SoundCTMError):
    reason = "LICENCE_NOT_ACCEPTED"


class LicenceNotKeptError(SoundCTMError):
    reason = "LICENCE_NOT_KEPT"


class FetchError(SoundCTMError):
    reason = "FETCH_FAILED"


class FetchUnreachableError(FetchError):
    reason = "FETCH_UNREACHABLE"


class FetchForbiddenError(FetchError):
    reason = "FETCH_FORBIDDEN"


class FetchNotFoundError(FetchError):
    reason = "FETCH_NOT_FOUND"


class FetchDigestError(FetchError):
    reason = "FETCH_DIGEST_MISMATCH"


class FetchSpaceError(FetchError):
    reason = "DISK_FULL"


class CheckpointError(SoundCTMError):
    reason = "CHECKPOINT_UNUSABLE"


class NonFiniteAudioError(SoundCTMError):
    reason = "NON_FINITE_AUDIO"


class OutOfMemoryError(SoundCTMError):
    reason = "OUT_OF_MEMORY"


class CancelledError(SoundCTMError):
    reason = "CANCELLED"
