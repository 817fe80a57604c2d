"""Trains, aircraft, horns and other things that travel."""

from collections.abc import Mapping

import numpy as np

from soundctm_training.synth.notes import counted, gate, read, ringing, wavetable
from soundctm_training.synth.primitives import (
    SAMPLE_RATE_HZ,
    Audio,
    Recipe,
    Rendering,
    Rng,
    as_audio,
    attack_decay,
    band_noise,
    choose,
    decay,
    drift,
    equalise,
    onsets,
    place,
    room,
    sine,
    time_axis,
    to_samples,
    uniform,
)

_HORN_CHORD = (1.0, 1.19, 1.33, 1.59, 2.0)  # a locomotive's five chimes, above its lowest
_WHISTLE_CHORD = (1.0, 1.25, 1.5)


def _clack(rng: Rng) -> Audio:
    """A wheel over a rail joint: a low thump and a short clink of steel."""
    length = to_samples(0.25)
    partials = [(uniform(rng, 75, 110), 0.05, 1.4), (uniform(rng, 180, 260), 0.03, 0.8)]
    partials += [(float(hz), 0.018, 0.45) for hz in rng.uniform(800, 3200, 6)]
    clack = ringing(rng, partials, length) * gate(length, 0.001, 0.05)
    return as_audio(clack + 1.1 * band_noise(rng, length, 300, 6000, -3) * decay(length, 0.012))


def _rails(rng: Rng, samples: int, joint_seconds: float) -> Audio:
    """The clatter of two axle pairs over every joint, above a rolling rumble."""
    clacks = [_clack(rng) for _ in range(4)]
    rails = 0.12 * band_noise(rng, samples, 40, 700, -3)
    position = uniform(rng, 0.02, 0.12)
    while position < samples / SAMPLE_RATE_HZ:
        for index, part in enumerate((0.0, 0.17, 0.5, 0.67)):
            start = (position + (part + uniform(rng, -0.008, 0.008)) * joint_seconds) * SAMPLE_RATE_HZ
            place(rails, clacks[index] * np.float32(uniform(rng, 0.7, 1.0)), start)
        position += joint_seconds
    return as_audio(rails)


def _chuffs(rng: Rng, samples: int, gap_seconds: float) -> Audio:
    """Exhaust beats of a steam engine, the first of four the strongest."""
    length = to_samples(min(0.4, 1.5 * gap_seconds))
    takes = [band_noise(rng, length, 250, 5000, -4) * attack_decay(length, 0.015, 0.22 * gap_seconds) for _ in range(4)]
    chuffs = np.zeros(samples, np.float32)
    for index, start in enumerate(onsets(rng, samples, 0.08, gap_seconds, gap_seconds)):
        place(chuffs, takes[index % 4] * np.float32(1.0 if index % 4 == 0 else 0.65), start)
    return chuffs


def _train_blow(rng: Rng, kind: str, base_hz: float) -> Audio:
    """One blow: a reedy chord of chimes, or a steam whistle that scoops up in its hiss."""
    length = to_samples(uniform(rng, 0.9, 1.9))
    t = time_axis(length)
    if kind == "diesel":
        table = wavetable([1 / k**0.45 for k in range(1, 15)])
        blow = sum((read(table, np.full(length, base_hz * ratio)) for ratio in _HORN_CHORD), np.zeros(length))
        return as_audio(0.45 * blow * gate(length, 0.05, 0.12))
    bend = (1 - 0.09 * np.exp(-t / 0.08)) * (1 + 0.006 * np.sin(2 * np.pi * 5 * t))
    blow = sum((sine(base_hz * ratio * bend) for ratio in _WHISTLE_CHORD), np.zeros(length))
    blow = blow + 0.25 * sine(2 * base_hz * bend) + 0.5 * band_noise(rng, length, 1.5 * base_hz, 7000)
    return as_audio(0.6 * blow * gate(length, 0.06, 0.2))


