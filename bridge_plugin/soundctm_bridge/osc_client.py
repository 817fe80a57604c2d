"""A client of the bridge in a few lines: sends a request and gathers its answers. docs/bridge.md shows it in use."""

import socket
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pythonosc.osc_message import OscMessage, ParseError

from soundctm_bridge.errors import BridgeError
from soundctm_bridge.osc import LOOPBACK, send

Value = str | int | float
_LARGEST_DATAGRAM = 65535


class AnswerError(BridgeError):
    """The bridge answered /soundctm/error, or nothing at all (reason NO_ANSWER)."""

    reason = "NO_ANSWER"


@dataclass(frozen=True)
class Answered:
    """fields : the reply's keys and values. events : (name, values) in the order they came."""

    fields: dict[str, Value]
    events: list[tuple[str, list[Value]]]


class OscClient:
    """Asks the bridge on this machine that listens on `port`. One request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(
        self,
        verb: str,
        *arguments: Value,
        timeout_seconds: float = 120.0,
        on_event: Callable[[str, Sequence[Value]], None] | None = None,
    ) -> Answered:
        """One request and what came of it. Raises AnswerError."""
        request_id = uuid.uuid4().hex
        send(self._port, f"/soundctm/{verb}", [self._socket.getsockname()[1], request_id, *arguments])
        events: list[tuple[str, list[Value]]] = []
        end = time.monotonic() + timeout_seconds
        while True:
            address, values = self._receive(request_id, end, verb, timeout_seconds)
            kind, _, name = address.removeprefix("/soundctm/").partition("/")
            if kind == "event":
                events.append((name, values))
                if on_event is not None:
                    on_event(name, values)
            elif kind == "reply":
                return Answered({str(key): value for key, value in zip(values[::2], values[1::2], strict=True)}, events)
            else:
                code, message, what_to_do = (str(value) for value in values)
                raise AnswerError(message, what_to_do, reason=code)

    def _receive(self, request_id: str, end: float, verb: str, timeout_seconds: float) -> tuple[str, list[Any]]:
        """The next message about this request: its address, and its arguments after the request id."""
        while True:
            self._socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                message = OscMessage(self._socket.recv(_LARGEST_DATAGRAM))
            except TimeoutError:
                raise AnswerError(
                    f"the bridge on UDP port {self._port} did not finish {verb} within {timeout_seconds:g} s",
                    "is it running? `soundctm bridge run` starts it",
                ) from None
            except ParseError:
                continue  # whoever sent that, it was not the bridge
            if message.params and message.params[0] == request_id:
                return message.address, list(message.params[1:])
