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

import soundfile

from soundctm.errors import InvalidRequestError
from soundctm.recipe import Recipe
from soundctm_daemon.chunks import encode_chunk, read_chunks, read_payload
from soundctm_daemon.clip import ClipRecord, description, require_sound_recipe
from soundctm_daemon.recipes import decode_recipe, encode_recipe

RECORD_CHUNK, BEXT_CHUNK, IXML_CHUNK = b"sctm", b"bext", b"iXML"
_ORIGINATOR = "soundctm-daw"
_MOST_BYTES = 512 * 1024  # of a chunk that is read: many times the longest recipe
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
    for chunk in read_chunks(stream):
        if chunk.name == RECORD_CHUNK:
            return ClipRecord.from_json(read_payload(stream, chunk, _MOST_BYTES).decode())
    raise ValueError("it carries no clip record, or is cut short")


def find_recipe(stream: BinaryIO) -> tuple[str, Recipe] | None:
    """The model's name and the recipe that a file of any kind carries, None where it carries none that is sound."""
    for find in (_in_record, _in_ixml, _in_comment):
        stream.seek(0)
        try:
            found = find(stream)
            if found is not None:
                require_sound_recipe(found[1])
                return found
        except (ValueError, InvalidRequestError, ElementTree.ParseError, soundfile.LibsndfileError):
            continue
    return None


def _in_record(stream: BinaryIO) -> tuple[str, Recipe] | None:
    record = read_record_chunk(stream)
    return None if record.recipe is None else (record.model, record.recipe)


def _in_ixml(stream: BinaryIO) -> tuple[str, Recipe] | None:
    for chunk in read_chunks(stream):
        if chunk.name == IXML_CHUNK:
            text = read_payload(stream, chunk, _MOST_BYTES).decode().rstrip("\0")
            if "<!" in text:  # entities: nothing that writes iXML needs them, and they can blow up
                return None
            recipe = ElementTree.fromstring(text).findtext("SOUNDCTM/RECIPE")
            return None if recipe is None else decode_recipe(recipe)
    return None


def _in_comment(stream: BinaryIO) -> tuple[str, Recipe] | None:
    with soundfile.SoundFile(stream) as file:
        return decode_recipe(file.comment)


def _plain(text: str) -> str:
    """On one line, without the characters that XML and other programs stumble over."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _cut(text: str, size_bytes: int) -> bytes:
    """UTF-8 of at most that many bytes, whole characters only."""
    return _plain(text).encode()[:size_bytes].decode(errors="ignore").encode()
