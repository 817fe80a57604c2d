"""The daemon's log: text for people, JSON lines for programs; every line says which call and which clip it concerns.

At INFO and above nothing that was asked for is written: no prompt, no label, no token.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

REQUEST_ID_KEY = "x-request-id"
ROTATE_AT_BYTES = 10_000_000
FILES_KEPT = 5  # beside the one being written
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}
_request_id: ContextVar[str] = ContextVar("request_id", default="")
_requests_of_clips: dict[str, str] = {}  # clips in flight: the engine's thread works for many calls at once


def begin_request(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The id of a call: the client's own where it is sane, else a new one. Lines of the running task carry it."""
    given = dict(metadata).get(REQUEST_ID_KEY)
    sane = isinstance(given, str) and _SANE_ID.fullmatch(given)
    request_id = str(given) if sane else secrets.token_hex(8)
    _request_id.set(request_id)
    return request_id


def current_request_id() -> str:
    """Empty outside a call."""
    return _request_id.get()


def begin_clip(clip_id: str, request_id: str) -> None:
    """Lines with this `clip_id` carry the call's id, whichever thread writes them, until `end_clip`."""
    _requests_of_clips[clip_id] = request_id


def end_clip(clip_id: str) -> None:
    _requests_of_clips.pop(clip_id, None)


def set_up(log_file: Path, log_format: str, level: str) -> logging.Handler:
    """Make this the process's log. `log_format` is "text" or "json", `level` a name of `logging`.

    Lines go to standard error. Where that is `log_file` already (a daemon in the background), the file is rotated.
    """
    background = _is_standard_error(log_file)
    handler: logging.Handler = RotatedFile(log_file) if background else logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(_add_ids)
    root = logging.getLogger()
    for former in root.handlers[:]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(max(logging.INFO, getattr(logging, level.upper())))  # gRPC and asyncio would drown our own details
    for room in ("soundctm", "soundctm_daemon"):
        logging.getLogger(room).setLevel(level.upper())
    return handler


class TextFormatter(logging.Formatter):
    """One line per message, whatever is in it: control characters are written out."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        ids = [f"{name} {value}" for name, value in _ids(record).items()]
        return super().formatMessage(record).translate(_CONTROLS) + (f" [{', '.join(ids)}]" if ids else "")


class JsonFormatter(logging.Formatter):
    """One object per line: time (UTC), level, logger, message; request_id, clip_id and exception where there are."""

    def format(self, record: logging.LogRecord) -> str:
        data = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(record),
        }
        if record.exc_info:
            data["exception"] = self.formatException(record.exc_info)
        return json.dumps(data, ensure_ascii=False)


class RotatedFile(RotatingFileHandler):
    """Writes a file that standard output and error of this process also are; they follow it when it is rotated."""

    def __init__(self, path: Path, rotate_at_bytes: int = ROTATE_AT_BYTES, follow: tuple[int, ...] = (1, 2)) -> None:
        self._follow = follow
        super().__init__(path, maxBytes=rotate_at_bytes, backupCount=FILES_KEPT, encoding="utf-8")

    def doRollover(self) -> None:  # noqa: N802
        """A file that cannot be rotated goes on growing: better than lines lost."""
        with contextlib.suppress(OSError):
            super().doRollover()
        if self.stream is None:
            self.stream = self._open()
        for descriptor in self._follow:
            os.dup2(self.stream.fileno(), descriptor)


def _add_ids(record: logging.LogRecord) -> bool:
    clip_id = getattr(record, "clip_id", "")
    record.request_id = _request_id.get() or _requests_of_clips.get(clip_id, "")
    return True


def _ids(record: logging.LogRecord) -> dict[str, str]:
    return {name: value for name in ("request_id", "clip_id") if (value := getattr(record, name, ""))}


def _is_standard_error(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(2))
    except OSError:
        return False
