"""A recipe is found in whatever an editor left of a file, and no file can do harm by what it claims to hold."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
import soundfile

from soundgen.chunks import append_aiff_chunk
from soundgen.errors import InvalidRequestError
from soundgen.provenance import read_chunk, read_recipe, recipe_in

DOCUMENT = {"format": 1, "model": "tiny", "recipe": {"prompt": "rain <&> é日", "seed": 7}}
RECORD = json.dumps({**DOCUMENT, "id": "abc", "label": "rain", "peak": 0.5}).encode()
AUDIO = 0.1 * np.sin(np.arange(1001) / 9.0)


def ixml(recipe: str) -> bytes:
    return f"<BWFXML><SOUNDCTM><RECIPE>{escape(recipe)}</RECIPE></SOUNDCTM></BWFXML>".encode()


def wav_with(path: Path, *chunks: tuple[bytes, bytes]) -> Path:
    soundfile.write(path, AUDIO, 44100, subtype="FLOAT")
    with path.open("ab") as stream:
        for name, payload in chunks:
            stream.write(struct.pack("<4sI", name, len(payload)) + payload + b"\0" * (len(payload) % 2))
    return path


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"sctm", RECORD)],
        [(b"odd ", b"abc"), (b"sctm", RECORD)],
        [(b"iXML", ixml(json.dumps(DOCUMENT)))],
        [(b"iXML", ixml(json.dumps(DOCUMENT)) + b"\0\0")],
        [(b"sctm", b"damaged"), (b"iXML", ixml(json.dumps(DOCUMENT)))],
    ],
)
def test_a_wav_file_has_it_in_either_chunk(tmp_path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    assert json.loads(read_recipe(wav_with(tmp_path / "clip.wav", *chunks))) == DOCUMENT


def test_an_aiff_file_has_it_and_stays_a_sound_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.aiff"
    soundfile.write(path, AUDIO, 44100, subtype="PCM_24")  # an odd number of bytes
    append_aiff_chunk(path, b"sctm", RECORD)
    assert json.loads(read_recipe(path)) == DOCUMENT
    assert np.allclose(soundfile.read(path)[0], AUDIO, atol=2.0**-22)
    assert struct.unpack(">4sI", path.read_bytes()[:8]) == (b"FORM", path.stat().st_size - 8)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_others_have_it_in_their_comment(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    with soundfile.SoundFile(path, "w", samplerate=44100, channels=1) as file:
        file.comment = recipe_in(RECORD)
        file.write(AUDIO)
    assert json.loads(read_recipe(path)) == DOCUMENT


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + ixml("&b;")


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [(b"sctm", b"{}")],
        [(b"sctm", b"\xff\xfe")],
        [(b"sctm", b"[" * 100_000)],
        [(b"sctm", json.dumps({**DOCUMENT, "recipe": None}).encode())],
        [(b"sctm", RECORD + b" " * 600_000)],
        [(b"iXML", b"<BWFXML>")],
        [(b"iXML", b"<BWFXML/>")],
        [(b"iXML", BOMB)],
        [(b"iXML", b'<?xml version="1.0" encoding="nobody-knows"?><BWFXML/>')],
        [(b"iXML", b'<?xml version="1.0" encoding="shift_jis"?><BWFXML/>')],
    ],
)
def test_what_holds_no_recipe_is_refused(tmp_path: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    path = wav_with(tmp_path / "clip.wav", *chunks)
    with pytest.raises(InvalidRequestError, match="carries no recipe"):
        read_recipe(path)


def test_a_chunk_that_claims_more_than_the_file_holds_is_none(tmp_path: Path) -> None:
    path = wav_with(tmp_path / "clip.wav")
    with path.open("ab") as stream:
        stream.write(struct.pack("<4sI", b"sctm", 1000) + RECORD[:100])
    with path.open("rb") as stream:
        assert read_chunk(stream, b"sctm") is None
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + struct.pack("<4sI", b"junk", 0xFFFFFFFF))
    with pytest.raises(InvalidRequestError, match="carries no recipe"):
        read_recipe(path)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_recipe(tmp_path / "none.wav")
