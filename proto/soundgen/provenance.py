"""The recipe a file carries, so that any clip found on a disk can be made again.

A clip's WAV file has it in its `sctm` chunk (the clip record as JSON) and in its `iXML` chunk, an AIFF export in
`sctm`; FLAC, Ogg and MP3 exports have it in the comment. A .json file is what `soundctm clips recipe` wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import soundfile

from soundgen.chunks import read_chunks, read_payload
from soundgen.errors import InvalidRequestError

RECORD_CHUNK, IXML_CHUNK = b"sctm", b"iXML"
_MOST_BYTES = 512 * 1024  # many times the longest recipe


def read_recipe(path: Path) -> str:
    """The recipe as JSON for `Client.rerender`. Raises InvalidRequestError when there is none, OSError."""
    with path.open("rb") as stream:
        is_json = path.suffix.lower() == ".json"
        recipe = recipe_in(stream.read(_MOST_BYTES)) if is_json else next(carried(stream), None)
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


def carried(stream: BinaryIO) -> Iterator[str]:
    """Every recipe a sound file carries, as `recipe_in` gives it; the file may be anybody's and of any kind."""
    for text in (read_chunk(stream, RECORD_CHUNK), _in_ixml(read_chunk(stream, IXML_CHUNK)), _in_comment(stream)):
        recipe = recipe_in(text)
        if recipe is not None:
            yield recipe


def read_chunk(stream: BinaryIO, name: bytes) -> bytes | None:
    """The payload of a WAV or AIFF file's chunk; None where the file is neither, has none, or not all of it."""
    stream.seek(0)
    try:
        chunk = next((chunk for chunk in read_chunks(stream) if chunk.name == name), None)
        return None if chunk is None else read_payload(stream, chunk, _MOST_BYTES)
    except ValueError:
        return None


def _in_ixml(payload: bytes | None) -> str | None:
    # entities: nothing that writes iXML needs them, and they can blow up; of 16-bit text every other byte is 0
    if payload is None or b"<!" in payload.replace(b"\0", b""):
        return None
    try:
        return ElementTree.fromstring(payload.rstrip(b"\0")).findtext("SOUNDCTM/RECIPE")
    except (ElementTree.ParseError, LookupError, ValueError):  # the latter two: encodings that nobody knows
        return None


def _in_comment(stream: BinaryIO) -> str | None:
    stream.seek(0)
    try:
        with soundfile.SoundFile(stream) as file:
            return str(file.comment)
    except soundfile.LibsndfileError:
        return None
