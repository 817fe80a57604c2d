"""Captions for a rendering: phrases from `texts/*.toml` that claim only what was rendered, in varied dress."""

import itertools
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from soundctm_training.synth.primitives import Rng, choose
from soundctm_training.tables import read_tables

# How people wrap the name of a sound when they ask for it; most often not at all.
DRESSES = (
    "the sound of {}",
    "sound of {}",
    "{} sound effect",
    "{} sfx",
    "sfx: {}",
    "recording of {}",
    "{}, field recording",
    "{} in high quality",
    "audio of {}",
    "a recording of {}",
    "{} noise",
    "we hear {}",
    "{} can be heard",
)
DRESS_CHANCE = 0.2
GENERAL_CHANCE = 0.5
JOINTS = (" with ", " and ", ", ", " over ", " plus ", " together with ")


@dataclass(frozen=True)
class ClassCaptions:
    """One class's phrases; `by` and `words` are keyed by attribute, then by its value."""

    general: tuple[str, ...]
    by: Mapping[str, Mapping[str, tuple[str, ...]]]
    words: Mapping[str, Mapping[str, tuple[str, ...]]]
    templates: tuple[str, ...]


def _nested(table: Mapping[str, Mapping[str, list[str]]]) -> dict[str, dict[str, tuple[str, ...]]]:
    return {attribute: {value: tuple(texts) for value, texts in inner.items()} for attribute, inner in table.items()}


@cache
def class_captions() -> dict[str, ClassCaptions]:
    """The committed caption table, by class label."""
    return {
        label: ClassCaptions(
            general=tuple(table["general"]),
            by=_nested(table["by"]),
            words=_nested(table["words"]),
            templates=tuple(table["templates"]["phrases"]),
        )
        for file in read_tables(__package__, "texts")
        for label, table in file.items()
    }


@cache
def class_wordings() -> Mapping[str, tuple[str, ...]]:
    """What else people call the sound of a class, by label: `wordings/*.toml`. No captions: they claim more than what
    was rendered. None is a held-out prompt, or like one (0.8 of cosine)."""
    return {label: tuple(texts) for file in read_tables(__package__, "wordings") for label, texts in file.items()}


def slots(template: str) -> list[str]:
    """The attribute names a template asks for."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def with_article(phrase: str) -> str:
    """Turns "a" into "an" before a vowel, for words put into a slot."""
    return re.sub(r"\ba (?=[aeiou](?!uro|ne\b))", "an ", phrase)


def _fill(rng: Rng, template: str, captions: ClassCaptions, attributes: Mapping[str, str]) -> str:
    words = {slot: choose(rng, captions.words[slot][attributes[slot]]) for slot in slots(template)}
    return with_article(template.format(**words))


def plain_caption(rng: Rng, label: str, attributes: Mapping[str, str]) -> str:
    """An undressed phrase for `label` that is true of `attributes`."""
    captions = class_captions()[label]
    if not attributes or rng.random() < GENERAL_CHANCE:
        return choose(rng, captions.general)
    specific = [text for name, table in captions.by.items() if name in attributes for text in table[attributes[name]]]
    if specific and rng.random() < 0.5:
        return choose(rng, specific)
    return _fill(rng, choose(rng, captions.templates), captions, attributes)


def dress(rng: Rng, phrase: str) -> str:
    """Sometimes wraps the phrase, then draws its casing and closing full stop."""
    if rng.random() < DRESS_CHANCE:
        phrase = choose(rng, DRESSES).format(phrase)
    draw = rng.random()
    if draw < 0.2:
        phrase = phrase[0].upper() + phrase[1:]
    elif draw < 0.23:
        phrase = phrase.upper()
    return phrase + "." if rng.random() < 0.08 else phrase


def joint_caption(rng: Rng, bed: str, foreground: str) -> str:
    """One caption for a bed and a foreground heard together, in either order."""
    first, second = (bed, foreground) if rng.random() < 0.4 else (foreground, bed)
    return first + choose(rng, JOINTS) + second


def plain_phrases(label: str) -> Iterator[str]:
    """Every undressed phrase that `plain_caption` can produce for a class."""
    captions = class_captions()[label]
    yield from captions.general
    for table in captions.by.values():
        yield from itertools.chain.from_iterable(table.values())
    for template in captions.templates:
        names = slots(template)
        choices = [[word for texts in captions.words[name].values() for word in texts] for name in names]
        for words in itertools.product(*choices):
            yield with_article(template.format(**dict(zip(names, words, strict=True))))
