"""Every class renders at any length, is the same again from its seed, and claims only what was drawn."""

import numpy as np
import pytest

from soundctm_training.synth.captions import (
    class_captions,
    class_wordings,
    joint_caption,
    plain_caption,
    plain_phrases,
    slots,
)
from soundctm_training.synth.catalogue import (
    BEDS,
    FOREGROUNDS,
    LABELS,
    RECIPES,
    UnknownLabelError,
    render,
    render_mix,
)
from soundctm_training.synth.primitives import PEAK_LIMIT, RMS_TARGET, normalise

MANDATORY = {
    *("rain", "thunder", "wind", "fire", "waves", "stream", "footsteps", "knock", "engine", "helicopter"),
    *("explosion", "whoosh", "crickets", "birds", "applause", "typing", "glass", "door", "gun", "dog"),
}
ROUNDING = 1e-5  # of float32 sums over 10 s


def test_the_catalogue_holds_the_promised_classes() -> None:
    assert set(LABELS) >= MANDATORY
    assert set(class_captions()) == set(LABELS)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("seconds", [0.5, 2.5, 10.0])
def test_a_clip_is_finite_heard_and_within_its_levels(label: str, seconds: float) -> None:
    samples = int(seconds * 44_100)
    sound = render(label, np.random.default_rng([3, samples]), samples)
    assert sound.audio.dtype == np.float32 and sound.audio.shape == (samples,)
    assert np.isfinite(sound.audio).all()
    peak, rms = np.abs(sound.audio).max(), np.sqrt(np.mean(sound.audio**2))
    assert peak <= PEAK_LIMIT + ROUNDING and rms <= RMS_TARGET + ROUNDING
    assert peak > PEAK_LIMIT - ROUNDING or rms > RMS_TARGET - ROUNDING  # it reaches one of the two
    assert sound.caption.strip() and sound.label == label
    if seconds == 10.0:
        levels = [np.sqrt(np.mean(part**2)) for part in np.split(sound.audio, 4)]
        assert min(levels) > 0.003, levels  # -50 dBFS: events recur through the whole clip


@pytest.mark.parametrize("label", LABELS)
def test_the_same_seed_gives_the_same_clip_and_another_seed_another(label: str) -> None:
    first, again, other = (render(label, np.random.default_rng(seed), 20_000) for seed in (5, 5, 6))
    assert np.array_equal(first.audio, again.audio) and first.caption == again.caption
    assert not np.array_equal(first.audio, other.audio)


def test_an_unknown_class_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownLabelError, match=r"no sound class 'yodel'.*rain"):
        render("yodel", np.random.default_rng(0), 1000)


def test_a_mix_holds_both_sounds_and_names_both() -> None:
    sound = render_mix(np.random.default_rng(2), 30_000)
    bed, foreground = sound.label.split("+")
    assert bed in BEDS and foreground in FOREGROUNDS
    words = sound.caption.split()
    assert len(words) >= 3 and np.isfinite(sound.audio).all()
    assert joint_caption(np.random.default_rng(0), "rain", "dog").replace("rain", "").replace("dog", "").strip()


def test_silence_stays_silence() -> None:
    assert not normalise(np.zeros(100)).any()


@pytest.mark.parametrize("label", LABELS)
def test_each_class_has_at_least_40_wordings_and_none_is_empty(label: str) -> None:
    phrases = set(plain_phrases(label))
    assert len(phrases) >= 40
    assert all(phrase == phrase.strip() and phrase and "{" not in phrase for phrase in phrases)


def test_other_wordings_are_of_classes_and_none_is_empty() -> None:
    assert set(class_wordings()) <= set(LABELS)
    for wordings in class_wordings().values():
        assert len(set(wordings)) == len(wordings) >= 100
        assert all(wording == " ".join(wording.split()) and wording for wording in wordings)


def test_no_wording_names_two_classes() -> None:
    owners: dict[str, str] = {}
    for label in LABELS:
        for phrase in {*plain_phrases(label), *class_wordings().get(label, ())}:
            assert owners.setdefault(phrase, label) == label, f"{phrase!r} is a caption of {owners[phrase]} and {label}"


@pytest.mark.parametrize("label", LABELS)
def test_every_drawn_attribute_has_words_and_every_slot_an_attribute(label: str) -> None:
    captions = class_captions()[label]
    for seed in range(6):
        attributes = RECIPES[label](np.random.default_rng(seed), 3000).attributes
        assert {slot for template in captions.templates for slot in slots(template)} <= set(attributes)
        assert all(captions.words[name][value] and captions.by[name][value] for name, value in attributes.items())


@pytest.mark.parametrize("label", LABELS)
def test_a_caption_claims_only_what_was_rendered(label: str) -> None:
    captions = class_captions()[label]
    attributes = {name: next(iter(values)) for name, values in captions.words.items()}
    allowed = {*captions.general, *(text for name, value in attributes.items() for text in captions.by[name][value])}
    for draw in range(40):
        caption = plain_caption(np.random.default_rng(draw), label, attributes)
        slots_kept = [
            name for name, value in attributes.items() if any(word in caption for word in captions.words[name][value])
        ]
        assert caption in allowed or slots_kept, caption
