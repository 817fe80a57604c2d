"""Every OSC request ends in exactly one reply or one error, which says what was wrong and what to do."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bridge.fakes import FakeDaemon, FakeDaw, clip
from soundctm_bridge.adapters.base import Placement
from soundctm_bridge.answers import clip_fields
from soundctm_bridge.errors import JobFailedError
from soundctm_bridge.requests import TRACK_COLOUR
from soundctm_bridge.service import Service
from soundgen.errors import DaemonUnreachableError, GenerationFailedError, InvalidRequestError
from soundgen.types import AudioFinding, Familiarity

WAIT_SECONDS = 30.0
PORT = 9000


class Desk:
    """A Service between a fake daemon and a fake DAW, and the messages it sends."""

    def __init__(self, folder: Path) -> None:
        wav = folder / "stored.wav"
        soundfile.write(wav, 0.5 * np.sin(np.arange(16_000) / 5.0), 16_000, subtype="FLOAT")
        self.folder = folder / "prepared"
        self.daw, self.daemon = FakeDaw(), FakeDaemon(wav)
        self.sent: queue.Queue[tuple[int, str, list[Any]]] = queue.Queue()
        self.service = Service(self.daw, self._send, self.folder, self.daemon)  # type: ignore[arg-type]

    def _send(self, port: int, address: str, arguments: Sequence[Any]) -> None:
        self.sent.put((port, address, list(arguments)))

    def ask(self, verb: str, *arguments: Any, request_id: str = "r1") -> None:
        self.service.handle(f"/soundctm/{verb}", [PORT, request_id, *arguments])

    def next(self) -> tuple[str, list[Any]]:
        port, address, arguments = self.sent.get(timeout=WAIT_SECONDS)
        assert port == PORT
        return address, arguments

    def until_answered(self, request_id: str = "r1") -> tuple[list[str], str, list[Any]]:
        """The events' names, then the final message of a request."""
        events: list[str] = []
        while True:
            address, arguments = self.next()
            if arguments[0] != request_id:
                continue
            if not address.startswith("/soundctm/event/"):
                return events, address, arguments
            events.append(address.removeprefix("/soundctm/event/"))

    def error_of(self, verb: str, *arguments: Any) -> list[Any]:
        self.ask(verb, *arguments)
        _, address, answer = self.until_answered()
        assert address == "/soundctm/error"
        return answer[1:]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.service.close()


def fields(arguments: list[Any]) -> dict[str, Any]:
    return dict(zip(arguments[1::2], arguments[2::2], strict=True))


def test_a_reply_says_what_was_noticed_of_a_clip(tmp_path: Path) -> None:
    plain = clip("c1", tmp_path)
    assert "findings" not in clip_fields(plain)
    told = replace(
        plain,
        findings=(AudioFinding.CLIPPING, AudioFinding.UNFAMILIAR_PROMPT),
        familiarity=Familiarity("rain", 0.25, 0.5),
    )
    added = {"findings": "clipping,unfamiliar_prompt", "nearest": "rain", "similarity": 0.25}
    assert clip_fields(told) == clip_fields(plain) | added


def test_a_prompt_becomes_a_placed_clip(desk: Desk) -> None:
    desk.ask("generate", "heavy rain", "steps", 2, "seconds", 1.5, "track", "FX", "at", 777)
    events, address, answer = desk.until_answered()
    assert events == ["queued", "started", "jump", "jump", "clip", "placed"]
    assert address == "/soundctm/reply/generate"
    assert fields(answer) == {
        "clip_id": "clip1",
        "path": str(desk.daemon.wav),
        "seconds": 1.0,
        "steps": 2,
        "seed": 4_000_000_000,
        "regions": 1,
        "track": "FX",
        "region": "heavy rain",
        "position_samples": 777,
        "length_samples": 48_000,
    }
    assert desk.daemon.asked == [("heavy rain", {"steps": 2, "seconds": 1.5})]
    placed = ("DSGNMisc_Heavy Rain_SOUNDCTM_clip1.wav", "heavy rain", Placement("FX", 777, TRACK_COLOUR))
    assert desk.daw.placed == [placed]
    assert list(desk.folder.iterdir()) == []  # the DAW has its own copy


