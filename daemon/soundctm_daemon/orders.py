"""Requests by the ids their clients gave them: one that is sent again meets the clips of the first. On the event loop.

Ids are one client's own: another client's request of the same id is another request.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from soundctm.errors import FieldViolation, InvalidRequestError
from soundctm.noise import SEED_MAX

REMEMBERED_SECONDS = 3600.0
REMEMBERED_ORDERS = 50_000
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_SHOWN = 80  # characters


def _draw_seed() -> int:
    return secrets.randbelow(SEED_MAX + 1)


@dataclass(eq=False, slots=True)
class Order:
    """One request. `seed` is drawn for it once, so that making a clip again makes the same one; `clip_ids` is empty
    until clips are asked for. Whoever reads or changes it holds the `lock`."""

    request_id: str = ""
    seed: int = field(default_factory=_draw_seed)
    fingerprint: bytes = b""
    clip_ids: list[str] = field(default_factory=list)
    opened_seconds: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def require_same(self, request: Message) -> None:
        """Raises InvalidRequestError where the order's clips were asked for by another request."""
        if self.clip_ids and self.fingerprint != fingerprint(request):
            value = f"{self.request_id!r}, which named another request less than an hour ago"
            raise InvalidRequestError([FieldViolation("request_id", value, "an id of its own for every request")])

    def note(self, request: Message, numbers: Sequence[int], clip_ids: Sequence[str]) -> None:
        """The clips asked for: all of the order, or those that take the places `numbers` of earlier ones."""
        if not self.clip_ids:
            self.fingerprint, self.clip_ids = fingerprint(request), list(clip_ids)
            return
        for number, clip_id in zip(numbers, clip_ids, strict=True):
            self.clip_ids[number] = clip_id


def fingerprint(request: Message) -> bytes:
    """Differs where the kind of request or any of its fields does."""
    body = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + body).digest()


class Orders:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, from anywhere, and never goes back."""
        self._clock = clock
        self._orders: OrderedDict[tuple[str, str], Order] = OrderedDict()  # in the order they came

    def open(self, client: str, request_id: str | None) -> Order:
        """The order of this id, a new one where there is none or no id. Raises InvalidRequestError for what is no
        id."""
        if request_id is None:
            return Order()
        if _ID.fullmatch(request_id) is None:
            shown = ascii(request_id)
            shown = shown if len(shown) <= _LONGEST_SHOWN else f"{len(request_id)} characters long"
            allowed = "1 to 64 letters, digits, '-' and '_'"
            raise InvalidRequestError([FieldViolation("request_id", shown, allowed)])
        self._forget()
        key = (client, request_id)
        if key not in self._orders:
            self._orders[key] = Order(request_id, opened_seconds=self._clock())
        return self._orders[key]

    def _forget(self) -> None:
        oldest = self._clock() - REMEMBERED_SECONDS
        while self._orders:
            key, order = next(iter(self._orders.items()))
            if len(self._orders) < REMEMBERED_ORDERS and order.opened_seconds > oldest:
                return
            del self._orders[key]
