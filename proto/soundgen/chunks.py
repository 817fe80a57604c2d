"""The chunks of RIFF (WAV) and IFF (AIFF) files: four letters, a size, that many bytes, padded to an even number."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_HEADER = struct.Struct("<4sI")
_FILE_HEADER_BYTES = 12  # "RIFF", size of what follows it, "WAVE"
_IN_AIFF = struct.Struct(">4sI")
_KINDS = {(b"RIFF", b"WAVE"): _HEADER, (b"FORM", b"AIFF"): _IN_AIFF, (b"FORM", b"AIFC"): _IN_AIFF}


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
    while offset + layout.size <= end:
        stream.seek(offset)
        name, size_bytes = layout.unpack(stream.read(layout.size))
        yield Chunk(name, offset + layout.size, size_bytes)
        offset += layout.size + size_bytes + size_bytes % 2


def read_payload(stream: BinaryIO, chunk: Chunk, most_bytes: int) -> bytes:
    """Raises ValueError when it is longer than that, or the file ends within."""
    if chunk.size_bytes > most_bytes:
        raise ValueError(f"its chunk {chunk.name!r} has {chunk.size_bytes} bytes; allowed: {most_bytes}")
    stream.seek(chunk.offset, io.SEEK_SET)
    payload = stream.read(chunk.size_bytes)
    if len(payload) < chunk.size_bytes:
        raise ValueError(f"it is cut short in its chunk {chunk.name!r}")
    return payload


def append_aiff_chunk(path: Path, name: bytes, payload: bytes) -> None:
    """At the end of an AIFF file. Raises OSError."""
    with path.open("r+b") as stream:
        end = stream.seek(0, io.SEEK_END)
        stream.write(b"\0" * (end % 2) + _IN_AIFF.pack(name, len(payload)))
        stream.write(payload + b"\0" * (len(payload) % 2))
        size_bytes = stream.tell() - _IN_AIFF.size
        stream.seek(0)
        stream.write(_IN_AIFF.pack(b"FORM", size_bytes))