def test_a_clip_can_be_made_without_a_daw(desk: Desk) -> None:
    desk.daw.silent = True
    desk.ask("generate", "rain", "place", 0)
    events, address, answer = desk.until_answered()
    assert (events[-1], address) == ("clip", "/soundctm/reply/generate")
    assert "region" not in fields(answer)


def test_a_silent_daw_is_told_before_the_work(desk: Desk) -> None:
    desk.daw.silent = True
    assert desk.error_of("generate", "rain") == ["DAW_SILENT", "the hook does not answer", "open the DAW"]
    assert desk.daemon.asked == []


def test_refine_names_the_clip_and_the_takes_that_may_lie_in_its_place(desk: Desk) -> None:
    desk.ask("refine", "abc", "steps", 4)
    assert desk.until_answered()[1] == "/soundctm/reply/refine"
    desk.ask("refine", "abc")
    assert desk.until_answered()[1] == "/soundctm/reply/refine"
    desk.ask("refine", "clip1", request_id="r2")
    assert desk.until_answered("r2")[1] == "/soundctm/reply/refine"
    assert [clip_ids for clip_ids, _ in desk.daw.replaced] == [["abc"], ["abc", "clip1"], ["clip1", "clip2", "abc"]]
    assert desk.daemon.asked[0] == ("abc", {"steps": 4})


def test_an_imported_clip_is_placed_by_its_name_and_tells_no_seed(desk: Desk) -> None:
    desk.daemon.stored = replace(clip("abc", desk.daemon.wav), recipe=None, label="a heavy door")
    desk.ask("place", "abc")
    _, address, fields = desk.until_answered()
    assert address == "/soundctm/reply/place"
    assert not {"steps", "seed"} & set(fields)
    assert desk.daw.placed[0][:2] == ("DSGNMisc_A Heavy Door_SOUNDCTM_abc.wav", "a heavy door")


def test_a_stored_clip_is_placed(desk: Desk) -> None:
    desk.ask("place", "abc", "at", "playhead")
    events, address, answer = desk.until_answered()
    assert (events, address) == (["placed"], "/soundctm/reply/place")
    assert fields(answer)["position_samples"] == 96_000


def test_status_tells_the_daemon_and_the_session(desk: Desk) -> None:
    desk.ask("status")
    told = fields(desk.until_answered()[2])
    assert (told["daemon"], told["daw_state"], told["session"], told["rate_hz"]) == ("serving", "stopped", "s", 48_000)
    desk.daw.silent = True
    desk.ask("status")
    assert fields(desk.until_answered()[2])["daw_state"] == "silent"


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("generate", [], "the prompt is missing"),
        ("generate", [5], "prompt is 5"),
        ("generate", ["rain", "steps"], "has no partner"),
        ("generate", ["rain", "stepz", 1], "'stepz' is no option"),
        ("generate", ["rain", "steps", 1.5], "steps is 1.5"),
        ("generate", ["rain", "steps", "many"], "steps is 'many'"),
        ("generate", ["rain", "steps", True], "steps is True"),
        ("generate", ["rain", "seconds", "long"], "seconds is 'long'"),
        ("generate", ["rain", "at", -1], "at is -1"),
        ("generate", ["rain", "at", "bar 5"], "at is 'bar 5'"),
        ("generate", ["rain", "track", " "], "track is ' '"),
        ("generate", ["rain", "track", "a\nb"], "track is"),
        ("generate", ["rain", "place", 2], "place is 2"),
        ("generate", ["rain", "seed", 1, "seed", 2], "seed is given twice"),
        ("refine", ["abc", "prompt", "x"], "'prompt' is no option"),
        ("cancel", ["nobody"], "no request 'nobody' is under way"),
        ("status", ["x", 1], "'x' is no option"),
        ("conquer", ["x"], "knows no verb 'conquer'"),
    ],
)
def test_a_wrong_message_is_answered_with_what_is_allowed(
    desk: Desk, verb: str, arguments: list[Any], words: str
) -> None:
    code, message, what_to_do = desk.error_of(verb, *arguments)
    assert code == "BAD_OSC_REQUEST"
    assert words in message
    assert what_to_do


