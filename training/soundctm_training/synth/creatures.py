"""Animals beyond birds and dogs, and the sounds of bodies."""

from collections.abc import Mapping

from soundctm_training.synth.primitives import Recipe

RECIPES: Mapping[str, Recipe] = {}
BEDS: tuple[str, ...] = ()  # those of them that other sounds are laid over
FOREGROUNDS: tuple[str, ...] = ()  # those that are laid over a bed
