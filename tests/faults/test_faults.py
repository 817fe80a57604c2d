"""Faults, tried and survived: the small version of `make faults`."""

from __future__ import annotations

import logging

import pytest

from faults import kills
from faults.scale import SMALL
from faults.suite import FAULTS, Fault

pytestmark = pytest.mark.usefixtures("models")


@pytest.fixture(autouse=True)
def _many_calls(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SOUNDCTM_CLIENT_REQUESTS_PER_SECOND", "0")  # whoever looks at everything asks a lot
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_nothing_is_lost(fault: Fault) -> None:
    assert fault(SMALL) == []


def test_nothing_is_lost_where_a_clip_is_when_the_daemon_is_killed() -> None:
    for point, lost in kills.at_every_point(SMALL):
        assert lost == [], point