def train(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("steam", "diesel"))
    pace = choose(rng, ("slow", "fast"))
    signal = choose(rng, ("blowing", "quiet"))
    joint_seconds = uniform(rng, 1.0, 1.4) if pace == "slow" else uniform(rng, 0.42, 0.6)
    rails = _rails(rng, samples, joint_seconds)
    if kind == "steam":
        audio = 0.6 * rails + 0.9 * _chuffs(rng, samples, joint_seconds * 0.45)
    else:
        throb = wavetable(rng.uniform(0.3, 1.0, 12).tolist())
        audio = rails + 0.14 * read(throb, uniform(rng, 30, 42) * drift(rng, samples, 3, 0.99, 1.01))
    if signal == "blowing":
        base_hz = uniform(rng, 480, 700) if kind == "steam" else uniform(rng, 250, 330)
        for start in onsets(rng, samples, 0.1, 2.4, 3.6):
            place(audio, _train_blow(rng, kind, base_hz), start)
    audio = room(rng, as_audio(audio), uniform(rng, 0.8, 1.8), uniform(rng, 0.08, 0.2))
    return Rendering(audio, {"kind": kind, "pace": pace, "signal": signal})


def _flight(rng: Rng, samples: int, motion: str, mach: float, nearest_seconds: float) -> tuple[Audio, Audio]:
    """The Doppler ratio and the nearness (1 at the nearest point), [samples], of something flying past in a line.

    `nearest_seconds` is the least distance over the speed; a short clip shortens it.
    """
    seconds = samples / SAMPLE_RATE_HZ
    part = {"passing": uniform(rng, 0.4, 0.6), "approaching": 1.0, "departing": 0.0}[motion]
    width = min(nearest_seconds, 0.25 * seconds)
    along = (time_axis(samples) - part * seconds) / width
    distance = np.sqrt(1 + along**2)
    return as_audio(1 / (1 + mach * along / distance)), as_audio(1 / distance)


def _with_ground_echo(audio: Audio, nearness: Audio) -> Audio:
    """Adds the reflection off the ground, whose lag grows while the source is near: the flanging of a flyby."""
    where = np.arange(len(audio)) - (0.0006 + 0.0035 * nearness) * SAMPLE_RATE_HZ
    where = np.clip(where, 0, len(audio) - 2)
    index = where.astype(np.int32)
    part = as_audio(where - index)
    return as_audio(audio + 0.8 * (audio[index] * (1 - part) + audio[index + 1] * part))


def jet(rng: Rng, samples: int) -> Rendering:
    """A roar that brightens as it nears, and an airliner's fan tones or a fighter's tearing crackle."""
    kind = choose(rng, ("airliner", "fighter"))
    motion = choose(rng, ("passing", "passing", "approaching", "departing"))
    mach, nearest_seconds = (0.3, uniform(rng, 1.2, 2.0)) if kind == "airliner" else (0.65, uniform(rng, 0.5, 0.9))
    ratio, nearness = _flight(rng, samples, motion, mach, nearest_seconds)
    bright = band_noise(rng, samples, 500, 9000, -2)
    if kind == "fighter":
        bright = as_audio(bright * (0.55 + 0.5 * np.abs(band_noise(rng, samples, 8, 60))))
    roar = _with_ground_echo(as_audio(band_noise(rng, samples, 50, 900, -4) + 1.1 * nearness * bright), nearness)
    audio = roar * nearness
    base_hz, level = (uniform(rng, 1900, 2700), 0.75) if kind == "airliner" else (uniform(rng, 1500, 2000), 0.35)
    for multiple, gain in ((1.0, 1.0), (1.26, 0.6), (2.0, 0.35)):
        audio = audio + level * gain * sine(base_hz * multiple * ratio) * nearness**1.3 * np.minimum(ratio, 1.2)
    return Rendering(as_audio(audio), {"kind": kind, "motion": motion})


