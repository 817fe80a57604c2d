"""Promises of the data sources: any audio in, every item accounted for, orders that restart anywhere."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundctm_training.config import ConfigError, build
from soundctm_training.data.clips import Clip, DataError, Reason, Skipped
from soundctm_training.data.opening import open_source
from soundctm_training.data.reading import Limits, read_clip
from soundctm_training.data.settings import DataKind, DataSettings, EncodeSettings
from soundctm_training.data.sources import Source

RATES_HZ = (8_000, 44_100, 48_000)
LIMITS = Limits(shortest_seconds=0.03, longest_seconds=600, silence=1e-3)


def tone(seconds: float, rate_hz: int, channels: int = 1, hz: float = 500.0) -> np.ndarray:
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)
    return np.repeat(wave[:, None], channels, axis=1)


def encoded(audio: np.ndarray, rate_hz: int = 44_100, kind: str = "OGG") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, audio, rate_hz, format=kind)
    return stream.getvalue()


def folder_of(path: Path, rows: dict[str, bytes], table: str = "captions.csv") -> Path:
    """Files, each with the caption `a sound called <stem>`."""
    for name, content in rows.items():
        (path / name).write_bytes(content)
    lines = ["file,caption", *(f"{name},a sound called {Path(name).stem}" for name in rows)]
    (path / table).write_text("\n".join(lines) + "\n")
    return path


def open_folder(path: Path, **settings: object) -> Source:
    return open_source(DataSettings(DataKind.FOLDER, path, **settings))  # type: ignore[arg-type]


def test_every_rate_and_channel_count_becomes_mono_at_44100_hz(tmp_path: Path) -> None:
    rows = {f"t{rate}_{channels}.wav": encoded(tone(0.5, rate, channels), rate, "WAV")
            for rate in RATES_HZ for channels in (1, 2)}
    clips = list(open_folder(folder_of(tmp_path, rows)).ordered())
    assert len(clips) == 6
    for clip in clips:
        assert isinstance(clip, Clip) and clip.audio.dtype == np.float32 and clip.audio.shape == (22_050,)
        spectrum = np.abs(np.fft.rfft(clip.audio))
        assert int(spectrum.argmax()) == 250  # 500 Hz, a bin being 2 Hz
        assert np.sqrt(np.mean(clip.audio**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.02)


def test_samples_beyond_full_scale_are_clamped(tmp_path: Path) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, 10 * tone(0.5, 44_100), 44_100, format="WAV", subtype="FLOAT")
    [clip] = open_folder(folder_of(tmp_path, {"loud.wav": stream.getvalue()})).ordered()
    assert isinstance(clip, Clip) and float(np.abs(clip.audio).max()) == 1.0


def bad_files() -> dict[str, tuple[bytes, Reason]]:
    nan = tone(0.5, 44_100)
    nan[100] = np.nan
    stream = io.BytesIO()
    soundfile.write(stream, nan, 44_100, format="WAV", subtype="FLOAT")
    noise = 0.3 * np.random.default_rng(0).standard_normal(44_100)
    ogg, flac, wav = encoded(noise), encoded(noise, kind="FLAC"), encoded(noise, kind="WAV")
    opposite = tone(0.5, 44_100, 2) * np.array([1, -1])
    return {
        "short.wav": (encoded(tone(0.02, 44_100), kind="WAV"), Reason.TOO_SHORT),
        "nan.wav": (stream.getvalue(), Reason.NOT_FINITE),
        "still.wav": (encoded(np.zeros(44_100), kind="WAV"), Reason.SILENT),
        "cancelled.wav": (encoded(opposite, kind="WAV"), Reason.SILENT),
        "nothing.ogg": (b"", Reason.EMPTY),
        "no_samples.wav": (encoded(np.zeros(0), kind="WAV"), Reason.EMPTY),
        "cut.ogg": (ogg[: len(ogg) // 2], Reason.TRUNCATED),
        "cut_early.ogg": (ogg[:300], Reason.TRUNCATED),
        "cut.flac": (flac[: len(flac) // 2], Reason.UNREADABLE),
        "cut.wav": (wav[: len(wav) // 2], Reason.TRUNCATED),
        "text.mp3": (b"this is no audio file at all", Reason.UNREADABLE),
    }


def test_bad_files_are_skipped_with_their_reason_and_the_good_one_is_kept(tmp_path: Path) -> None:
    bad = bad_files()
    rows = {name: content for name, (content, _) in bad.items()} | {"good.ogg": encoded(tone(0.5, 44_100))}
    items = list(open_folder(folder_of(tmp_path, rows)).ordered())
    assert {item.name: item.reason for item in items if isinstance(item, Skipped)} == {
        name: reason for name, (_, reason) in bad.items()
    }
    assert [item.name for item in items if isinstance(item, Clip)] == ["good.ogg"]


@pytest.mark.parametrize("kind", ["WAV", "OGG", "FLAC", "MP3", "AIFF", "CAF", "AU", "W64"])
def test_damaged_bytes_never_raise(kind: str) -> None:
    rng = np.random.default_rng(0)
    whole = encoded(0.3 * rng.standard_normal((8000, 2)), 48_000, kind)
    for trial in range(30):
        content = bytearray(whole)
        header = 200 if trial % 2 else len(content)
        for place in rng.integers(0, header, int(rng.integers(1, 30))):
            content[place] = int(rng.integers(256))
        item = read_clip("damaged", "noise", lambda content=content: bytes(content), LIMITS)  # type: ignore[misc]
        assert isinstance(item, Skipped) or (np.isfinite(item.audio).all() and np.abs(item.audio).max() <= 1)


def test_an_unreadable_file_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_folder(folder_of(tmp_path, {"gone.ogg": encoded(tone(0.5, 44_100))}))
    (tmp_path / "gone.ogg").unlink()  # after the listing
    item = source.item(0)
    assert isinstance(item, Skipped) and item.reason is Reason.UNREADABLE and "gone.ogg" in item.detail


@pytest.mark.parametrize("stem", ["abc-1", "Yabc-1", "abc-1_30", "Yabc-1_30.000", "abc-1_30000"])
def test_audiocaps_names(tmp_path: Path, stem: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f"{stem}.flac").write_bytes(encoded(tone(0.5, 44_100), kind="FLAC"))
    (tmp_path / "train.csv").write_text(
        'audiocap_id,youtube_id,start_time,caption\n7,abc-1,30,"A man speaks, then a dog barks"\n8,gone,0,Rain\n'
    )
    found, missing = open_folder(tmp_path).ordered()
    assert isinstance(found, Clip) and found.caption == "A man speaks, then a dog barks"
    assert isinstance(missing, Skipped) and missing.reason is Reason.NO_AUDIO and "gone" in missing.detail


def test_two_clips_of_one_video_are_told_apart_by_their_start(tmp_path: Path) -> None:
    for start, hz in ((0, 400.0), (30, 800.0)):
        (tmp_path / f"abc_{start}.wav").write_bytes(encoded(tone(0.5, 44_100, hz=hz), kind="WAV"))
    (tmp_path / "t.csv").write_text("audiocap_id,youtube_id,start_time,caption\n1,abc,30,high\n2,abc,0,low\n")
    names = {item.caption: item.name for item in open_folder(tmp_path).ordered() if isinstance(item, Clip)}
    assert names == {"high": "abc_30.wav", "low": "abc_0.wav"}


def test_jsonl_tables_and_lists_of_captions(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.wav").write_bytes(encoded(tone(0.5, 44_100), kind="WAV"))
    rows = [{"audio": "sub/a.wav", "text": ["one", "two"]}, {"audio": "a", "text": "three"}, {"audio": "a", "text": ""}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = list(open_folder(tmp_path).ordered())
    assert [item.caption for item in items if isinstance(item, Clip)] == ["one", "two", "three"]
    assert {item.thing for item in items if isinstance(item, Clip)} == {"sub/a.wav"}  # three wordings of one thing
    assert isinstance(items[3], Skipped) and items[3].reason is Reason.NO_CAPTION


def test_named_columns_and_a_table_elsewhere(tmp_path: Path) -> None:
    audio, table = tmp_path / "audio", tmp_path / "words.tsv"
    audio.mkdir()
    (audio / "x.wav").write_bytes(encoded(tone(0.5, 44_100), kind="WAV"))
    table.write_text("id\twords\nx\ta beep\n")
    source = open_folder(audio, captions=table, audio_column="id", caption_column="words")
    assert [item.caption for item in source.ordered() if isinstance(item, Clip)] == ["a beep"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, r"holds 0 caption files \(none\).*data\.captions.*\.csv"),
        ({"a.csv": "file,caption\n", "b.csv": "file,caption\n"}, r"2 caption files \(a\.csv, b\.csv\)"),
        ({"a.csv": "file,caption\n"}, r"a\.csv holds no captions"),
        ({"a.csv": ""}, r"a\.csv holds no captions"),
        ({"a.csv": "sound,caption\nx,y\n"}, r"a\.csv has no column.*'file'.*are 'sound', 'caption'.*audio_column"),
        ({"a.csv": "file,label\nx,y\n"}, r"no column 'caption' or 'text'.*'file', 'label'.*caption_column"),
        ({"a.jsonl": '{"file": "x"\n'}, r"a\.jsonl, line 1.*one JSON object"),
        ({"a.csv": "file,caption\nx.wav,y\nz.wav,q\n"}, r"none of the 2 captions.*x\.wav: no file x\.wav.*data\.path"),
    ],
)
def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        open_folder(tmp_path)


def test_no_folder_and_no_path_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is no folder"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="needs a path"):
        DataSettings(DataKind.WEBDATASET)


def shard(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_shards_hold_samples_by_key(tmp_path: Path) -> None:
    flac = encoded(tone(0.5, 48_000, 2), 48_000, "FLAC")
    two = {"2.json": b'{"caption": "two"}', "2.flac": flac}
    shard(tmp_path / "s-000.tar", {"a/1.flac": flac, "a/1.txt": b"one\n", **two})
    shard(tmp_path / "s-001.tar", {"3.flac": flac, "4.txt": b"no sound", "5.ogg": b"OggS", "5.txt": b"broken"})
    for pattern in ("s-{000..001}.tar", "s-*.tar", ""):
        source = open_source(DataSettings(DataKind.WEBDATASET, tmp_path / pattern))
        items = list(source.ordered())
        assert [(item.name, item.caption) for item in items if isinstance(item, Clip)] == [
            ("s-000.tar/a/1", "one"), ("s-000.tar/2", "two")
        ]
        assert [item.reason for item in items if isinstance(item, Skipped)] == [
            Reason.NO_CAPTION, Reason.NO_AUDIO, Reason.TRUNCATED
        ]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_shard_gives_what_is_whole_and_is_reported(tmp_path: Path, share: float) -> None:
    flac = encoded(tone(0.5, 44_100), kind="FLAC")
    shard(tmp_path / "whole.tar", {"0.flac": flac, "0.txt": b"whole"})
    parts = (("flac", flac), ("txt", b"kept"))
    shard(tmp_path / "zcut.tar", {f"{number}.{suffix}": part for number in range(1, 5) for suffix, part in parts})
    content = (tmp_path / "zcut.tar").read_bytes()
    members_end = 4 * (512 + -(-len(flac) // 512) * 512 + 1024)
    (tmp_path / "zcut.tar").write_bytes(content[: int(share * members_end)])
    items = list(open_source(DataSettings(DataKind.WEBDATASET, tmp_path)).ordered())
    kept = [item for item in items if isinstance(item, Clip)]
    assert len(kept) == 1 + int(share * 4)
    assert isinstance(items[-1], Skipped) and items[-1].name == "zcut.tar"
    assert items[-1].reason in (Reason.TRUNCATED, Reason.UNREADABLE)


def test_absent_and_useless_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s-000\.tar.*not found.*train-\{000\.\.127\}"):
        open_source(DataSettings(DataKind.WEBDATASET, tmp_path / "s-{000..001}.tar"))
    (tmp_path / "bad.tar").write_bytes(b"not a tar " * 100)
    with pytest.raises(DataError, match=r"none of the 1 shards.*bad\.tar"):
        open_source(DataSettings(DataKind.WEBDATASET, tmp_path))


def test_pools_are_read_back(tmp_path: Path) -> None:
    pcm = np.random.default_rng(0).integers(-9000, 9000, (3, 5 * 1024)).astype(np.int16)
    np.save(tmp_path / "audio_5.npy", pcm)
    np.save(tmp_path / "audio_12.npy", np.full((1, 12 * 1024), 3000, np.int16))
    (tmp_path / "meta_5.jsonl").write_text("".join(f'{{"caption": "c{n}", "label": "l{n}"}}\n' for n in range(3)))
    (tmp_path / "meta_12.jsonl").write_text('{"caption": "long"}\n')
    clips = [item for item in open_source(DataSettings(DataKind.POOLS, tmp_path)).ordered() if isinstance(item, Clip)]
    assert [clip.caption for clip in clips] == ["c0", "c1", "c2", "long"]
    assert [clip.thing for clip in clips] == ["l0", "l1", "l2", ""]
    assert np.array_equal(np.rint(clips[1].audio * 32_767), pcm[1])
    (tmp_path / "meta_5.jsonl").write_text('{"caption": "only one"}\n')
    with pytest.raises(DataError, match=r"3 clips but meta_5\.jsonl 1 captions"):
        open_source(DataSettings(DataKind.POOLS, tmp_path))


def test_the_synthesiser_has_no_end_and_repeats_itself_by_number() -> None:
    settings = DataSettings(DataKind.PROCEDURAL, seed=3, count=4, frames=(8, 16))
    source, again = open_source(settings), open_source(settings)
    assert len(list(source.ordered())) == 4
    assert len({source.item(index).name for index in range(8)}) == 8  # beyond its length it holds new sounds
    first, second = source.item(9), again.item(9)
    assert isinstance(first, Clip) and isinstance(second, Clip)
    assert first.caption == second.caption and np.array_equal(first.audio, second.audio)
    lengths = {len(item.audio) for item in source.ordered() if isinstance(item, Clip)}
    assert lengths <= {8 * 1024, 16 * 1024}


def test_a_data_table_of_a_configuration_becomes_settings() -> None:
    table = {"kind": "webdataset", "path": "shards", "frames": [108], "silence_db": -50}
    settings = build(DataSettings, table, "file")
    assert settings == DataSettings(DataKind.WEBDATASET, Path("shards"), frames=(108,), silence_db=-50.0)
    with pytest.raises(ConfigError, match=r"'capton'.*did you mean 'captions'"):
        build(DataSettings, {"kind": "folder", "capton": "x"}, "file")
    with pytest.raises(DataError, match=r"encode\.frames is \[4, 4\]"):
        build(EncodeSettings, {"frames": [4, 4]}, "file")
