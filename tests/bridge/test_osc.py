"""The OSC door opens to plain messages from this machine, and to nothing else; no packet stops it."""

from __future__ import annotations

import logging
import queue
import random
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pythonosc.osc_message_builder import OscMessageBuilder

from soundctm_bridge.errors import PortError
from soundctm_bridge.osc import OscServer, send

WAIT_SECONDS = 30.0
TRIES = 100


class Door:
    """A served OscServer and what came through it."""

    def __init__(self) -> None:
        self.probes = 0
        self.received: queue.Queue[tuple[str, Sequence[Any]]] = queue.Queue()
        self.server = OscServer(0, self._take)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def _take(self, address: str, arguments: Sequence[Any]) -> None:
        if address == "/explode":
            raise RuntimeError("a handler's own mistake")
        self.received.put((address, arguments))

    def throw(self, packet: bytes) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(packet, ("127.0.0.1", self.server.port))

    def next(self) -> tuple[str, Sequence[Any]]:
        return self.received.get(timeout=WAIT_SECONDS)

    def still_answers(self) -> bool:
        """Whether a plain message sent now comes through, and nothing but such messages does.

        It is sent again and again: a flood before it may have filled the socket's buffer, and UDP then drops it.
        """
        self.probes += 1
        for _ in range(TRIES):
            send(self.server.port, "/still/there", [self.probes])
            try:
                address, arguments = self.received.get(timeout=WAIT_SECONDS / TRIES)
            except queue.Empty:
                continue
            if address != "/still/there":
                return False
            if arguments == (self.probes,):
                return True
        return False

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def door() -> Iterator[Door]:
    opened = Door()
    yield opened
    opened.close()


def message(address: str, *arguments: str | int | float) -> bytes:
    builder = OscMessageBuilder(address)
    for argument in arguments:
        builder.add_arg(argument)
    return builder.build().dgram


def bundle(ntp_timetag: int, content: bytes) -> bytes:
    return b"#bundle\x00" + struct.pack(">Q", ntp_timetag) + struct.pack(">i", len(content)) + content


def test_a_plain_message_comes_through(door: Door) -> None:
    send(door.server.port, "/soundctm/generate", [9000, "id", "rain — 雨", "seconds", 2.5])
    address, arguments = door.next()
    assert address == "/soundctm/generate"
    assert list(arguments) == [9000, "id", "rain — 雨", "seconds", 2.5]


def test_it_listens_on_loopback_udp_only(door: Door) -> None:
    assert door.server.server_address[0] == "127.0.0.1"
    port_hex = f":{door.server.port:04X}"
    tcp_listeners = [
        line
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[1].endswith(port_hex) and line.split()[3] == "0A"
    ]
    assert tcp_listeners == []  # 64 MB of SLIP without an end has nowhere to go
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", door.server.port))


HOSTILE = {
    "a bundle from the future": bundle(2**64 - 1, message("/a")),
    "an address of 300 stars": message("/" + "*" * 300),
    "an address of 300 plain characters": message("/" + "a" * 300),
    "an empty datagram": b"",
    "no address": b"\x00\x00\x00\x00",
    "an address without an end": b"/soundctm/generate",
    "a type tag without its argument": b"/a\x00\x00,i\x00\x00",
    "a string without an end": b"/a\x00\x00,s\x00\x00abc",
    "a blob longer than its packet": b"/a\x00\x00,b\x00\x00" + struct.pack(">i", 2**31 - 1),
    "a blob of negative size": b"/a\x00\x00,b\x00\x00" + struct.pack(">i", -5),
    "an unknown type": b"/a\x00\x00,Q\x00\x00",
    "an array never closed": b"/a\x00\x00,[[[[\x00\x00\x00",
    "a pattern": message("/soundctm/{generate,refine}"),
    "the longest datagram": b"/a\x00\x00,s\x00\x00" + b"\xff" * 60_000,
}


@pytest.mark.parametrize("packet", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_packet_is_ignored_and_logged(door: Door, packet: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        door.throw(packet)
        assert door.still_answers()
    assert "ignored 1 OSC packet" in caplog.text


def test_bundles_in_bundles_are_ignored(door: Door) -> None:
    inner = message("/a")
    for _ in range(400):
        inner = bundle(1, inner)  # 1 means: now
    door.throw(inner)
    assert door.still_answers()


def test_random_packets_do_not_stop_it(door: Door) -> None:
    dice = random.Random(0)
    for _ in range(2_000):
        door.throw(b"/" + dice.randbytes(dice.randrange(64)) if dice.random() < 0.5 else dice.randbytes(64))
    assert door.still_answers()


def test_a_handlers_mistake_does_not_stop_it(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    send(door.server.port, "/explode", [])
    assert door.still_answers()
    assert any("could not be handled" in record.message for record in caplog.records)


def test_refusals_are_logged_once_a_second(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(500):
        door.throw(b"junk")
    assert door.still_answers()
    logged = [record for record in caplog.records if "ignored" in record.message]
    assert 1 <= len(logged) < 50


def test_a_taken_port_is_named(door: Door) -> None:
    with pytest.raises(PortError, match=f"UDP port {door.server.port} .* another bridge may run already"):
        OscServer(door.server.port, lambda address, arguments: None)
