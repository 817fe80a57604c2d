"""Requests about clips -> what the library is asked. Everything is validated once, here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from soundctm.errors import FieldViolation, InvalidRequestError
from soundctm_daemon.clip_filter import ClipFilter, folded
from soundctm_daemon.edits import Edits, checked_label, checked_notes, checked_tags
from soundctm_daemon.untrusted import LAST_SECOND
from soundgen.v1 import clip_service_pb2

LONGEST_ID = 200  # characters of an id that is looked up; what is longer names no clip
_DEFAULT_PAGE, _LARGEST_PAGE = 50, 200
_DEFAULT_HITS, _MOST_HITS = 20, 200
_LONGEST_TEXT = 1000  # characters
_PAGE_TOKEN = re.compile(r"([0-9]{1,18})-([0-9a-f]{8})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIRST_SECOND = -62135596800  # of the year 1, the first a Timestamp may tell
_MB = 1_000_000


@dataclass(frozen=True)
class Page:
    """`before` None: the first page."""

    size: int
    before: int | None
    which: ClipFilter

    def token(self, following: int | None) -> str:
        """Names the page before `following` of the same filters."""
        return "" if following is None else f"{following}-{self.which.fingerprint}"


@dataclass(frozen=True)
class ImportHeader:
    """`sha256` empty: not told."""

    label: str
    size_bytes: int
    sha256: str
    tags: tuple[str, ...]


def page_of(request: clip_service_pb2.ListClipsRequest) -> Page:
    """Raises InvalidRequestError."""
    after_ns, before_ns = _nanoseconds("created_after", request), _nanoseconds("created_before", request)
    which = ClipFilter(
        words=tuple(dict.fromkeys(folded(_short("text", request.text)).split())),
        tags=checked_tags(request.tags),
        favourites_only=request.favourites_only,
        after_us=None if after_ns is None else after_ns // 1000,
        before_us=None if before_ns is None else -(-before_ns // 1000),
        deleted=request.deleted,
    )
    size = _count("page_size", request.page_size, _DEFAULT_PAGE, _LARGEST_PAGE)
    return Page(size, _before(request.page_token, which), which)


def edit_of(request: clip_service_pb2.UpdateClipRequest) -> Callable[[Edits], Edits]:
    """What is to change. Raises InvalidRequestError."""
    changes: dict[str, Any] = {}
    if request.HasField("label"):
        changes["label"] = checked_label(request.label)
    if request.HasField("favourite"):
        changes["favourite"] = request.favourite
    if request.HasField("notes"):
        changes["notes"] = checked_notes(request.notes)
    if request.HasField("tags"):
        changes["tags"] = checked_tags(request.tags.tags)
    return lambda edits: replace(edits, **changes)


def import_header_of(request: clip_service_pb2.ImportClipRequest, limit_mb: int) -> ImportHeader:
    """Of the first message. Raises InvalidRequestError."""
    if request.WhichOneof("part") != "header":
        raise invalid("header", "missing", "the first message is the header, all others are chunks")
    header = request.header
    if not 1 <= header.size_bytes <= limit_mb * _MB:
        allowed = f"1 to {limit_mb * _MB} bytes (import_limit_mb is {limit_mb})"
        raise invalid("header.size_bytes", str(header.size_bytes), allowed)
    if header.sha256 and not _SHA256.fullmatch(header.sha256):
        raise invalid("header.sha256", repr(header.sha256[:80]), "empty, or 64 lower-case hexadecimal digits")
    return ImportHeader(checked_label(header.label), header.size_bytes, header.sha256, checked_tags(header.tags))


def hits_of(request: clip_service_pb2.SearchClipsRequest) -> int:
    """How many clips are asked for. Raises InvalidRequestError for this and for what they are to be like."""
    match request.WhichOneof("like"):
        case "text":
            if not _short("text", request.text).strip():
                raise invalid("text", "empty", f"1 to {_LONGEST_TEXT} characters that describe a sound")
        case None:
            raise invalid("like", "missing", "a text or the id of a clip")
    return _count("limit", request.limit, _DEFAULT_HITS, _MOST_HITS)


def _before(token: str, which: ClipFilter) -> int | None:
    if not token:
        return None
    found = _PAGE_TOKEN.fullmatch(token)
    if found is None:
        raise invalid("page_token", repr(token[:40]), "empty, or the next_page_token of the page before")
    if found[2] != which.fingerprint:
        allowed = "the next_page_token of the page before, with the filters of that page"
        raise invalid("page_token", repr(token), allowed)
    return int(found[1])


def _count(field: str, value: int, default: int, most: int) -> int:
    if value > most:
        raise invalid(field, str(value), f"0 (takes {default}) to {most}")
    return value or default


def _short(field: str, text: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise invalid(field, f"{len(text)} characters long", f"at most {_LONGEST_TEXT} characters")
    return text


def _nanoseconds(field: str, request: clip_service_pb2.ListClipsRequest) -> int | None:
    """Since 1970; None where it is not told."""
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    time: Timestamp = getattr(request, field)
    if not (_FIRST_SECOND <= time.seconds <= LAST_SECOND and 0 <= time.nanos < 10**9):
        raise invalid(field, f"{time.seconds} s and {time.nanos} ns", "a time in the years 1 to 9999")
    return time.seconds * 10**9 + time.nanos


def invalid(field: str, value: str, allowed: str) -> InvalidRequestError:
    """One field at fault."""
    return InvalidRequestError([FieldViolation(field, value, allowed)])
