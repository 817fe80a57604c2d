"""The OSC door: a UDP server that lets through only plain messages from this machine, and the messages it sends back.

python-osc alone can be frozen by one packet (a bundle from the future, an address of 300 `*`) or made to recurse
without end (bundles in bundles). None of those is a plain message, and nothing else is parsed.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_message import OscMessage, ParseError
from pythonosc.osc_server import BlockingOSCUDPServer
from pythonosc.udp_client import SimpleUDPClient

from soundctm_bridge.errors import PortError

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_PLAIN_ADDRESS = re.compile(rb"/[A-Za-z0-9_/]{1,120}\x00")
_PLAIN_TYPES = re.compile(rb",[ifshdTF]*\x00")
_LOG_EVERY_SECONDS = 1.0

Handler = Callable[[str, Sequence[Any]], None]  # address, arguments


class OscServer(BlockingOSCUDPServer):
    """Listens on 127.0.0.1 only. Handlers run one after another on the serving thread and must not block.

    handler : called for every plain message, whatever its address.
    Raises PortError when the port is taken.
    """

    max_packet_size = 65535

    def __init__(self, port: int, handler: Handler) -> None:
        dispatcher = Dispatcher(strict_timing=False)
        dispatcher.set_default_handler(lambda address, *arguments: handler(address, arguments))
        self._last_refusal_at = -_LOG_EVERY_SECONDS
        self._refused = 0
        try:
            super().__init__((LOOPBACK, port), dispatcher)
        except OSError as error:
            raise PortError(
                f"UDP port {port} on {LOOPBACK} cannot be listened on ({error.strerror})",
                "another bridge may run already; name another port with --port",
            ) from error

    @property
    def port(self) -> int:
        """The port it listens on (the one given, or the one the system chose for 0)."""
        return int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a datagram is a plain OSC message from this machine. Logs why not, at most once a second."""
        data: bytes = request[0]
        problem = _problem_with(data, str(client_address[0]))
        if problem is not None:
            self._log_refusal(problem, data)
        return problem is None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A handler failed: the server goes on."""
        log.error("an OSC message from %s could not be handled", client_address, exc_info=sys.exc_info())

    def _log_refusal(self, problem: str, data: bytes) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._last_refusal_at >= _LOG_EVERY_SECONDS:
            shown = f"{len(data)} bytes, {data[:40]!r}..."
            log.warning("ignored %d OSC packet(s); the last: %s (%s)", self._refused, problem, shown)
            self._last_refusal_at, self._refused = now, 0


def _problem_with(data: bytes, host: str) -> str | None:
    if host != LOOPBACK:
        return f"it comes from {host}, not from this machine"
    if data.startswith(b"#bundle"):
        return "it is a bundle; send plain messages"
    address = _PLAIN_ADDRESS.match(data)
    if address is None:
        return "its address is not plain: / and up to 120 of A-Z a-z 0-9 _ /"
    if _PLAIN_TYPES.match(data, -(-address.end() // 4) * 4) is None:
        return "its arguments are not all of the types i f s h d T F"
    try:
        OscMessage(data)
    except ParseError as error:
        return f"it is malformed: {error}"
    return None


def send(port: int, address: str, arguments: Sequence[str | int | float]) -> None:
    """One message to a port of this machine. Nobody need be listening there."""
    try:
        with closing(SimpleUDPClient(LOOPBACK, port)) as client:
            client.send_message(address, list(arguments))
    except OSError as error:
        log.warning("%s could not be sent to port %d: %s", address, port, error)
