"""Sounds of screens, games and science fiction."""

from collections.abc import Mapping

import numpy as np

from soundctm_training.synth.notes import MINOR, counted, degree, gate, hertz, read, wavetable
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Recipe,
    Rendering,
    Rng,
    as_audio,
    band_noise,
    choose,
    decay,
    drift,
    equalise,
    log_uniform,
    onsets,
    place,
    room,
    scatter,
    sine,
    time_axis,
    to_samples,
    uniform,
)

# A square wave's odd harmonics, few enough not to alias at the pitches used here.
_SQUARE = wavetable([1 / n if n % 2 else 0.0 for n in range(1, 10)])
_SAW = wavetable([1 / n for n in range(1, 60)])


def _shot(rng: Rng, kind: str) -> Audio:
    """One laser shot: a tone that falls exponentially, with a hard edge."""
    seconds = {"blaster": 0.32, "zap": 0.22, "cannon": 0.75}[kind]
    high_hz = {"blaster": 3200.0, "zap": 6500.0, "cannon": 1400.0}[kind] * uniform(rng, 0.8, 1.25)
    low_hz = {"blaster": 280.0, "zap": 900.0, "cannon": 60.0}[kind]
    length = to_samples(seconds)
    t = time_axis(length)
    sweep_hz = low_hz + (high_hz - low_hz) * np.exp(-t / (0.25 * seconds))
    tone = read(_SQUARE, sweep_hz) if kind == "cannon" else sine(sweep_hz) + 0.35 * sine(2 * sweep_hz)
    shot = as_audio(tone * gate(length, 0.002, 0.3 * seconds))
    if kind == "cannon":
        shot = shot + 0.5 * band_noise(rng, length, 40, 900, -3) * decay(length, 0.15)
    return shot


def laser(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("blaster", "blaster", "zap", "cannon"))
    gap_seconds = {"blaster": uniform(rng, 0.3, 0.42), "zap": uniform(rng, 0.24, 0.34), "cannon": 0.85}[kind]
    length_seconds = {"blaster": 0.32, "zap": 0.22, "cannon": 0.75}[kind]
    count, starts = counted(rng, samples, gap_seconds, length_seconds, uniform(rng, 1.0, 1.6))
    shot = _shot(rng, kind)
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, shot * np.float32(uniform(rng, 0.8, 1.0)), start)
    return Rendering(room(rng, audio, uniform(rng, 0.4, 1.2), 0.15), {"kind": kind, "count": count})


def beep(rng: Rng, samples: int) -> Rendering:
    """Clean steady tones of an interface, in counted groups."""
    pitch = choose(rng, ("low", "high"))
    tone = choose(rng, ("soft", "digital"))
    hz = log_uniform(rng, 380, 620) if pitch == "low" else log_uniform(rng, 1100, 2400)
    seconds = uniform(rng, 0.13, 0.24)
    gap_seconds = seconds + uniform(rng, 0.13, 0.24)
    count, starts = counted(rng, samples, gap_seconds, seconds, uniform(rng, 1.0, 1.6))
    length = to_samples(seconds)
    frequency_hz = np.full(length, hz)
    wave = sine(frequency_hz) if tone == "soft" else read(_SQUARE, frequency_hz)
    one = wave * gate(length, 0.015 if tone == "soft" else 0.003, 0.05 if tone == "soft" else 0.006)
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, one, start)
    return Rendering(room(rng, audio, 0.25, 0.05), {"pitch": pitch, "tone": tone, "count": count})


def riser(rng: Rng, samples: int) -> Rendering:
    """A tone and a noise band that climb, or fall, over seconds; again from the start while the clip lasts."""
    direction = choose(rng, ("up", "down"))
    pace = choose(rng, ("quick", "slow"))
    texture = choose(rng, ("tonal", "noisy"))
    seconds = uniform(rng, 0.9, 1.5) if pace == "quick" else uniform(rng, 2.2, 4.5)
    low_hz, octaves = log_uniform(rng, 60, 130), uniform(rng, 3.5, 4.5)
    length = to_samples(seconds)
    climb = np.linspace(0, 1, length, dtype=np.float32)
    if direction == "down":
        climb = climb[::-1]
    hz = low_hz * 2 ** (octaves * climb)
    tone = read(_SAW, hz) * (1 - 0.5 * climb) + 0.5 * sine(2 * hz)
    if texture == "noisy":
        # A pitch that trembles at random smears into a band of noise about it, which moves with the pitch.
        tone = 0.2 * tone + sine(4 * hz * (1 + 0.15 * band_noise(rng, length, 20, 300)))
    sweep = as_audio(tone * (0.35 + 0.65 * climb) * gate(length, 0.02, 0.08))
    audio = np.zeros(samples, np.float32)
    for start in onsets(rng, samples, 0.1, seconds + 0.15, seconds + 0.4):
        place(audio, sweep, start)
    attributes = {"direction": direction, "pace": pace, "texture": texture}
    return Rendering(room(rng, audio, 0.6, 0.12), attributes)


