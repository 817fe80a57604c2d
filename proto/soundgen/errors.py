"""Everything a client of the daemon can meet, by name.

SoundgenError
├── DaemonUnreachableError      nobody answers at the address, or the connection broke
│   └── DaemonStartError            the daemon was started and did not come up
├── UnauthenticatedError        the token is missing or wrong
├── InvalidRequestError         a field of a request is out of its range (carries the violations)
├── NotFoundError               no such clip or model
├── PreconditionError           the daemon cannot do it as things are: unusable model, folder that cannot be written
├── ExhaustedError              the queue or the disk is full
├── ClipCancelledError          the clip was cancelled
├── DeadlineExceededError       the call took longer than it was allowed to
├── DataLossError               a clip's file is missing or is not the one that was stored
└── GenerationFailedError       the daemon failed while making the clip

`from_rpc_error` translates what gRPC raises; the daemon says more than a code by a `google.rpc.Status` in the trailer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class FieldViolation:
    """One field that is out of its range, as a sentence."""

    field: str
    description: str


class SoundgenError(Exception):
    """Root of the tree. `reason` is a stable upper-case word for programs; the message is for people.

    `metadata` holds what the daemon added: the `field`, `value` and `allowed` at fault, a model's or a file's name.
    """

    reason = "SOUNDGEN_ERROR"

    def __init__(
        self, message: str, *, reason: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason
        self.metadata: dict[str, str] = dict(metadata or {})


class DaemonUnreachableError(SoundgenError):
    reason = "DAEMON_UNREACHABLE"


class DaemonStartError(DaemonUnreachableError):
    reason = "DAEMON_DID_NOT_START"


class UnauthenticatedError(SoundgenError):
    reason = "UNAUTHENTICATED"


class InvalidRequestError(SoundgenError):
    reason = "INVALID_REQUEST"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[FieldViolation] = (),
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations = tuple(violations)


class NotFoundError(SoundgenError):
    reason = "NOT_FOUND"


class PreconditionError(SoundgenError):
    reason = "FAILED_PRECONDITION"


class ExhaustedError(SoundgenError):
    reason = "RESOURCE_EXHAUSTED"


class ClipCancelledError(SoundgenError):
    reason = "CANCELLED"


class DeadlineExceededError(SoundgenError):
    reason = "DEADLINE_EXCEEDED"


class DataLossError(SoundgenError):
    reason = "DATA_LOSS"


class GenerationFailedError(SoundgenError):
    reason = "GENERATION_FAILED"


_BY_CODE: dict[grpc.StatusCode, type[SoundgenError]] = {
    grpc.StatusCode.UNAVAILABLE: DaemonUnreachableError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.CANCELLED: ClipCancelledError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.DATA_LOSS: DataLossError,
}


@dataclass(frozen=True)
class _Details:
    reason: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[FieldViolation, ...] = ()


def from_rpc_error(error: grpc.RpcError, address: str) -> SoundgenError:
    """The error of this tree that a failed call means. `address` is where the call went."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return GenerationFailedError(f"the call to {address} failed in an unknown way: {error!r}")
    code, message, details = error.code(), error.details() or "no message", _read_details(error)
    kind = _BY_CODE.get(code, GenerationFailedError)
    if kind is DaemonUnreachableError and details.reason is None:
        message = (
            f"no daemon answers at {address} ({message}). Start it with `soundctm daemon start`, "
            "and look at `soundctm daemon status`."
        )
    elif kind is DeadlineExceededError:
        message = f"the daemon at {address} took longer than this call was allowed to; give it more time."
    if kind is InvalidRequestError:
        return InvalidRequestError(
            message, reason=details.reason, metadata=details.metadata, violations=details.violations
        )
    return kind(message, reason=details.reason, metadata=details.metadata)


def _read_details(error: grpc.Call | grpc.aio.AioRpcError) -> _Details:
    """Reason, metadata and violations of the status trailer; empty where there is none."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return _parse(status_pb2.Status.FromString(value))
    return _Details()


def _parse(status: status_pb2.Status) -> _Details:
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(request.DESCRIPTOR):
            detail.Unpack(request)
    violations = tuple(FieldViolation(v.field, v.description) for v in request.field_violations)
    return _Details(info.reason or None, dict(info.metadata), violations)
