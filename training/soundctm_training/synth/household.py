"""Clocks, alarms, telephones, cameras."""

from collections.abc import Mapping, Sequence

import numpy as np

from soundctm_training.synth.notes import counted, gate, read, ringing, wavetable
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
    equalise,
    log_uniform,
    place,
    room,
    sine,
    time_axis,
    to_samples,
    uniform,
)

_PIEZO = wavetable([1.0, 0.1, 0.45, 0.05, 0.2])
_BUZZER = wavetable([1 / n**0.6 if n % 2 else 0.25 / n for n in range(1, 24)])


def lay_out(rng: Rng, samples: int, starts: Sequence[int], takes: Sequence[Audio]) -> Audio:
    """Takes at their start samples, drawn in any order and a little uneven in level, [samples]."""
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, choose(rng, takes) * np.float32(uniform(rng, 0.8, 1.0)), start)
    return audio


def _evenly(rng: Rng, samples: int, period_seconds: float) -> list[int]:
    first = uniform(rng, 0.0, min(0.15, period_seconds)) * SAMPLE_RATE_HZ
    return np.arange(first, samples, period_seconds * SAMPLE_RATE_HZ).astype(int).tolist()


def _tick(rng: Rng, kind: str, pitch: float) -> Audio:
    """An escapement's beat: the pallet's knock and, just after, the tooth's, in the resonance of the case."""
    length = to_samples(0.25)
    base_hz, tau_seconds, ratios = {
        "wall": (1900.0, 0.012, (1.0, 1.83, 2.9)),
        "grandfather": (360.0, 0.035, (1.0, 2.3, 4.1, 6.2)),
        "watch": (4300.0, 0.006, (1.0, 1.41, 2.13)),
    }[kind]
    partials = [(pitch * base_hz * ratio, tau_seconds / ratio**0.5, 1 / ratio**0.5) for ratio in ratios]
    knock = ringing(rng, partials, length)
    edge = to_samples(0.02)
    brightness_hz = {"wall": 2500.0, "grandfather": 1200.0, "watch": 5000.0}[kind]
    place(knock, 0.5 * band_noise(rng, edge, brightness_hz, 3 * brightness_hz) * decay(edge, 0.0015), 0)
    tick = np.zeros(length, np.float32)
    place(tick, np.float32(0.45) * knock, 0)
    place(tick, knock, to_samples(0.016 if kind == "watch" else 0.03))
    return tick


def clock(rng: Rng, samples: int) -> Rendering:
    """A strictly even beat whose two strokes differ in pitch and level: tick, tock."""
    kind = choose(rng, ("wall", "grandfather", "watch"))
    space = choose(rng, ("close", "roomy"))
    low, high = {"wall": (0.48, 0.54), "grandfather": (0.9, 1.05), "watch": (0.22, 0.27)}[kind]
    pitch = uniform(rng, 0.8, 1.3)
    tick, tock = _tick(rng, kind, pitch), np.float32(0.8) * _tick(rng, kind, 0.78 * pitch)
    audio = np.zeros(samples, np.float32)
    for index, start in enumerate(_evenly(rng, samples, uniform(rng, low, high))):
        place(audio, tick if index % 2 == 0 else tock, start)
    decay_seconds, mix = (0.25, 0.03) if space == "close" else (1.6, 0.3)
    return Rendering(room(rng, audio, decay_seconds, mix), {"kind": kind, "space": space})


def _hammered(rng: Rng, samples: int, bells_hz: Sequence[float], rate_hz: float, tau_seconds: float) -> Audio:
    """Small gongs struck in turn by an electric or wound-up hammer, at an almost even rate."""
    length = to_samples(4 * tau_seconds)
    ratios = ((1.0, 1.0), (2.41, 0.5), (4.2, 0.25))
    strokes = []
    for hz in bells_hz:
        stroke = ringing(rng, [(hz * r, tau_seconds / r**0.5, g) for r, g in ratios], length)
        place(stroke, 0.9 * band_noise(rng, 900, hz, 9000) * decay(900, 0.003), 0)
        strokes.append(stroke * gate(length, 0.0005, 0.05))
    audio = np.zeros(samples, np.float32)
    position, index = 0.0, 0
    while position < samples:
        place(audio, strokes[index % len(strokes)] * np.float32(uniform(rng, 0.85, 1.0)), position)
        position += uniform(rng, 0.96, 1.04) / rate_hz * SAMPLE_RATE_HZ
        index += 1
    return audio


def alarm(rng: Rng, samples: int) -> Rendering:
    """What wakes a sleeper: quick piezo beeps in fours, a harsh buzzer on and off, or a wound-up bell."""
    kind = choose(rng, ("digital", "digital", "buzzer", "bell"))
    pace = choose(rng, ("steady", "urgent"))
    if kind == "bell":  # tinny and without a pause, over the rattle of its works
        rate_hz = uniform(rng, 6.5, 8) if pace == "steady" else uniform(rng, 11, 13)
        hz = log_uniform(rng, 2500, 3500)
        audio = _hammered(rng, samples, (hz, 1.07 * hz), rate_hz, 0.045)
        audio += 0.03 * band_noise(rng, samples, 1500, 9000)
        return Rendering(room(rng, audio, 0.4, 0.1), {"kind": kind, "pace": pace})
    if kind == "digital":
        seconds = uniform(rng, 0.06, 0.075) if pace == "urgent" else uniform(rng, 0.09, 0.11)
        beep = read(_PIEZO, np.full(to_samples(seconds), log_uniform(rng, 2500, 3500)))
        beep = as_audio(beep * gate(len(beep), 0.002, 0.004))
        beats, pause_seconds = 4, 4.5 * seconds
    else:
        seconds = uniform(rng, 0.2, 0.26) if pace == "urgent" else uniform(rng, 0.4, 0.5)
        buzz = read(_BUZZER, np.full(to_samples(seconds), log_uniform(rng, 190, 330)))
        beep = equalise(as_audio(buzz * gate(len(buzz), 0.004, 0.008)), 250, 7000, [(1700.0, 2.0, 2.0)])
        beats, pause_seconds = 1, 0.0
    group_seconds = beats * 2 * seconds + pause_seconds
    starts = [
        first + int(2 * seconds * beat * SAMPLE_RATE_HZ)
        for first in _evenly(rng, samples, group_seconds)
        for beat in range(beats)
    ]
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, beep, start)
    return Rendering(room(rng, audio, 0.3, 0.06), {"kind": kind, "pace": pace})


