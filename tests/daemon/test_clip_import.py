"""Sound files from outside: any that can be stored becomes a clip, any other is refused by name and leaves nothing."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile

from soundctm_daemon.clip import ClipRecord
from soundctm_daemon.files import write_durably
from soundctm_daemon.library import Library, open_library
from soundctm_daemon.recipes import encode_recipe
from soundgen.v1 import clip_pb2, clip_service_pb2, clip_service_pb2_grpc
from stored_clips import AUDIO, PATIENCE_SECONDS, RECIPE, fault_of, record, serving

Stub = clip_service_pb2_grpc.ClipServiceStub
Request = clip_service_pb2.ImportClipRequest
INVALID = grpc.StatusCode.INVALID_ARGUMENT
# whole periods: no mean
TONE = (0.4 * np.sin(np.outer(np.arange(9600), 2 * np.pi * np.array([440, 1000]) / 48000))).astype(np.float32)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    opened = open_library(tmp_path / "clips")
    yield opened
    opened.close()


@pytest.fixture
def stub(library: Library) -> Iterator[Stub]:
    with serving(library) as connected:
        yield connected


def sound(kind: str, subtype: str | None = None, audio: Any = TONE, rate_hz: int = 48000, comment: str = "") -> bytes:
    buffer = io.BytesIO()
    channels = 1 if audio.ndim == 1 else audio.shape[1]
    with soundfile.SoundFile(buffer, "w", rate_hz, channels, subtype, format=kind) as file:
        if comment:
            file.comment = comment
        file.write(audio)
    return buffer.getvalue()


def requests(data: bytes, chunk_bytes: int = 100_000, **header: Any) -> Iterator[Request]:
    told = {"label": "field recording", "size_bytes": len(data), **header}
    yield Request(header=clip_service_pb2.ImportClipHeader(**told))
    for start in range(0, len(data), chunk_bytes):
        yield Request(chunk=data[start : start + chunk_bytes])


def bring_in(stub: Stub, data: bytes, **header: Any) -> clip_pb2.Clip:
    return stub.ImportClip(requests(data, **header)).clip


def refused(stub: Stub, messages: Iterable[Request]) -> tuple[grpc.StatusCode, str, str]:
    """The code, the reason and the message."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.ImportClip(iter(messages))
    code, reason, _ = fault_of(caught.value)
    return code, reason, caught.value.details()


def nothing_is_left(library: Library) -> bool:
    return library.page(1, None) == ([], None) and {path.name for path in library.folder.iterdir()} <= {
        "trash", "edits", "library.sqlite", "library.sqlite-wal", "library.sqlite-shm",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [
        ("WAV", "FLOAT", 0.0), ("WAV", "DOUBLE", 0.0), ("WAV", "PCM_24", 1e-6), ("WAVEX", "PCM_16", 1e-4),
        ("RF64", "FLOAT", 0.0), ("AIFF", "PCM_24", 1e-6), ("FLAC", "PCM_24", 1e-6), ("OGG", "VORBIS", 0.05),
        ("MP3", "MPEG_LAYER_III", None),
    ],
)  # fmt: skip
def test_a_sound_of_any_kind_becomes_a_wav_clip(
    library: Library, stub: Stub, kind: str, subtype: str, tolerance: float | None
) -> None:
    data = sound(kind, subtype)
    sha256 = hashlib.sha256(data).hexdigest()
    clip = bring_in(stub, data, sha256=sha256, tags=["Field", "field"], label="../../etc/passwd\n")
    assert (clip.label, list(clip.tags), clip.origin) == ("../../etc/passwd", ["field"], clip_pb2.CLIP_ORIGIN_IMPORTED)
    assert (clip.sample_rate_hz, clip.channels, clip.HasField("recipe")) == (48000, 2, False)
    assert Path(clip.path) == library.folder / f"{clip.id}.wav"
    assert hashlib.sha256(Path(clip.path).read_bytes()).hexdigest() == clip.sha256
    stored, rate_hz = soundfile.read(clip.path, dtype="float32", always_2d=True)
    assert rate_hz == 48000
    if tolerance is None:
        assert len(stored) >= len(TONE)  # MP3 adds silence at both ends
    else:
        np.testing.assert_allclose(stored, TONE, atol=tolerance)
    assert clip.samples == len(stored)
    assert clip.peak_dbfs == pytest.approx(20 * np.log10(np.abs(stored).max()), abs=1e-3)
    assert stub.GetClip(clip_service_pb2.GetClipRequest(clip_id=clip.id)).clip == clip
    assert not list(library.folder.glob(".*"))


def test_what_was_imported_comes_back_without_the_database(library: Library, tmp_path: Path) -> None:
    with serving(library) as stub:
        clip = bring_in(stub, sound("WAV", "FLOAT"), tags=["field"])
    library.close()
    (library.folder / "library.sqlite").unlink()
    with serving(again := open_library(library.folder)) as stub:
        assert stub.GetClip(clip_service_pb2.GetClipRequest(clip_id=clip.id)).clip == clip
    again.close()