def propeller(rng: Rng, samples: int) -> Rendering:
    """The steady drone of blades at 80 to 130 beats a second; two engines beat against each other."""
    kind = choose(rng, ("light", "twin"))
    motion = choose(rng, ("passing", "steady", "diving"))
    nearness, ratio = np.ones(samples, np.float32), np.ones(samples, np.float32)
    if motion == "passing":
        ratio, nearness = _flight(rng, samples, "passing", uniform(rng, 0.16, 0.24), uniform(rng, 0.8, 1.5))
    elif motion == "diving":
        ramp = np.linspace(0, 1, samples, dtype=np.float32)
        ratio, nearness = as_audio(1 + 0.9 * ramp**1.3), as_audio(0.35 + 0.65 * ramp)
    base_hz = uniform(rng, 95, 130) if kind == "light" else uniform(rng, 75, 95)
    partials = np.arange(1, 33)
    gains = rng.uniform(0.4, 1.0, 32) / partials**0.55
    wobble = ratio * drift(rng, samples, 1.5, 0.993, 1.007)
    audio = read(wavetable(gains.tolist()), base_hz * wobble)
    if kind == "twin":
        audio = audio + read(wavetable(gains[::-1].tolist()), 0.5 * base_hz * wobble) * 0.25
        audio = audio + read(wavetable(gains.tolist()), (base_hz + uniform(rng, 1.5, 3.0)) * wobble)
    pulse = 0.5 + 0.5 * sine(base_hz * wobble)
    audio = audio + 0.35 * band_noise(rng, samples, 300, 5000, -3) * pulse
    return Rendering(as_audio(audio * nearness), {"kind": kind, "motion": motion})


def _honk(rng: Rng, kind: str, length: int) -> Audio:
    """A buzzing pair of horns a third apart, a truck's low pair, or the rise and fall of a klaxon."""
    if kind == "ahooga":
        place_in = np.linspace(0, 1, length, dtype=np.float32)
        hz = uniform(rng, 180, 230) * (1 + 1.6 * np.sin(3.1 * np.minimum(place_in * 1.15, 1)) ** 0.8)
        growl = 0.7 + 0.3 * sine(0.125 * hz)
        return as_audio(read(wavetable([1 / k**0.3 for k in range(1, 22)]), hz) * growl * gate(length, 0.03, 0.1))
    base_hz = uniform(rng, 370, 440) if kind == "car" else uniform(rng, 150, 200)
    count = 24 if kind == "car" else 32
    peak = 2600.0 if kind == "car" else 900.0
    gains = [0.5 / k**0.8 + 1 / (1 + ((k * base_hz - peak) / 700) ** 2) for k in range(1, count + 1)]
    table = wavetable(gains)
    pair = read(table, np.full(length, base_hz)) + read(table, np.full(length, base_hz * uniform(rng, 1.22, 1.28)))
    return as_audio(pair * gate(length, 0.012, 0.03))


def car_horn(rng: Rng, samples: int) -> Rendering:
    kind = choose(rng, ("car", "car", "truck", "ahooga"))
    length = choose(rng, ("short", "long"))
    seconds = uniform(rng, 0.15, 0.3) if length == "short" else uniform(rng, 0.9, 1.5)
    if kind == "ahooga":
        seconds = uniform(rng, 0.8, 1.0)
    count, starts = counted(rng, samples, seconds + uniform(rng, 0.12, 0.25), seconds, seconds + uniform(rng, 0.9, 1.4))
    honk = _honk(rng, kind, to_samples(seconds))
    audio = np.zeros(samples, np.float32)
    for start in starts:
        place(audio, honk, start)
    attributes = {"kind": kind, "count": count}
    if kind != "ahooga":  # its blow has but one length
        attributes["length"] = length
    return Rendering(room(rng, audio, uniform(rng, 0.4, 1.4), uniform(rng, 0.06, 0.2)), attributes)


