"""Errors -> `google.rpc.Status`: the code, a BadRequest for every field at fault, an ErrorInfo for programs, and a
RetryInfo where the same request may succeed in a while."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from soundctm.errors import (
    BundleError,
    CancelledError,
    DigestMismatchError,
    InvalidRequestError,
    LicenceNotAcceptedError,
    LicenceNotKeptError,
    SoundCTMError,
)
from soundctm_daemon import errors

DOMAIN = "soundctm"
DETAILS_KEY = "grpc-status-details-bin"
_LONGEST_TEXT = 1000  # characters; HTTP/2 metadata has room for 8 KiB in all

# The first entry an error is an instance of decides; what is not listed is INTERNAL.
_CODES: tuple[tuple[type[SoundCTMError], grpc.StatusCode], ...] = (
    (InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.ModelNotFoundError, grpc.StatusCode.NOT_FOUND),
    (BundleError, grpc.StatusCode.FAILED_PRECONDITION),
    (LicenceNotAcceptedError, grpc.StatusCode.FAILED_PRECONDITION),
    (LicenceNotKeptError, grpc.StatusCode.FAILED_PRECONDITION),
    (CancelledError, grpc.StatusCode.CANCELLED),
    (errors.QueueFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.TooManyJobsError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.DaemonStoppingError, grpc.StatusCode.UNAVAILABLE),
    (errors.NotInFlightError, grpc.StatusCode.NOT_FOUND),
    (errors.ModelLoadError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.ModelTooBigError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.ModelMemoryBusyError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.ModelInUseError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.ModelChangedError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    (errors.RateLimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.TooManyAtOnceError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.ClipNotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.ClipDamagedError, grpc.StatusCode.DATA_LOSS),
    (errors.SoundUnusableError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.OffsetError, grpc.StatusCode.OUT_OF_RANGE),
    (errors.NoRecipeError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.LibraryLockedError, grpc.StatusCode.UNAVAILABLE),
    (errors.DiskFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.LibraryError, grpc.StatusCode.FAILED_PRECONDITION),
)


def code_of(error: SoundCTMError) -> grpc.StatusCode:
    return next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)


def to_status(error: SoundCTMError) -> Any:
    """The google.rpc.Status of an error."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_metadata(error))
    ]
    if isinstance(error, InvalidRequestError):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=_short(str(v)))
            for v in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, errors.RetryLaterError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_seconds * 1000))
        details.append(retry)
    return status_pb2.Status(
        code=code_of(error).value[0], message=_short(str(error)), details=[_packed(detail) for detail in details]
    )


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: SoundCTMError) -> NoReturn:
    """End the call with the error's status, details in the trailer."""
    trailer = (*(context.trailing_metadata() or ()), (DETAILS_KEY, to_status(error).SerializeToString()))
    await context.abort(code_of(error), _short(str(error)), trailer)


def _metadata(error: SoundCTMError) -> dict[str, str]:
    match error:
        case InvalidRequestError(violations=(first, *_)):
            return {"field": first.field, "value": _short(first.value), "allowed": _short(first.allowed)}
        case errors.ModelNotFoundError():
            return {"field": "model", "value": _short(error.name), "allowed": _short(", ".join(error.known))}
        case DigestMismatchError():
            return {"file": str(error.file)}
        case _:
            return {}


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
