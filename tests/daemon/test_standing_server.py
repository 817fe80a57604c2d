"""A stranger who asks for a method whose name is not UTF-8 ends gRPC's server, and not the daemon's."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from fuzzing.port import asking
from running_daemon import PATIENCE_SECONDS, Gate, RunningDaemon, steered
from soundgen import paths
from soundgen.client import Client

pytestmark = pytest.mark.usefixtures("models")


class Replacements(logging.Handler):
    """Hears that a server took another's place."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._heard = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.release()

    def wait_for_one(self) -> None:
        assert self._heard.acquire(timeout=PATIENCE_SECONDS)


@pytest.fixture
def replacements() -> Iterator[Replacements]:
    handler, logger = Replacements(), logging.getLogger("soundctm_daemon.standing_server")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def knock(address: str) -> None:
    """With such a name; until the server closes the connection."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_SECONDS) as connection:
        connection.sendall(asking(b"/x\xff"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


def test_another_server_takes_the_place_and_calls_under_way_go_on(replacements: Replacements) -> None:
    gate = Gate()
    with RunningDaemon(steered(gate.wait)) as daemon, Client() as early:
        events = early.generate("rain", seconds=0.5, steps=2)
        clip_id = next(events).clip_id
        gate.wait_until_reached()
        for _ in range(3):
            knock(daemon.listening.address)
            replacements.wait_for_one()
            for address in (daemon.listening.address, paths.default_address()):
                with Client(address, paths.read_token()) as late:
                    assert [job.clip_id for job in late.jobs()] == [clip_id]
        gate.let_through(2)
        assert events.clip().id == clip_id
    assert daemon.drained