def reverse_beeper(rng: Rng, samples: int) -> Rendering:
    """Long beeps, or bursts of hiss, as long as the pauses between them, over the motor of what backs up."""
    vehicle = choose(rng, ("truck", "forklift"))
    pace = choose(rng, ("slow", "fast"))
    sound = choose(rng, ("tone", "tone", "hiss"))
    period_seconds = uniform(rng, 0.95, 1.2) if pace == "slow" else uniform(rng, 0.5, 0.65)
    length = to_samples(0.5 * period_seconds)
    if sound == "tone":
        hz = uniform(rng, 1050, 1350) if vehicle == "truck" else uniform(rng, 1500, 2000)
        beep = read(wavetable([1.0, 0.12, 0.4, 0.05, 0.15]), np.full(length, hz))
    else:
        beep = 0.7 * band_noise(rng, length, 900, 7000)
    beep = as_audio(beep * gate(length, 0.006, 0.01))
    if vehicle == "truck":
        motor = read(
            wavetable(rng.uniform(0.3, 1.0, 24).tolist()), uniform(rng, 24, 32) * drift(rng, samples, 4, 0.98, 1.02)
        )
        motor = equalise(motor, 40, 700)
    else:
        motor = 0.5 * sine(uniform(rng, 280, 360) * drift(rng, samples, 0.6, 0.85, 1.15)) + 0.5 * band_noise(
            rng, samples, 60, 600
        )
    audio = as_audio(uniform(rng, 0.2, 0.4) * motor)
    for start in onsets(rng, samples, 0.1, period_seconds, period_seconds):
        place(audio, beep, start)
    audio = room(rng, audio, uniform(rng, 0.5, 1.2), uniform(rng, 0.06, 0.15))
    return Rendering(audio, {"vehicle": vehicle, "pace": pace, "sound": sound})


def _dome(rng: Rng, base_hz: float, tau_seconds: float) -> Audio:
    """One strike on a small steel dome, whose modes come in pairs that beat."""
    length = to_samples(min(1.4, 5 * tau_seconds))
    partials = [
        (base_hz * ratio * split, tau_seconds / ratio**0.7, gain)
        for ratio, gain in ((1.0, 1.0), (2.42, 0.5), (4.1, 0.2))
        for split in (1.0, 1.0 + 6 / base_hz)
    ]
    strike = ringing(rng, partials, length) * gate(length, 0.0008, 0.1)
    tap = to_samples(0.01)
    place(strike, 0.6 * band_noise(rng, tap, 3000, 15_000) * decay(tap, 0.0015), 0)
    return strike


def bike_bell(rng: Rng, samples: int) -> Rendering:
    """A thumb bell's trill of quick strikes, a single clear ping, or the ding and dong of two domes."""
    kind = choose(rng, ("trill", "trill", "ping", "dingdong"))
    base_hz = uniform(rng, 2900, 3900) if kind == "ping" else uniform(rng, 1900, 2700)
    audio = np.zeros(samples, np.float32)
    spaced = {"trill": 0.85, "ping": 0.35, "dingdong": 0.95}[kind] * uniform(rng, 0.9, 1.15)
    count, starts = counted(rng, samples, spaced, 0.4, uniform(rng, 1.4, 2.0))
    high, low = _dome(rng, base_hz, 0.22), _dome(rng, 0.79 * base_hz, 0.28)
    strikes_a_turn, gap_seconds = int(rng.integers(5, 8)), uniform(rng, 0.068, 0.085)
    for start in starts:
        if kind == "trill":
            for strike in range(strikes_a_turn):
                place(audio, high * np.float32(uniform(rng, 0.6, 1.0)), start + to_samples(strike * gap_seconds))
        else:
            place(audio, high, start)
            if kind == "dingdong":
                place(audio, low, start + to_samples(0.26))
    return Rendering(room(rng, audio, uniform(rng, 0.2, 0.8), 0.06), {"kind": kind, "count": count})


RECIPES: Mapping[str, Recipe] = {
    "train": train,
    "jet": jet,
    "propeller": propeller,
    "car_horn": car_horn,
    "reverse_beeper": reverse_beeper,
    "bike_bell": bike_bell,
}
BEDS: tuple[str, ...] = ()  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ("train", "jet", "car_horn", "bike_bell")  # those that are laid over a bed
