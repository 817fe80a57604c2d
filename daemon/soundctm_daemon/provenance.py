"""Where a sound comes from, as other programs read it, and as this one finds it again.

A WAV file of ours carries: `bext` (Broadcast Wave, EBU Tech 3285: what, who, when, coding history), `iXML` (the same
with the whole recipe, kept by many editors when they save) and `sctm`, the clip record. A FLAC, Ogg or MP3 export
carries the recipe in its comment, an AIFF one in `sctm`. Readers skip what they do not know.
"""

from __future__ import annotations

import json
import struct
import time
from typing import BinaryIO
from xml.etree import ElementTree

from soundctm.errors import InvalidRequestError
from soundctm.recipe import Recipe
from soundctm_daemon.clip import ClipRecord, description, require_sound_recipe
from soundctm_daemon.recipes import decode_recipe, encode_recipe
from soundgen.chunks import encode_chunk
from soundgen.provenance import IXML_CHUNK, RECORD_CHUNK, carried, read_chunk

BEXT_CHUNK = b"bext"
_ORIGINATOR = "soundctm-daw"
# description, originator, its reference, date, time, samples since midnight, version 1, no UMID, reserved
_BEXT = struct.Struct("<256s32s32s10s8sQH64s190s")


def bext_chunk(record: ClipRecord) -> bytes:
    """Texts in UTF-8, cut to the room there is; the date is UTC."""
    when = time.gmtime(record.created_at)
    mode = {1: "mono", 2: "stereo"}.get(record.channels, "multi")
    made = f"{_ORIGINATOR} {record.origin}" + (f" by {record.model}" if record.model else "")
    history = f"A=PCM,F={record.sample_rate_hz},W=32,M={mode},T={_plain(made).replace(',', ' ')}\r\n"
    head = _BEXT.pack(
        _cut(description(record), 256), _cut(_ORIGINATOR, 32), _cut(record.id, 32),
        time.strftime("%Y-%m-%d", when).encode(), time.strftime("%H:%M:%S", when).encode(), 0, 1, b"", b"",
    )  # fmt: skip
    return encode_chunk(BEXT_CHUNK, head + history.encode())


def ixml_chunk(record: ClipRecord) -> bytes:
    """http://www.gallery.co.uk/ixml: the recipe is JSON under BWFXML/SOUNDCTM/RECIPE."""
    document = ElementTree.Element("BWFXML")
    for name, text in (
        ("IXML_VERSION", "2.10"),
        ("PROJECT", _ORIGINATOR),
        ("FILE_UID", record.id),
        ("NOTE", _plain(description(record))),
    ):
        ElementTree.SubElement(document, name).text = text
    if record.recipe is not None:
        ours = ElementTree.SubElement(document, "SOUNDCTM")
        recipe = json.loads(encode_recipe(record.model, record.recipe))
        ElementTree.SubElement(ours, "RECIPE").text = json.dumps(recipe)  # in ASCII: XML cannot hold every character
    return encode_chunk(IXML_CHUNK, ElementTree.tostring(document, encoding="utf-8", xml_declaration=True))


def record_chunk(record: ClipRecord) -> bytes:
    return encode_chunk(RECORD_CHUNK, record.to_json().encode())


def read_record_chunk(stream: BinaryIO) -> ClipRecord:
    """Raises ValueError when it is no WAV file, carries no record, or not all of it."""
    payload = read_chunk(stream, RECORD_CHUNK)
    if payload is None:
        raise ValueError("it carries no clip record, or is cut short")
    return ClipRecord.from_json(payload.decode())


def find_recipe(stream: BinaryIO) -> tuple[str, Recipe] | None:
    """The model's name and the recipe that a file of any kind carries, None where it carries none that is sound."""
    for text in carried(stream):
        try:
            found = decode_recipe(text)
            require_sound_recipe(found[1])
            return found
        except (ValueError, InvalidRequestError):
            continue
    return None


def _plain(text: str) -> str:
    """On one line, without the characters that XML and other programs stumble over."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _cut(text: str, size_bytes: int) -> bytes:
    """UTF-8 of at most that many bytes, whole characters only."""
    return _plain(text).encode()[:size_bytes].decode(errors="ignore").encode()