def test_findings_of_a_foreign_sound_are_told(stub: Stub) -> None:
    offset = bring_in(stub, sound("WAV", "FLOAT", TONE * 0.1 - [0.0, 0.3]))
    assert list(offset.findings) == [clip_pb2.AUDIO_FINDING_DC_OFFSET]
    loud = bring_in(stub, sound("WAV", "FLOAT", TONE * 4))
    assert list(loud.findings) == [clip_pb2.AUDIO_FINDING_CLIPPING]
    assert list(bring_in(stub, sound("WAV", "FLOAT", TONE * 0)).findings) == [clip_pb2.AUDIO_FINDING_SILENT]


def cut(data: bytes, kept: float) -> bytes:
    return data[: int(len(data) * kept)]


def spoilt(number: float) -> np.ndarray:
    audio = TONE.copy()
    audio[77, 1] = number
    return audio


def streamed(data: bytes) -> bytes:
    """A WAV file as a program writes it that cannot go back to its header."""
    at = data.index(b"data") + 4
    return data[:4] + b"\xff" * 4 + data[8:at] + b"\xff" * 4 + data[at + 4 :]


REFUSED = {
    "text": (b"hello world " * 100, "no sound file of a kind"),
    "nothing but a beginning": (b"RIFF", "cannot be decoded"),
    "an archive": (b"PK\x03\x04" + bytes(1000), "no sound file of a kind"),
    "random": (np.random.default_rng(0).bytes(50_000), "no sound file of a kind"),
    "random behind RIFF": (b"RIFF" + np.random.default_rng(0).bytes(50_000), "cannot be decoded"),
    "random behind ID3": (b"ID3" + np.random.default_rng(0).bytes(50_000), "cannot be decoded"),
    "random behind fLaC": (b"fLaC" + np.random.default_rng(0).bytes(50_000), "cannot be decoded"),
    "random behind OggS": (b"OggS" + np.random.default_rng(0).bytes(50_000), "cut short"),
    "another format": (sound("CAF", "FLOAT"), "no sound file of a kind"),
    "half a WAV": (cut(sound("WAV", "FLOAT"), 0.5), "cut short"),
    "half an AIFF": (cut(sound("AIFF", "PCM_16"), 0.5), "cut short"),
    "half a FLAC": (cut(sound("FLAC", "PCM_16"), 0.5), "cut short or damaged"),
    "half an Ogg": (cut(sound("OGG", "VORBIS"), 0.5), "cut short"),
    "half an MP3": (cut(sound("MP3", "MPEG_LAYER_III"), 0.5), "cut short"),
    "empty": (sound("WAV", "FLOAT", np.zeros((0, 1), np.float32)), "empty"),
    "NaN": (sound("WAV", "FLOAT", spoilt(np.nan)), "NaN or infinity"),
    "infinity": (sound("WAV", "FLOAT", spoilt(-np.inf)), "NaN or infinity"),
    "beyond float32": (sound("WAV", "DOUBLE", spoilt(1.0).astype(np.float64) * 1e300), "NaN or infinity"),
    "three channels": (sound("WAV", "FLOAT", np.zeros((100, 3), np.float32)), "3 channels"),
    "too slow": (sound("WAV", "FLOAT", rate_hz=100), "100 samples per second"),
    "too fast": (sound("WAV", "FLOAT", rate_hz=10_000_000), "10000000 samples per second"),
    "no channels": (sound("WAV", "PCM_16").replace(struct.pack("<HH", 1, 2), struct.pack("<HH", 1, 0), 1), "decoded"),
    "a bomb": (sound("FLAC", "PCM_16", np.zeros(2_000_000, np.int16)), "more than 1 MB once it is decoded"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_storable_sound_is_refused_and_leaves_nothing(library: Library, stub: Stub, name: str) -> None:
    data, said = REFUSED[name]
    code, reason, message = refused(stub, requests(data))
    assert (code, reason) == (INVALID, "SOUND_UNUSABLE")
    assert said in message
    assert nothing_is_left(library)


def test_a_streamed_wav_is_whole(stub: Stub) -> None:
    assert bring_in(stub, streamed(sound("WAV", "FLOAT"))).samples == len(TONE)


def test_a_transfer_that_is_not_what_it_says_is_refused(library: Library, stub: Stub) -> None:
    data = sound("WAV", "FLOAT")
    size = len(data)
    first, *chunks = requests(data)
    for messages, field, said in (
        ([], "header", "missing"),
        (chunks, "header", "missing"),
        (requests(data, size_bytes=0), "header.size_bytes", "is 0; allowed: 1 to 1000000 bytes"),
        (requests(data, size_bytes=10**12), "header.size_bytes", "import_limit_mb is 1"),
        (requests(data, size_bytes=size + 1), "chunk", f"is {size} bytes in all; allowed: {size + 1}"),
        (requests(data, size_bytes=size - 1), "chunk", f"is more than {size - 1} bytes in all"),
        ([first], "chunk", "is 0 bytes in all"),
        ([first, first, *chunks], "chunk", "is a header"),
        ([first, Request(), *chunks], "chunk", "after the header"),
        (requests(sound("WAV", "DOUBLE", np.tile(TONE, (4, 1))), chunk_bytes=262145), "chunk", "is 262145 bytes"),
        (requests(data, sha256="0" * 64), "header.sha256", hashlib.sha256(data).hexdigest()),
        (requests(data, sha256="nonsense"), "header.sha256", "64 lower-case"),
        (requests(data, label=" "), "label", "is empty"),
        (requests(data, label="x" * 201), "label", "201 characters"),
        (requests(data, tags=["x" * 41]), "tags", "41 characters"),
    ):
        code, reason, message = refused(stub, messages)
        assert (code, reason) == (INVALID, "INVALID_REQUEST"), message
        assert message.startswith(field) and said in message
        assert nothing_is_left(library)


def test_a_client_that_leaves_in_the_middle_leaves_nothing(
    library: Library, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = requests(sound("WAV", "FLOAT"), chunk_bytes=1000)
    begun, left, removed = threading.Event(), threading.Event(), threading.Event()
    real_open, real_unlink = Path.open, Path.unlink

    def opened(path: Path, mode: str = "r", **named: Any) -> Any:
        file = real_open(path, mode, **named)
        if mode == "xb":
            begun.set()
        return file

    def unlinked(path: Path, **named: Any) -> None:
        real_unlink(path, **named)
        if "import" in path.name:
            removed.set()

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(Path, "unlink", unlinked)

    def slowly() -> Iterator[Request]:
        yield next(messages)
        yield next(messages)
        left.wait(PATIENCE_SECONDS)

    call = stub.ImportClip.future(slowly())
    assert begun.wait(PATIENCE_SECONDS)
    call.cancel()
    assert removed.wait(PATIENCE_SECONDS)
    left.set()
    assert nothing_is_left(library)
    assert bring_in(stub, sound("WAV", "FLOAT")).samples == len(TONE)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    failing = [True]

    def write(path: Path, data: bytes) -> None:
        if failing:
            raise OSError(number, os.strerror(number))
        write_durably(path, data)

    library = open_library(tmp_path / "clips", write)
    real_open = Path.open

    def opened(path: Path, mode: str = "r", **named: Any) -> Any:
        if mode == "xb" and failing and failing[0] == "temporary":
            raise OSError(number, os.strerror(number))
        return real_open(path, mode, **named)

    monkeypatch.setattr(Path, "open", opened)
    expected = {errno.ENOSPC: "DISK_FULL", errno.EROFS: "CLIP_FOLDER_NOT_WRITABLE"}[number]
    with serving(library) as stub:
        for what in ("clip", "temporary"):
            failing[:] = [what]  # type: ignore[list-item]
            assert refused(stub, requests(sound("WAV", "FLOAT")))[1] == expected
            assert nothing_is_left(library)
        failing.clear()
        assert bring_in(stub, sound("WAV", "FLOAT")).samples == len(TONE)
    library.close()


def test_a_sound_of_ours_brings_its_recipe_along(library: Library, stub: Stub) -> None:
    stored = library.add(record(), AUDIO)
    wav = stored.path.read_bytes()
    text = encode_recipe("tiny", RECIPE)
    carriers = {
        "our WAV": wav,
        "a WAV that an editor saved": wav.replace(b"sctm", b"xxxx"),
        "a FLAC": sound("FLAC", "PCM_24", comment=text),
    }
    for what, data in carriers.items():
        clip = bring_in(stub, data)
        assert clip.recipe.prompt == RECIPE.prompt, what
        assert (clip.recipe.model, clip.recipe.seed, clip.origin) == ("tiny", RECIPE.seed, 2), what
        assert clip.id != stored.record.id
        answer = stub.ExportRecipe(clip_service_pb2.ExportRecipeRequest(clip_id=clip.id))
        assert answer.recipe_json == text


def test_a_recipe_that_cannot_be_is_no_recipe_but_still_a_sound(library: Library, stub: Stub) -> None:
    wav = library.add(record(), AUDIO).path.read_bytes()
    good = encode_recipe("tiny", RECIPE)
    for data in (
        wav.replace(b'"seed": 4294967295', b'"seed": 9999999999'),
        wav.replace(b"sctm", b"xxxx").replace(b"<RECIPE>", b"<!ENTIT>"),
        wav.replace(b"sctm", b"xxxx").replace(b"</BWFXML>", b"<BWFXML>>"),
        sound("FLAC", "PCM_24", comment=good.replace("tiny", "x" * 300)),
        sound("FLAC", "PCM_24", comment="[" * 50_000),
        sound("FLAC", "PCM_24", comment='{"format": 1, "model": "tiny", "recipe": {"seed": 1}}'),
    ):
        clip = bring_in(stub, data)
        assert not clip.HasField("recipe")
        assert clip.label == "field recording"


def test_the_audio_of_an_import_is_what_was_measured(stub: Stub) -> None:
    clip = bring_in(stub, sound("WAV", "FLOAT"))
    written = ClipRecord.from_json(Path(clip.path).read_bytes().partition(b"sctm")[2][4:].rstrip(b"\0").decode())
    assert written.peak == float(np.abs(TONE).max())
