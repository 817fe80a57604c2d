"""Which clips are takes of one another: a refined clip and what it was refined from."""


class Takes:
    """Remembers families of clips. Not thread-safe."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def add(self, clip_id: str, take_id: str) -> None:
        """`take_id` is another take of `clip_id`."""
        family = self._families.setdefault(clip_id, [clip_id])
        if take_id not in family:
            family.append(take_id)
        self._families[take_id] = family

    def of(self, clip_id: str) -> list[str]:
        """The clip itself, then the other takes of its family, the newest first."""
        family = self._families.get(clip_id, [clip_id])
        return [clip_id, *(take for take in reversed(family) if take != clip_id)]
