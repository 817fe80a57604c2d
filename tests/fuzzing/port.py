"""Bytes at the HTTP/2 port and the Unix socket that no client would send: noise, other protocols, and a right
conversation cut, mixed up and damaged."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Sequence

from soundgen import paths

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _END_HEADERS = 1, 4
_LARGEST_READ = 1 << 16
_LONGEST_SECONDS = 60.0  # a connection at whose other end nobody is, and that is not closed in this time, leaks
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: no farewell
_METHODS = (
    b"/grpc.health.v1.Health/Check", b"/soundgen.v1.GenerationService/ListJobs", b"/x", b"", b"\0" * 40, b"/\xff"
)  # fmt: skip
_OTHERS = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),  # the beginning of TLS
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\0" * 4096,
    _PREFACE[:10],
)


def strike(number: int) -> str:
    """One connection with the bytes of this number. What is wrong about how it ended; empty: nothing is."""
    chance = random.Random(number)
    try:
        with _dial(chance) as connection:
            connection.settimeout(_LONGEST_SECONDS)
            for piece in _pieces(_bytes(chance), chance):
                connection.sendall(piece)
            if chance.random() < 0.3:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                return ""
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(_LARGEST_READ):
                pass
    except TimeoutError:
        return f"connection {number} was not closed {_LONGEST_SECONDS:g} s after its other end was"
    except OSError:  # the daemon was first
        pass
    return ""


def asking(method: bytes) -> bytes:
    """All of a call without a token, by a client that says no more than it must."""
    headers = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", method), (b":authority", b"x"),
               (b"te", b"trailers"), (b"content-type", b"application/grpc"))  # fmt: skip
    message = _frame(_DATA, _END_STREAM, 1, bytes(5))
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, _block(headers)) + message


def _dial(chance: random.Random) -> socket.socket:
    if chance.random() < 0.5:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(paths.socket_path()))
        return connection
    endpoint = paths.read_endpoint()
    assert endpoint is not None
    host, _, port = endpoint.address.rpartition(":")
    return socket.create_connection((host, int(port)))


def _bytes(chance: random.Random) -> bytes:
    make: Callable[[random.Random], bytes] = chance.choice(
        (_noise, _frames, _frames, _damaged, _damaged, _damaged, _mixed_up, lambda chance: chance.choice(_OTHERS))
    )
    return make(chance)


def _noise(chance: random.Random) -> bytes:
    return chance.choice((b"", _PREFACE)) + chance.randbytes(chance.randrange(2000))


def _frames(chance: random.Random) -> bytes:
    """Whole frames of any kind, with anything in them."""
    frames = [
        _frame(chance.randrange(12), chance.randrange(256), chance.choice((0, 1, 1, 2, 3, 2**31 - 1)),
               chance.randbytes(chance.choice((0, 4, 5, 6, 8, 100))))
        for _ in range(chance.randrange(1, 30))
    ]  # fmt: skip
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + b"".join(frames)


def _damaged(chance: random.Random) -> bytes:
    """A right conversation, with some bytes exchanged for others, or cut short."""
    data = bytearray(_PREFACE + b"".join(_conversation(chance)))
    for _ in range(chance.randrange(6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data[: chance.randrange(1, len(data) + 1)] if chance.random() < 0.3 else data)


def _mixed_up(chance: random.Random) -> bytes:
    """Right frames: out of order, many times over, and reset as soon as they are opened."""
    frames = _conversation(chance) * chance.randrange(1, 20)
    chance.shuffle(frames)
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + b"".join(frames)


def _conversation(chance: random.Random) -> list[bytes]:
    stream = chance.choice((1, 3, 5))
    headers = (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", chance.choice(_METHODS)), (b":authority", b"x"),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"), (b"authorization", chance.randbytes(8)),
        (b"grpc-timeout", chance.choice((b"1S", b"1n", b"99999999H", b"-1S", b"x"))),
    )  # fmt: skip
    message = chance.randbytes(chance.randrange(40))
    body = b"\0" + struct.pack(">I", chance.choice((len(message), 0, 2**32 - 1))) + message
    return [
        _frame(_SETTINGS, 0, 0, struct.pack(">HI", chance.randrange(8), chance.getrandbits(32))),
        _frame(_WINDOW, 0, 0, struct.pack(">I", chance.choice((0, 1, 2**31 - 1)))),
        _frame(_HEADERS, _END_HEADERS, stream, _block(headers)),
        _frame(_DATA, _END_STREAM, stream, body),
        _frame(_PING, 0, 0, bytes(8)),
        _frame(chance.choice((_RESET, _GOAWAY, _CONTINUATION)), 0, stream, struct.pack(">II", 0, 0)[:4]),
    ]


def _block(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Literals, never indexed."""
    return b"".join(b"\0" + _short(name) + _short(value) for name, value in headers)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _pieces(data: bytes, chance: random.Random) -> list[bytes]:
    """At once, or in two."""
    at = chance.randrange(len(data) + 1)
    return [data] if chance.random() < 0.7 else [data[:at], data[at:]]