def _bleep(rng: Rng, low_hz: float, high_hz: float, seconds: float) -> Audio:
    """One syllable of a droid: a glide, a warble or a steady tone between two pitches."""
    length = to_samples(seconds)
    t = np.linspace(0, 1, length, dtype=np.float32)
    first, last = log_uniform(rng, low_hz, high_hz), log_uniform(rng, low_hz, high_hz)
    shape = choose(rng, ("glide", "warble", "steady"))
    hz = np.full(length, first)
    if shape == "glide":
        hz = first * (last / first) ** t
    if shape == "warble":
        hz = first * (1 + 0.25 * np.sin(2 * np.pi * uniform(rng, 14, 24) * seconds * t))
    return as_audio((sine(hz) + 0.4 * read(_SQUARE, hz)) * gate(length, 0.008, 0.015))


def robot(rng: Rng, samples: int) -> Rendering:
    """A droid's chatter in bleeps, or a machine that speaks in a buzz on one pitch through moving formants."""
    kind = choose(rng, ("droid", "droid", "voice"))
    pace = choose(rng, ("calm", "excited"))
    audio = np.zeros(samples, np.float32)
    if kind == "droid":
        low_hz, high_hz = (350.0, 1500.0) if pace == "calm" else (700.0, 3600.0)
        position = uniform(rng, 0, 0.1)
        while position * SAMPLE_RATE_HZ < samples:
            for _ in range(int(rng.integers(3, 8))):
                seconds = uniform(rng, 0.14, 0.32) if pace == "calm" else uniform(rng, 0.06, 0.15)
                place(audio, _bleep(rng, low_hz, high_hz, seconds), position * SAMPLE_RATE_HZ)
                position += seconds + uniform(rng, 0.01, 0.06)
            position += uniform(rng, 0.25, 0.6)
        return Rendering(room(rng, audio, 0.3, 0.08), {"kind": kind, "pace": pace})
    hz = uniform(rng, 85, 120) if pace == "calm" else uniform(rng, 150, 210)
    buzz = read(_SAW, np.full(samples, hz))
    formants = ((730, 1090), (270, 2290), (300, 870), (530, 1840))
    vowels = [equalise(buzz, 250, 4500, [(low, 8.0, 14.0), (high, 9.0, 12.0)]) for low, high in formants]
    position = uniform(rng, 0, 0.1)
    while position * SAMPLE_RATE_HZ < samples:
        seconds = uniform(rng, 0.16, 0.3) if pace == "calm" else uniform(rng, 0.1, 0.18)
        start, length = int(position * SAMPLE_RATE_HZ), to_samples(seconds)
        syllable = choose(rng, vowels)[start : start + length]
        place(audio, syllable * gate(len(syllable), 0.015, 0.03), start)
        position += seconds + (uniform(rng, 0.3, 0.5) if rng.random() < 0.15 else 0.03)
    return Rendering(room(rng, audio, 0.2, 0.08), {"kind": kind, "pace": pace})


def _blip(notes: list[float], seconds: float, last_seconds: float, table: Audio) -> Audio:
    """A row of 8-bit notes; the last one rings on."""
    parts = [
        read(table, np.full(to_samples(length), hertz(note))) * gate(to_samples(length), 0.002, 0.01)
        for note, length in zip(notes, [seconds] * (len(notes) - 1) + [last_seconds], strict=True)
    ]
    parts[-1] = parts[-1] * decay(len(parts[-1]), 0.5 * last_seconds)
    return as_audio(np.concatenate(parts))


def arcade(rng: Rng, samples: int) -> Rendering:
    """8-bit game sounds in square waves."""
    kind = choose(rng, ("jump", "coin", "power_up", "game_over"))
    duty = choose(rng, (0.25, 0.5))
    table = wavetable([abs(np.sin(np.pi * n * duty)) / n for n in range(1, 14)])
    if kind == "jump":
        length = to_samples(uniform(rng, 0.26, 0.4))
        low_hz = log_uniform(rng, 180, 320)
        sound = read(table, low_hz * np.exp(np.linspace(0, uniform(rng, 1.2, 1.6), length))) * gate(length, 0.003, 0.05)
    elif kind == "coin":
        note = 83 + int(rng.integers(-4, 4))
        sound = _blip([note, note + 5], 0.08, uniform(rng, 0.5, 0.7), table)
    elif kind == "power_up":
        note = 60 + int(rng.integers(8))
        sound = _blip([note + shift + up for shift in (0, 3, 5) for up in (0, 4, 7, 12)], 0.06, 0.25, table)
    else:
        note = 72 + int(rng.integers(-3, 5))
        sound = _blip([note - degree(MINOR, step) for step in (0, 2, 4, 5, 7, 9)], 0.17, 0.5, table)
    pause = uniform(rng, 0.35, 0.9)
    audio = np.zeros(samples, np.float32)
    for start in onsets(rng, samples, 0.1, len(sound) / SAMPLE_RATE_HZ + pause, len(sound) / SAMPLE_RATE_HZ + pause):
        place(audio, as_audio(sound), start)
    return Rendering(audio, {"kind": kind})


