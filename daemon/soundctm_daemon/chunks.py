"""The chunks of RIFF (WAV) and IFF (AIFF) files: four letters, a size, that many bytes, padded to an even number."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_HEADER = struct.Struct("<4sI")
_FILE_HEADER_BYTES = 12  # "RIFF", size of what follows it, "WAVE"
_KINDS = {(b"RIFF", b"WAVE"): "<4sI", (b"FORM", b"AIFF"): ">4sI", (b"FORM", b"AIFC"): ">4sI"}


@dataclass(frozen=True)
class Chunk:
    """`offset` of the payload in the file; `size_bytes` as its header tells, whatever the file holds."""

    name: bytes
    offset: int
    size_bytes: int


def encode_chunk(name: bytes, payload: bytes) -> bytes:
    return _HEADER.pack(name, len(payload)) + payload + b"\0" * (len(payload) % 2)


def with_chunks(wav: bytes | memoryview, before: Iterable[bytes], behind: Iterable[bytes]) -> bytes:
    """A WAV file with encoded chunks put before and behind all of its own."""
    body = b"".join((*before, wav[_FILE_HEADER_BYTES:], *behind))
    return _HEADER.pack(b"RIFF", len(b"WAVE") + len(body)) + b"WAVE" + body


def read_chunks(stream: BinaryIO) -> Iterator[Chunk]:
    """In the file's order. Raises ValueError when it is neither WAV nor AIFF."""
    head = stream.read(_FILE_HEADER_BYTES)
    layout = _KINDS.get((head[:4], head[8:]))
    if layout is None:
        raise ValueError("no WAV or AIFF file")
    end = stream.seek(0, os.SEEK_END)
    offset = _FILE_HEADER_BYTES
    while offset + _HEADER.size <= end:
        stream.seek(offset)
        name, size_bytes = struct.unpack(layout, stream.read(_HEADER.size))
        yield Chunk(name, offset + _HEADER.size, size_bytes)
        offset += _HEADER.size + size_bytes + size_bytes % 2


def read_payload(stream: BinaryIO, chunk: Chunk, most_bytes: int) -> bytes:
    """Raises ValueError when it is longer than that, or the file ends within."""
    if chunk.size_bytes > most_bytes:
        raise ValueError(f"its chunk {chunk.name!r} has {chunk.size_bytes} bytes; allowed: {most_bytes}")
    stream.seek(chunk.offset, io.SEEK_SET)
    payload = stream.read(chunk.size_bytes)
    if len(payload) < chunk.size_bytes:
        raise ValueError(f"it is cut short in its chunk {chunk.name!r}")
    return payload
