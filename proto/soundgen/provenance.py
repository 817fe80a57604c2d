"""The recipe a file carries, so that any clip found on a disk can be made again.

A clip's WAV file has it in its `sctm` chunk (the clip record as JSON) and in its `iXML` chunk, an AIFF export in
`sctm`; FLAC, Ogg and MP3 exports have it in the comment. A .json file is what `soundctm clips recipe` wrote.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import soundfile

from soundgen.errors import InvalidRequestError

RECORD_CHUNK, IXML_CHUNK = b"sctm", b"iXML"
_MOST_BYTES = 512 * 1024  # many times the longest recipe
_FILE_HEADER_BYTES = 12   # "RIFF", size of what follows it, "WAVE"
_LITTLE_ENDIAN, _BIG_ENDIAN = "<4sI", ">4sI"
_LAYOUTS = {b"RIFF": _LITTLE_ENDIAN, b"FORM": _BIG_ENDIAN}  # of a chunk's name and size


def read_recipe(path: Path) -> str:
    """The recipe as JSON for `Client.rerender`. Raises InvalidRequestError when there is none, OSError."""
    with path.open("rb") as stream:
        texts = (
            (_whole(stream),)
            if path.suffix.lower() == ".json"
            else (read_chunk(stream, RECORD_CHUNK), _in_ixml(read_chunk(stream, IXML_CHUNK)), _in_comment(path))
        )
    for text in texts:
        recipe = recipe_in(text)
        if recipe is not None:
            return recipe
    raise InvalidRequestError(
        f"{path} carries no recipe. Allowed: a .json file that `soundctm clips recipe` wrote, or a sound file that "
        "SoundCTM made, with nothing taken out of it since."
    )


def recipe_in(text: str | bytes | None) -> str | None:
    """The recipe alone, in ASCII, of a recipe's or a clip record's JSON; None where the text is neither."""
    try:
        document: Any = json.loads(text or "")
        if document["recipe"] is None:  # the record of a clip that was imported without one
            return None
        return json.dumps({name: document[name] for name in ("format", "model", "recipe")})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def read_chunk(stream: BinaryIO, name: bytes) -> bytes | None:
    """The payload of a WAV or AIFF file's chunk; None where the file is neither, has none, or not all of it."""
    stream.seek(0)
    layout = _LAYOUTS.get(stream.read(_FILE_HEADER_BYTES)[:4])
    while layout is not None and len(header := stream.read(struct.calcsize(layout))) == struct.calcsize(layout):
        found, size_bytes = struct.unpack(layout, header)
        if found == name and size_bytes <= _MOST_BYTES:
            payload = stream.read(size_bytes)
            return payload if len(payload) == size_bytes else None
        stream.seek(size_bytes + size_bytes % 2, io.SEEK_CUR)
    return None


def append_aiff_chunk(path: Path, name: bytes, payload: bytes) -> None:
    """At the end of an AIFF file. Raises OSError."""
    with path.open("r+b") as stream:
        end = stream.seek(0, io.SEEK_END)
        stream.write(b"\0" * (end % 2) + struct.pack(_BIG_ENDIAN, name, len(payload)))
        stream.write(payload + b"\0" * (len(payload) % 2))
        size_bytes = stream.tell() - struct.calcsize(_BIG_ENDIAN)
        stream.seek(0)
        stream.write(struct.pack(_BIG_ENDIAN, b"FORM", size_bytes))


def _whole(stream: BinaryIO) -> bytes:
    return stream.read(_MOST_BYTES)


def _in_ixml(payload: bytes | None) -> str | None:
    # entities: nothing that writes iXML needs them, and they can blow up; of 16-bit text every other byte is 0
    if payload is None or b"<!" in payload.replace(b"\0", b""):
        return None
    try:
        return ElementTree.fromstring(payload.rstrip(b"\0")).findtext("SOUNDCTM/RECIPE")
    except ElementTree.ParseError:
        return None


def _in_comment(path: Path) -> str | None:
    try:
        with soundfile.SoundFile(path) as file:
            return str(file.comment)
    except soundfile.LibsndfileError:
        return None
