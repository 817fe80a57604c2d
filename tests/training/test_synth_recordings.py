"""The table of recordings holds together, and recordings become clips of any length."""

import csv
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile

from soundctm_training.synth.catalogue import LABELS
from soundctm_training.synth.recordings import (
    Placement,
    RecordingError,
    RecordingGroup,
    RecordingLibrary,
    group_paths,
    read_mono,
    recording_groups,
)

SAMPLES = 44_100


def _attributions() -> list[dict[str, str]]:
    text = resources.files("soundctm_training.synth").joinpath("recordings_attribution.csv").read_text("utf-8")
    return list(csv.DictReader(text.splitlines()))


def test_the_table_names_known_classes_and_each_group_once() -> None:
    groups = recording_groups()
    assert {group.label for group in groups} <= set(LABELS)
    assert len({group.name for group in groups}) == len(groups)
    assert all(len(set(group.captions)) >= 3 and group.files for group in groups)
    assert all(0 < group.gap_seconds[0] <= group.gap_seconds[1] for group in groups)


def test_every_named_recording_is_attributed_and_free() -> None:
    rows = _attributions()
    assert list(rows[0]) == ["file", "label", "author", "licence", "source"]
    assert all(all(row.values()) and row["licence"] == "CC0-1.0" for row in rows)
    named = {(row["file"], row["label"]) for row in rows}
    for group in recording_groups():
        for name in group.files:
            matching = [label for file, label in named if Path(file).match(name)]
            assert matching and set(matching) == {group.label}, name


def _tone(path: Path, seconds: float, rate_hz: int) -> None:
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    stereo = np.stack([np.sin(2 * np.pi * 500 * t), np.sin(2 * np.pi * 500 * t)], axis=1)
    soundfile.write(path, 0.3 * stereo, rate_hz)


@pytest.mark.parametrize("placement", list(Placement))
def test_a_short_recording_fills_a_clip_of_the_asked_length(tmp_path: Path, placement: Placement) -> None:
    _tone(tmp_path / "tone.wav", 0.3, 48_000)
    group = RecordingGroup("tones", "bell", placement, ("*.wav",), ("a tone",), (0.2, 0.3), typical=False)
    library = RecordingLibrary.load(tmp_path, [group])
    sound, name = library.render("bell", np.random.default_rng(1), SAMPLES)
    again, _ = library.render("bell", np.random.default_rng(1), SAMPLES)
    assert name == "tones" and sound.label == "bell" and "a tone" in sound.caption.lower()
    assert sound.audio.shape == (SAMPLES,) and np.isfinite(sound.audio).all()
    assert np.array_equal(sound.audio, again.audio)
    assert all(np.abs(part).max() > 0.01 for part in np.split(sound.audio, 3))


def test_recordings_are_brought_to_44100_hz_mono(tmp_path: Path) -> None:
    _tone(tmp_path / "tone.ogg", 1.0, 48_000)
    audio = read_mono(tmp_path / "tone.ogg")
    assert audio.ndim == 1
    spectrum = np.abs(np.fft.rfft(audio[:44_100], 44_100))
    assert abs(int(spectrum.argmax()) - 500) <= 2  # Hz: one bin is 1 Hz


def test_a_missing_or_silent_recording_is_named(tmp_path: Path) -> None:
    group = RecordingGroup("tones", "bell", Placement.LOOP, ("gone.ogg",), ("a tone",))
    with pytest.raises(RecordingError, match=r"gone\.ogg.*--recordings"):
        group_paths(tmp_path, group)
    soundfile.write(tmp_path / "still.wav", np.zeros(1000), 44_100)
    with pytest.raises(RecordingError, match="silent"):
        read_mono(tmp_path / "still.wav")
