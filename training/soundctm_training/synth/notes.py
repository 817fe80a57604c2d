"""Building blocks of tuned and counted sounds: pitches, melodies, ringing partials, wavetables, groups of events.

Every audio array is float32 [samples] at `SAMPLE_RATE_HZ`; chance always comes in as a `numpy.random.Generator`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from soundctm_training.synth.primitives import SAMPLE_RATE_HZ, Audio, Rng, as_audio, choose, cycles, to_samples, uniform

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
PENTATONIC = (0, 2, 4, 7, 9)

# How many events a group holds at least for a caption to claim the word.
NUMBERS = {"one": 1, "two": 2, "three": 3, "many": 5}
_BLOCK = 256
_TABLE = 4096


def hertz(note: float) -> float:
    """The pitch of a MIDI note number; 69 is 440 Hz."""
    return float(440.0 * 2 ** ((note - 69) / 12))


def degree(scale: Sequence[int], step: int) -> int:
    """Semitones above the tonic of the scale's step, which may lie octaves away."""
    octave, index = divmod(step, len(scale))
    return 12 * octave + scale[index]


def melody(rng: Rng, scale: Sequence[int], count: int, span: int = 7) -> list[int]:
    """A tune of small steps and few leaps as semitones above the tonic, within `span` steps of the scale."""
    step, tune = int(rng.integers(span)), []
    for _ in range(count):
        tune.append(degree(scale, step))
        move = choose(rng, (-2, -1, -1, 1, 1, 2, 3, -3))
        step = step + move if 0 <= step + move < span else step - move
    return tune


def ringing(rng: Rng, partials: Sequence[tuple[float, float, float]], samples: int) -> Audio:
    """A sum of decaying sinusoids (Hz, decay to 1/e in seconds, gain) at random phases.

    A damped rotation is one factor per block times one per sample in it, so all partials are one matrix product.
    """
    heard = [partial for partial in partials if partial[0] < 19_000]
    blocks = -(-samples // _BLOCK)
    rates = np.array([-1 / tau + 2j * np.pi * hz for hz, tau, _ in heard]) / SAMPLE_RATE_HZ
    gains = np.array([gain for _, _, gain in heard]) * np.exp(2j * np.pi * rng.random(len(heard)))
    coarse = gains * np.exp(np.outer(np.arange(blocks) * _BLOCK, rates))
    fine = np.exp(np.outer(rates, np.arange(_BLOCK)))
    left = np.concatenate([coarse.real, -coarse.imag], axis=1).astype(np.float32)
    right = np.concatenate([fine.real, fine.imag], axis=0).astype(np.float32)
    return as_audio((left @ right).reshape(-1)[:samples])


def wavetable(gains: Sequence[float]) -> Audio:
    """One period, [4096], of a wave whose harmonics have these gains, at peak 1."""
    spectrum = np.zeros(_TABLE // 2 + 1, np.complex128)
    spectrum[1 : len(gains) + 1] = -1j * np.asarray(gains)
    period = np.fft.irfft(spectrum, _TABLE)
    return as_audio(period / np.abs(period).max())


def read(table: Audio, frequency_hz: npt.ArrayLike) -> Audio:
    """Plays a wavetable along a frequency curve, [samples]."""
    return table[((cycles(frequency_hz) % 1.0) * _TABLE).astype(np.int32) % _TABLE]


def gate(samples: int, attack_seconds: float, release_seconds: float) -> Audio:
    """A held note's envelope: a smooth rise, a level, a smooth fall to zero at the end."""
    position = np.arange(samples, dtype=np.float32)
    rise = np.clip((position + 1) / to_samples(attack_seconds), 0, 1)
    fall = np.clip((samples - position) / to_samples(release_seconds), 0, 1)
    return as_audio((rise * rise * (3 - 2 * rise)) * (fall * fall * (3 - 2 * fall)))


def counted(
    rng: Rng,
    samples: int,
    gap_seconds: float,
    event_seconds: float,
    pause_seconds: float,
    values: Sequence[str] = ("one", "two", "three", "many"),
) -> tuple[str, list[int]]:
    """Draws how many events a group holds, of those counts that fit the clip whole, and their start samples.

    Groups recur after a pause; `many` goes on through the clip.
    """
    first = uniform(rng, 0.02, 0.12)
    fits = 1 + max(0, int((samples / SAMPLE_RATE_HZ - first - event_seconds) / gap_seconds))
    value = choose(rng, [item for item in values if NUMBERS[item] <= fits] or values[:1])
    starts: list[int] = []
    position = first * SAMPLE_RATE_HZ
    while position < samples:
        starts.append(int(position))
        group_is_full = value != "many" and len(starts) % NUMBERS[value] == 0
        position += SAMPLE_RATE_HZ * (max(pause_seconds, gap_seconds * 1.8) if group_is_full else gap_seconds)
    return value, starts
