"""A sound file -> the messages that bring it in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from soundgen import requests
from soundgen.v1 import clip_service_pb2

CHUNK_BYTES = 256 * 1024
_LONGEST_LABEL = 200  # characters


def messages(path: Path, label: str | None, tags: Iterable[str] | None) -> Iterator[clip_service_pb2.ImportClipRequest]:
    """A header, then the bytes. `label` None takes the file's name without its suffix.

    The file is read here and now, whole: one that changes meanwhile cannot arrive as half of each. Raises OSError,
    InvalidRequestError.
    """
    data = path.read_bytes()
    header = requests.filled(
        clip_service_pb2.ImportClipHeader(),
        label=path.stem[:_LONGEST_LABEL] if label is None else label,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        tags=tags,
    )
    return _in_chunks(header, data)


def _in_chunks(header: clip_service_pb2.ImportClipHeader, data: bytes) -> Iterator[clip_service_pb2.ImportClipRequest]:
    yield clip_service_pb2.ImportClipRequest(header=header)
    for start in range(0, len(data), CHUNK_BYTES):
        yield clip_service_pb2.ImportClipRequest(chunk=data[start : start + CHUNK_BYTES])
