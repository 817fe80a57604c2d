"""Wild messages and wild bytes: the small version of `make fuzz`."""

from __future__ import annotations

import pytest

from fuzzing.attack import attack
from fuzzing.calls import Fuzzed, fuzz, known_words
from fuzzing.messages import METHODS
from running_daemon import RunningDaemon, steered
from soundctm_daemon.clip_service import ClipService
from soundctm_daemon.server import SERVICE_NAMES

pytestmark = pytest.mark.usefixtures("models")

MESSAGES, CONNECTIONS = 400, 40


def test_a_daemon_answers_whatever_it_is_sent() -> None:
    fuzzed: list[Fuzzed] = []
    outcome = attack(MESSAGES, CONNECTIONS, 1, fuzzed.append)
    assert outcome.defects == []
    assert outcome.sent >= MESSAGES
    assert len(outcome.health.seconds) > 1
    assert [each.method for each in fuzzed] == list(METHODS)
    codes = {code for each in fuzzed for code in each.codes}
    assert codes >= {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}  # what it was sent was not all nonsense


def test_every_service_of_the_daemon_is_tried() -> None:
    assert {method.split("/")[1] for method in METHODS} >= {*SERVICE_NAMES}


def test_a_defect_is_found_and_told_with_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    async def defective(self: ClipService, request: object, context: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(ClipService, "DeleteClip", defective)
    with RunningDaemon(steered()):
        found = fuzz("/soundgen.v1.ClipService/DeleteClip", 50, 1, known_words())
    assert "UNKNOWN" in found.defect
    assert "sent: [" in found.defect
