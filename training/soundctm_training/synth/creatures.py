"""Animals beyond birds and dogs, and the sounds of bodies: the table of them."""

from collections.abc import Mapping
from types import MappingProxyType

from soundctm_training.synth import bodies, farm, wild
from soundctm_training.synth.primitives import Recipe

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "cat": farm.cat,
        "cow": farm.cow,
        "sheep": farm.sheep,
        "rooster": farm.rooster,
        "wolf": farm.wolf,
        "frog": wild.frog,
        "owl": wild.owl,
        "seagull": wild.seagull,
        "horse": wild.horse,
        "heartbeat": bodies.heartbeat,
        "snoring": bodies.snoring,
    }
)
BEDS: tuple[str, ...] = ()  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = (  # those that are laid over a bed
    *("cat", "cow", "sheep", "rooster", "wolf"),
    *("frog", "owl", "seagull", "horse"),
)
