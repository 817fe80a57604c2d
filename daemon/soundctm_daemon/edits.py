"""What people say of a clip: its name, tags, whether it is a favourite, notes, and that it is deleted.

Each edited clip's edits lie as JSON in a small file of their own, so that they outlive the database; the WAV file is
never rewritten.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from soundctm.errors import FieldViolation, InvalidRequestError
from soundctm_daemon.untrusted import is_text, is_time

LONGEST_LABEL, LONGEST_NOTES, LONGEST_TAG = 200, 4000, 40  # characters
MOST_TAGS = 32
_FORMAT = 1


@dataclass(frozen=True)
class Edits:
    """`tags` in lower case, each once, sorted. `deleted_at` is seconds since 1970, UTC; None: it is not deleted."""

    label: str
    tags: tuple[str, ...] = ()
    favourite: bool = False
    notes: str = ""
    deleted_at: float | None = None

    def to_json(self) -> str:
        return json.dumps({"format": _FORMAT, **dataclasses.asdict(self)}, ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Edits:
        """Raises ValueError when the text is no edits."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data.pop("format") != _FORMAT:
                raise ValueError("not this version's format")
            edits = cls(**{**data, "tags": tuple(data["tags"])})
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no edits of a clip: {error!r}") from error
        sound = (
            all(is_text(text) for text in (edits.label, edits.notes, *edits.tags))
            and isinstance(edits.favourite, bool)
            and (edits.deleted_at is None or is_time(edits.deleted_at))
        )
        if not sound:
            raise ValueError("no edits of a clip: a value is of another kind")
        return edits


def checked_label(label: str) -> str:
    """Raises InvalidRequestError."""
    label = label.strip()
    if not 1 <= len(label) <= LONGEST_LABEL:
        seen = f"{len(label)} characters long" if label else "empty"
        raise InvalidRequestError([FieldViolation("label", seen, f"1 to {LONGEST_LABEL} characters")])
    return label


def checked_notes(notes: str) -> str:
    """Raises InvalidRequestError."""
    if len(notes) > LONGEST_NOTES:
        violation = FieldViolation("notes", f"{len(notes)} characters long", f"at most {LONGEST_NOTES} characters")
        raise InvalidRequestError([violation])
    return notes


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """In lower case, white space within them one blank, each once, sorted. Raises InvalidRequestError."""
    told = list(tags)
    if len(told) > MOST_TAGS:
        raise InvalidRequestError([FieldViolation("tags", f"{len(told)} tags", f"at most {MOST_TAGS} tags")])
    plain = sorted({" ".join(unicodedata.normalize("NFC", tag).lower().split()) for tag in told})
    for tag in plain:
        if not 1 <= len(tag) <= LONGEST_TAG:
            seen = f"a tag {len(tag)} characters long" if tag else "an empty tag"
            raise InvalidRequestError([FieldViolation("tags", seen, f"tags of 1 to {LONGEST_TAG} characters")])
    return tuple(plain)
