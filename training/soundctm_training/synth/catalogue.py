"""The catalogue of classes and the one door to a synthesised sound: `render`."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from soundctm.errors import SoundCTMError
from soundctm_training.synth import (
    animals,
    blasts,
    creatures,
    doors,
    electronics,
    handled,
    household,
    impacts,
    instruments,
    machines,
    strikes,
    tonal,
    tools,
    vehicles,
    water,
    weather,
    wet,
)
from soundctm_training.synth.captions import dress, joint_caption, plain_caption
from soundctm_training.synth.primitives import Audio, Recipe, Rng, choose, normalise, uniform

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "rain": weather.rain,
        "thunder": weather.thunder,
        "wind": weather.wind,
        "fire": weather.fire,
        "waves": water.waves,
        "stream": water.stream,
        "footsteps": impacts.footsteps,
        "knock": doors.knock,
        "engine": machines.engine,
        "helicopter": machines.helicopter,
        "explosion": blasts.explosion,
        "whoosh": blasts.whoosh,
        "crickets": animals.crickets,
        "birds": animals.birds,
        "applause": impacts.applause,
        "typing": impacts.typing,
        "glass": impacts.glass,
        "door": doors.door,
        "gun": blasts.gun,
        "dog": animals.dog,
        "siren": machines.siren,
        "bell": tonal.bell,
        "drums": tonal.drums,
        "drone": machines.drone,
        **creatures.RECIPES,
        **wet.RECIPES,
        **vehicles.RECIPES,
        **household.RECIPES,
        **handled.RECIPES,
        **instruments.RECIPES,
        **electronics.RECIPES,
        **strikes.RECIPES,
        **tools.RECIPES,
    }
)
LABELS = tuple(RECIPES)
_MODULES = (creatures, wet, vehicles, household, handled, instruments, electronics, strikes, tools)
BEDS = (
    *("rain", "wind", "fire", "waves", "stream", "crickets", "drone", "engine"),
    *(label for module in _MODULES for label in module.BEDS),
)
FOREGROUNDS = (
    *("thunder", "footsteps", "knock", "bell", "siren", "explosion", "birds", "dog", "glass", "door", "gun"),
    *(label for module in _MODULES for label in module.FOREGROUNDS),
)


class UnknownLabelError(SoundCTMError):
    """A class was asked for that the catalogue does not hold."""


@dataclass(frozen=True)
class Sound:
    """A captioned clip: float32 mono [samples] at 44.1 kHz, at most 0.7 in peak."""

    audio: Audio
    caption: str
    label: str


def render(label: str, rng: Rng, samples: int) -> Sound:
    """Draws one clip of a class and a caption true of it. Raises UnknownLabelError."""
    recipe = RECIPES.get(label)
    if recipe is None:
        raise UnknownLabelError(f"no sound class {label!r}; the catalogue holds {', '.join(LABELS)}")
    rendering = recipe(rng, samples)
    caption = dress(rng, plain_caption(rng, label, rendering.attributes))
    return Sound(normalise(rendering.audio), caption, label)


def render_mix(rng: Rng, samples: int) -> Sound:
    """Draws a bed and a foreground heard together; the label is `bed+foreground`."""
    bed_label, foreground_label = choose(rng, BEDS), choose(rng, FOREGROUNDS)
    bed, foreground = RECIPES[bed_label](rng, samples), RECIPES[foreground_label](rng, samples)
    audio = uniform(rng, 0.35, 0.7) * normalise(bed.audio) + normalise(foreground.audio)
    caption = joint_caption(
        rng,
        plain_caption(rng, bed_label, bed.attributes),
        plain_caption(rng, foreground_label, foreground.attributes),
    )
    return Sound(normalise(audio), dress(rng, caption), f"{bed_label}+{foreground_label}")