def static(rng: Rng, samples: int) -> Rendering:
    """Even noise of electronics: plain white, a radio between stations, or bursts of a two-way radio."""
    kind = choose(rng, ("white", "radio", "walkie_talkie"))
    if kind == "white":
        return Rendering(band_noise(rng, samples, 20, 21_000, uniform(rng, -0.5, 0.5)), {"kind": kind})
    if kind == "walkie_talkie":
        hiss = band_noise(rng, samples, 500, 3800, order=4)
        audio = np.zeros(samples, np.float32)
        for start in onsets(rng, samples, 0.05, 0.9, 1.7):
            length = min(samples - start, to_samples(uniform(rng, 0.35, 0.8)))
            place(audio, hiss[start : start + length] * gate(length, 0.002, 0.004), start)
            click = to_samples(0.06)
            place(audio, 1.5 * sine(np.full(click, 1400.0)) * gate(click, 0.002, 0.004), start)
        return Rendering(audio, {"kind": kind})
    audio = band_noise(rng, samples, 250, 5000, order=3) * drift(rng, samples, 3, 0.5, 1.0)
    whistle_hz = 300 * 2 ** drift(rng, samples, 0.8, 0.0, 3.3)
    audio += 0.5 * sine(whistle_hz) * drift(rng, samples, 1.2, 0.0, 1.0) ** 2
    crackle = [band_noise(rng, 500, 800, 8000) * decay(500, 0.002) for _ in range(6)]
    scatter(rng, audio, 12, crackle, 2.0, 5.0)
    return Rendering(equalise(audio, 250, 5500, order=3), {"kind": kind})


def _bass_note(hz: float, seconds: float, kind: str) -> Audio:
    """One bass note; the filter's sweep is a cross-fade from a bright wavetable to a dull one."""
    length = to_samples(seconds)
    frequency_hz = np.full(length, hz)
    bright, dull = _SAW, wavetable([1 / n**2.2 for n in range(1, 12)])
    t = time_axis(length)
    if kind == "wobble":
        amount = 0.5 - 0.5 * np.cos(2 * np.pi * t * 2 / seconds)
    elif kind == "sub":
        return as_audio((sine(frequency_hz) + 0.25 * sine(2 * frequency_hz)) * gate(length, 0.01, 0.1))
    else:
        amount = np.exp(-t / (0.12 if kind == "pluck" else 0.25))
    tone = amount * read(bright, frequency_hz) + (1 - amount) * read(dull, frequency_hz)
    return as_audio(tone * gate(length, 0.004, 0.04))


def synth_bass(rng: Rng, samples: int) -> Rendering:
    """A riff of low synthesiser notes in even time."""
    kind = choose(rng, ("pluck", "wobble", "sub", "acid"))
    pace = choose(rng, ("slow", "fast"))
    beat = uniform(rng, 0.5, 0.75) if pace == "slow" else uniform(rng, 0.22, 0.3)
    if kind == "wobble":
        beat *= 1.6
    root = {"sub": 29, "acid": 38}.get(kind, 33) + int(rng.integers(6))
    riff = [degree(MINOR, choose(rng, (0, 0, 0, 2, 4, 6, 7))) for _ in range(8)]
    notes: dict[int, Audio] = {}
    audio = np.zeros(samples, np.float32)
    for index in range(int(samples / SAMPLE_RATE_HZ / beat) + 1):
        pitch = riff[index % 8]
        if pitch not in notes:
            notes[pitch] = _bass_note(hertz(root + pitch), 0.92 * beat, kind)
        place(audio, notes[pitch], index * beat * SAMPLE_RATE_HZ)
    if kind == "acid":  # the squelch of a resonant filter
        audio = np.tanh(2 * equalise(audio, 60, 3500, [(uniform(rng, 700, 1400), 4.0, 6.0)]))
    audio = equalise(as_audio(audio), 25, 400 if kind == "sub" else 3500)
    return Rendering(audio, {"kind": kind, "pace": pace})


RECIPES: Mapping[str, Recipe] = {
    "laser": laser,
    "beep": beep,
    "riser": riser,
    "robot": robot,
    "arcade": arcade,
    "static": static,
    "synth_bass": synth_bass,
}
BEDS: tuple[str, ...] = ("static", "synth_bass")  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ("laser", "beep", "robot", "arcade")  # those that are laid over a bed