def _ring(rng: Rng, kind: str, seconds: float, hz: float) -> Audio:
    """One ring of a telephone of this kind, with the time it needs to die away."""
    length = to_samples(seconds)
    if kind == "bell":
        held = np.zeros(length + to_samples(0.6), np.float32)
        place(held, _hammered(rng, length, (hz, 1.26 * hz), 20.0, 0.3), 0)
        tail = ringing(rng, [(hz, 0.25, 1.2), (1.26 * hz, 0.22, 1.2), (2.41 * hz, 0.12, 0.5)], to_samples(0.6))
        place(held, tail, length - 1)
        return held
    t = time_axis(length)
    if kind == "trill":  # two tones in turn, too quick to be a melody
        high = (t * 11.0 % 1.0) < 0.5
        warble = read(_PIEZO, np.where(high, 1.26 * hz, hz)) * (0.75 + 0.25 * high)
        return as_audio(warble * gate(length, 0.005, 0.02))
    motor_hz = 0.13 * hz * (1 - 0.3 * np.exp(-t / 0.05))  # the eccentric weight spins up, and rattles on the table
    buzz = read(_BUZZER, motor_hz) + 0.5 * sine(motor_hz)
    rattle = band_noise(rng, length, 500, 3000) * np.maximum(0, sine(motor_hz)) ** 4
    return as_audio((buzz + 0.7 * rattle) * gate(length, 0.04, 0.06))


def telephone(rng: Rng, samples: int) -> Rendering:
    """Rings with pauses between them: long single ones, or two short ones at a time."""
    kind = choose(rng, ("bell", "bell", "trill", "trill", "vibrating"))
    rings = choose(rng, ("single", "double"))
    hz = log_uniform(rng, 1000, 1500)
    seconds = uniform(rng, 0.38, 0.45) if rings == "double" else uniform(rng, 0.9, 1.3)
    ring = _ring(rng, kind, seconds, hz)
    offsets = (0.0, seconds + 0.2) if rings == "double" else (0.0,)
    audio = np.zeros(samples, np.float32)
    for first in _evenly(rng, samples, offsets[-1] + seconds + uniform(rng, 0.9, 1.3)):
        for offset in offsets:
            place(audio, ring, first + offset * SAMPLE_RATE_HZ)
    if kind == "vibrating":
        audio = equalise(audio, 120, 4500, [(330.0, 3.0, 2.0)])
    return Rendering(room(rng, audio, uniform(rng, 0.3, 0.8), 0.1), {"kind": kind, "rings": rings})


def _shutter(rng: Rng, kind: str) -> Audio:
    """Mirror up, curtain across, mirror down; then the film is wound on, where there is film."""
    shot = np.zeros(to_samples(1.0), np.float32)
    click, curtain, slap = to_samples(0.03), to_samples(uniform(rng, 0.05, 0.09)), to_samples(0.06)
    place(shot, 1.8 * band_noise(rng, click, 2500, 12_000) * decay(click, 0.004), 0)
    place(shot, 0.5 * band_noise(rng, curtain, 3000, 9000) * gate(curtain, 0.01, 0.015), to_samples(0.012))
    body = ringing(rng, [(log_uniform(rng, 420, 700), 0.012, 1.0), (log_uniform(rng, 1300, 1900), 0.01, 1.0)], slap)
    place(shot, body + 1.4 * band_noise(rng, slap, 900, 6000) * decay(slap, 0.008), to_samples(0.012) + curtain)
    if kind == "film":
        wound = to_samples(uniform(rng, 0.4, 0.55))
        gear_hz = uniform(rng, 260, 340) * np.linspace(0.85, 1.1, wound)
        teeth = np.maximum(0, sine(0.12 * gear_hz)) ** 3
        whirr = 0.9 * read(_BUZZER, gear_hz) + 0.5 * band_noise(rng, wound, 1200, 6000) * (0.2 + 0.8 * teeth)
        place(shot, as_audio(0.45 * whirr * gate(wound, 0.02, 0.02)), to_samples(0.2))
    return shot


def camera(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("digital", "film"))
    gap_seconds = uniform(rng, 0.26, 0.42) if kind == "digital" else uniform(rng, 0.8, 0.95)
    count, starts = counted(rng, samples, gap_seconds, 0.2 if kind == "digital" else 0.75, uniform(rng, 1.3, 1.8))
    audio = lay_out(rng, samples, starts, [_shutter(rng, kind)])
    return Rendering(room(rng, audio, 0.3, 0.07), {"kind": kind, "count": count})


RECIPES: Mapping[str, Recipe] = {
    "clock": clock,
    "alarm": alarm,
    "telephone": telephone,
    "camera": camera,
}
BEDS: tuple[str, ...] = ("clock",)  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ("alarm", "telephone", "camera")  # those that are laid over a bed
