"""A prepared clip has the session's rate, its exact length, silent ends, 24 bits, and a name that is safe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundctm_bridge.errors import PreparationError
from soundctm_bridge.prepare import (
    Fades,
    display_name,
    file_stem,
    prepare_clip,
    resampled,
    resampled_length,
    with_fades,
    without_offset,
)
from soundgen.chunks import encode_chunk, with_chunks
from soundgen.provenance import read_recipe


def tone(rate_hz: int, seconds: float, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)[:, np.newaxis]


@pytest.mark.parametrize("samples", [1, 441, 44_100, 44_101, 441_000])
@pytest.mark.parametrize(("from_hz", "to_hz"), [(44_100, 48_000), (16_000, 48_000), (16_000, 44_100), (48_000, 44_100)])
def test_conversion_gives_exactly_the_duration(samples: int, from_hz: int, to_hz: int) -> None:
    length = resampled(np.zeros((samples, 1)), from_hz, to_hz).shape[0]
    assert length == resampled_length(samples, from_hz, to_hz)
    assert abs(length - samples * to_hz / from_hz) <= 0.5


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44_100, 48_000), (16_000, 48_000)])
def test_conversion_keeps_a_tone_without_delay(from_hz: int, to_hz: int) -> None:
    out, wanted = resampled(tone(from_hz, 1.0), from_hz, to_hz), tone(to_hz, 1.0)
    inner = slice(to_hz // 10, -to_hz // 10)  # away from the filter's edges
    error = np.sqrt(np.mean((out[inner] - wanted[inner]) ** 2)) / np.sqrt(np.mean(wanted[inner] ** 2))
    assert 20 * np.log10(error) < -120  # VHQ promises 28 bits; any delay of a thousandth of a sample would show


def test_the_session_rate_itself_is_left_alone() -> None:
    audio = tone(48_000, 0.1)
    assert resampled(audio, 48_000, 48_000) is audio


def test_a_wandering_offset_is_filtered_away_and_the_tone_stays() -> None:
    wandering = np.linspace(0.05, 0.15, 44_100)[:, np.newaxis]
    out, wanted = without_offset(tone(44_100, 1.0) + wandering, 44_100), tone(44_100, 1.0)
    inner = slice(4_410, -4_410)
    assert abs(float(out[inner].mean())) < 0.005
    assert np.sqrt(np.mean((out[inner] - wanted[inner]) ** 2)) < 0.05 * np.sqrt(np.mean(wanted**2))


def test_a_clip_without_an_offset_is_left_alone() -> None:
    audio = tone(44_100, 0.5) + 0.005
    assert without_offset(audio, 44_100) is audio


def test_fades_begin_and_end_in_silence_and_touch_nothing_else() -> None:
    audio = np.ones((48_000, 2))
    out = with_fades(audio, 48_000, Fades())
    assert np.all(out[0] == 0) and np.all(out[-1] == 0)
    assert np.all(np.diff(out[:96, 0]) > 0) and np.all(np.diff(out[-480:, 0]) < 0)
    assert np.all(out[96:-480] == 1)
    assert np.all(audio == 1)  # the caller's own array is untouched


@pytest.mark.parametrize("samples", [1, 2, 3, 50])
def test_fades_share_a_clip_that_is_shorter_than_they_are(samples: int) -> None:
    out = with_fades(np.ones((samples, 1)), 48_000, Fades())
    assert out.shape == (samples, 1)
    assert np.all((out >= 0) & (out <= 1))


@pytest.mark.parametrize("channels", [1, 2])
def test_the_file_is_24_bit_at_the_session_rate_with_the_clips_channels(tmp_path: Path, channels: int) -> None:
    source = tmp_path / "clip.wav"
    audio = np.repeat(tone(16_000, 0.5), channels, axis=1)
    soundfile.write(source, audio, 16_000, subtype="FLOAT")
    prepared = prepare_clip(source, tmp_path / "out", "name", 48_000)
    info = soundfile.info(prepared.path)
    assert (info.subtype, info.samplerate, info.channels, info.frames) == ("PCM_24", 48_000, channels, 24_000)
    assert (prepared.samples, prepared.rate_hz, prepared.channels, prepared.gain_db) == (24_000, 48_000, channels, 0.0)
    written = soundfile.read(prepared.path, dtype="float64", always_2d=True)[0]
    wanted = with_fades(resampled(audio.astype(np.float32).astype(float), 16_000, 48_000), 48_000, Fades())
    assert np.max(np.abs(written - wanted)) <= 2.0**-23  # one step of 24 bits
    assert list((tmp_path / "out").iterdir()) == [prepared.path]


@pytest.mark.parametrize("samples", [4_800, 4_801])  # of three bytes each: one file ends on an odd byte
def test_the_recipe_goes_with_the_clip(tmp_path: Path, samples: int) -> None:
    source = tmp_path / "clip.wav"
    soundfile.write(source, np.zeros((samples, 1)), 48_000, subtype="FLOAT")
    recipe = json.dumps({"format": 1, "model": "starter", "recipe": {"prompt": "rain \u2602"}})
    ixml = f"<BWFXML><SOUNDCTM><RECIPE>{recipe}</RECIPE></SOUNDCTM></BWFXML>".encode()
    source.write_bytes(with_chunks(source.read_bytes(), [], [encode_chunk(b"iXML", ixml)]))
    prepared = prepare_clip(source, tmp_path, "name", 48_000)
    assert json.loads(read_recipe(prepared.path)) == json.loads(recipe)
    assert soundfile.info(prepared.path).frames == samples


def test_a_clip_above_full_scale_is_turned_down_instead_of_clipped(tmp_path: Path) -> None:
    source = tmp_path / "clip.wav"
    soundfile.write(source, 4.0 * tone(48_000, 0.2), 48_000, subtype="FLOAT")
    prepared = prepare_clip(source, tmp_path, "name", 48_000)
    written = soundfile.read(prepared.path, dtype="float64")[0]
    assert prepared.gain_db == pytest.approx(-6.02, abs=0.01)
    assert np.count_nonzero(np.abs(written) > 0.9999) < 100  # peaks of a sine, not flat tops


def test_silence_stays_silence(tmp_path: Path) -> None:
    source = tmp_path / "clip.wav"
    soundfile.write(source, np.zeros((4_800, 1)), 48_000, subtype="FLOAT")
    assert not soundfile.read(prepare_clip(source, tmp_path, "name", 48_000).path)[0].any()


def test_what_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    with pytest.raises(PreparationError, match=r"broken\.wav cannot be read"):
        prepare_clip(broken, tmp_path, "name", 48_000)
    good = tmp_path / "good.wav"
    soundfile.write(good, tone(48_000, 0.1), 48_000)
    (tmp_path / "file").touch()
    with pytest.raises(PreparationError, match="cannot be written"):
        prepare_clip(good, tmp_path / "file" / "folder", "name", 48_000)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("heavy rain on a tin roof", "Heavy Rain On A Tin Roof"),
        ("../../etc/passwd", "Etc Passwd"),
        ("a\x00b\nc/d\\e:f*g?h\"i<j>k|l", "A B C D E F G H I J K L"),
        ("crème brûlée", "Creme Brulee"),
        ("雨の音", "Sound"),
        ("   ", "Sound"),
        ("-rf %L $(reboot)", "Rf L Reboot"),
    ],
)
def test_file_names_are_safe_and_speak(prompt: str, name: str) -> None:
    assert file_stem(prompt, "ab12") == f"DSGNMisc_{name}_SOUNDCTM_ab12"


def test_a_long_prompt_makes_a_short_name() -> None:
    assert len(file_stem("rain " * 2_000, "ab12")) < 100
    assert len(display_name("rain " * 2_000)) <= 61


def test_a_clip_id_that_is_no_word_never_becomes_a_path() -> None:
    with pytest.raises(PreparationError, match="cannot be part of a file name"):
        file_stem("rain", "../x")


def test_region_names_stay_on_one_line() -> None:
    assert display_name("two\nlines\tand\x07 a bell — 雨") == "two lines and a bell — 雨"
    assert display_name("\n") == "Sound"