@pytest.mark.parametrize("arguments", [[], [PORT], ["9000", "r1"], [0, "r1"], [70_000, "r1"], [PORT, ""], [PORT, 5]])
def test_a_message_without_a_way_back_is_logged(
    desk: Desk, arguments: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    desk.service.handle("/soundctm/status", arguments)
    assert desk.sent.empty()
    assert "says no place to answer to" in caplog.text


def test_whole_numbers_come_as_int_float_or_text(desk: Desk) -> None:
    for seed in (7, 7.0, "7"):
        desk.ask("generate", "rain", "seed", seed, "place", 0)
        desk.until_answered()
    assert [settings["seed"] for _, settings in desk.daemon.asked] == [7, 7, 7]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequestError("steps is 10000; allowed: 1 to 64"), "INVALID_REQUEST"),
        (DaemonUnreachableError("no daemon answers"), "DAEMON_UNREACHABLE"),
        (GenerationFailedError("not a number"), "GENERATION_FAILED"),
        (RuntimeError("a mistake of ours"), "BRIDGE_ERROR"),
    ],
)
def test_whatever_fails_behind_the_door_is_answered(desk: Desk, error: Exception, code: str) -> None:
    desk.daemon.error = error
    desk.ask("generate", "rain")
    events, address, answer = desk.until_answered()
    assert (events, address, answer[1]) == (["failed"], "/soundctm/error", code)
    assert str(error) in answer[2]


def test_the_daws_refusal_is_answered(desk: Desk) -> None:
    desk.daw.refusal = JobFailedError("it is no audio track", "name another", reason="TRACK_NOT_AUDIO")
    assert desk.error_of("generate", "rain") == ["TRACK_NOT_AUDIO", "it is no audio track", "name another"]


def test_a_running_request_is_cancelled_by_its_id(desk: Desk) -> None:
    desk.daemon.gate = threading.Event()
    desk.ask("generate", "rain", request_id="long")
    assert desk.next() == ("/soundctm/event/queued", ["long", "clip1", 0])
    desk.ask("cancel", "long", request_id="stop")
    answers = {arguments[0]: (address, arguments) for address, arguments in (desk.next() for _ in range(3))}
    assert answers["stop"] == ("/soundctm/reply/cancel", ["stop", "request_id", "long"])
    assert answers["long"][0] == "/soundctm/error"
    assert answers["long"][1][1] == "CANCELLED"
    assert desk.daemon.cancelled == ["clip1"]
    assert desk.daw.placed == []


def test_one_id_names_one_request_at_a_time(desk: Desk) -> None:
    desk.daemon.gate = threading.Event()
    desk.ask("generate", "rain")
    desk.next()
    desk.ask("generate", "rain")
    address, answer = desk.next()
    assert (address, answer[1]) == ("/soundctm/error", "BAD_OSC_REQUEST")
    assert "under way already" in answer[2]
    desk.daemon.gate.set()
    assert desk.until_answered()[1] == "/soundctm/reply/generate"


def test_the_service_says_when_it_is_full(desk: Desk) -> None:
    desk.daemon.gate = threading.Event()
    for number in range(64):
        desk.ask("generate", "rain", "place", 0, request_id=f"n{number}")
    desk.ask("generate", "rain", request_id="one too many")
    assert desk.until_answered("one too many")[2][1] == "BRIDGE_BUSY"
    desk.daemon.gate.set()


def test_nothing_is_left_behind_when_the_daw_refuses(desk: Desk) -> None:
    desk.daw.refusal = JobFailedError("no", "")
    desk.error_of("generate", "rain")
    assert list(desk.folder.iterdir()) == []
