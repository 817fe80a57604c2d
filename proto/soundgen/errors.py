"""Everything a client of the daemon can meet, by name.

SoundgenError
├── DaemonUnreachableError      nobody answers at the address, or the connection broke
│   ├── DaemonStartError            the daemon was started and did not come up
│   └── TlsError                    a certificate file is wrong, or the token would cross a network in the clear
├── UnauthenticatedError        the token is missing or wrong
├── ForbiddenError              the token is known, and may not do this
├── InvalidRequestError         a field of a request is out of its range (carries the violations)
├── NotFoundError               no such clip or model
├── PreconditionError           the daemon cannot do it as things are: unusable model, folder that cannot be written,
│                               a licence nobody accepted, a daemon older than the call
├── ExhaustedError              the queue or the disk is full, or the client is over one of its limits
├── ClipCancelledError          the clip was cancelled
├── DeadlineExceededError       the call took longer than it was allowed to
├── DataLossError               a clip's file is missing or is not the one that was stored
└── GenerationFailedError       the daemon failed while making the clip

`from_rpc_error` translates what gRPC raises; the daemon says more than a code by a `google.rpc.Status` in the trailer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError
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
    `retry_after_seconds` is when to try again, None where the daemon did not say.
    """

    reason = "SOUNDGEN_ERROR"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason or type(self).reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after_seconds = retry_after_seconds


class DaemonUnreachableError(SoundgenError):
    reason = "DAEMON_UNREACHABLE"


class DaemonStartError(DaemonUnreachableError):
    reason = "DAEMON_DID_NOT_START"


class TlsError(DaemonUnreachableError):
    reason = "TLS"


class UnauthenticatedError(SoundgenError):
    reason = "UNAUTHENTICATED"


class ForbiddenError(SoundgenError):
    reason = "PERMISSION_DENIED"


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
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.UNIMPLEMENTED: PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.CANCELLED: ClipCancelledError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.DATA_LOSS: DataLossError,
}


@dataclass(frozen=True)
class _Details:
    reason: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after_seconds: float | None = None
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
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        message = f"the daemon at {address} does not know this call: it is older than this client. Update it."
    if kind is InvalidRequestError:
        return InvalidRequestError(
            message, reason=details.reason, metadata=details.metadata, violations=details.violations
        )
    return kind(
        message, reason=details.reason, metadata=details.metadata, retry_after_seconds=details.retry_after_seconds
    )


def _read_details(error: grpc.Call | grpc.aio.AioRpcError) -> _Details:
    """What the status trailer adds; empty where there is none, or none that can be read."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            with contextlib.suppress(DecodeError):  # a proxy's, perhaps; the code and the message say enough
                return _parse(status_pb2.Status.FromString(value))
    return _Details()


def _parse(status: status_pb2.Status) -> _Details:
    info, request, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    retry_after_seconds = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(request.DESCRIPTOR):
            detail.Unpack(request)
        elif detail.Is(retry.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after_seconds = retry.retry_delay.seconds + retry.retry_delay.nanos * 1e-9
    violations = tuple(FieldViolation(v.field, v.description) for v in request.field_violations)
    return _Details(info.reason or None, dict(info.metadata), retry_after_seconds, violations)
