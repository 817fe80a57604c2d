"""Which clips a list holds. What people type is bound, never spelled into SQL."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass

TAG_MARK = "\n"  # stands before and after each tag of a clip; no tag holds one


def folded(text: str) -> str:
    """Alike for texts that differ in case alone, or in how Unicode spells them."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


@dataclass(frozen=True)
class ClipFilter:
    """`words` are folded and must all occur. Times are microseconds since 1970, both exclusive; None: any."""

    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    favourites_only: bool = False
    after_us: int | None = None
    before_us: int | None = None
    deleted: bool = False

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]

    def condition(self) -> tuple[str, list[str | int]]:
        """SQL over the columns of `clips`, and what its question marks stand for."""
        terms: list[tuple[str, tuple[str | int, ...]]] = [
            ("deleted_at IS NOT NULL" if self.deleted else "deleted_at IS NULL", ()),
            *[("instr(words, ?) > 0", (word,)) for word in self.words],
            *[("instr(tags, ?) > 0", (f"{TAG_MARK}{tag}{TAG_MARK}",)) for tag in self.tags],
        ]
        if self.favourites_only:
            terms.append(("favourite", ()))
        if self.after_us is not None:
            terms.append(("created_us > ?", (self.after_us,)))
        if self.before_us is not None:
            terms.append(("created_us < ?", (self.before_us,)))
        return " AND ".join(term for term, _ in terms), [value for _, values in terms for value in values]
