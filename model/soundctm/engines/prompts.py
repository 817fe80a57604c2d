"""What an engine keeps of the prompts it has encoded lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from soundctm.engines.protocol import Floats

_MOST_PROMPTS = 256

Handle = TypeVar("Handle")


@dataclass(frozen=True)
class EncodedPrompt(Generic[Handle]):
    """What one run of the text encoder told of a prompt: what jumps need, and a vector of unit length [D]."""

    handle: Handle
    embedding: Floats


class PromptCache(Generic[Handle]):
    """Runs the text encoder once per prompt it has not seen lately."""

    def __init__(self) -> None:
        self._prompts: OrderedDict[str, EncodedPrompt[Handle]] = OrderedDict()

    def encoded(
        self, prompts: Sequence[str], encode: Callable[[str], EncodedPrompt[Handle]]
    ) -> list[EncodedPrompt[Handle]]:
        """`encode` is not kept: an engine that held itself through its cache would outlive its unloading."""
        # one at a time: the result must not depend on which prompts share a batch
        found = {prompt: self._prompts.get(prompt) or encode(prompt) for prompt in dict.fromkeys(prompts)}
        for prompt in prompts:
            self._prompts[prompt] = found[prompt]
            self._prompts.move_to_end(prompt)
        while len(self._prompts) > _MOST_PROMPTS:
            self._prompts.popitem(last=False)
        return [found[prompt] for prompt in prompts]

    def clear(self) -> None:
        self._prompts.clear()
