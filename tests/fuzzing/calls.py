"""One call with any bytes as its messages, and what must not come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzzing.messages import METHODS, Known, bodies
from soundctm_daemon.status import DETAILS_KEY, DOMAIN
from soundgen import paths
from soundgen.client import Client

_LONGEST_SECONDS = 300.0  # a call that takes longer hangs
_DEFECTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.UNAVAILABLE}  # fmt: skip
_OURS = "/soundgen."
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0))


class DefectError(AssertionError):
    """A call ended as none may."""


@dataclass(frozen=True)
class Fuzzed:
    """What came of one method. `sent` counts messages; `defect` holds the smallest example found, empty: there is
    none."""

    method: str
    sent: int
    codes: Counter[str] = field(default_factory=Counter)
    defect: str = ""


class Caller:
    """Sends messages as they are, past every stub, and counts them and how their calls ended."""

    def __init__(self) -> None:
        self._channel = grpc.insecure_channel(paths.socket_target(paths.socket_path()), _OPTIONS)
        self._metadata = (("authorization", f"Bearer {paths.read_token()}"),)
        self.sent, self.codes = 0, Counter[str]()

    def close(self) -> None:
        self._channel.close()

    def __call__(self, method: str, messages: Sequence[bytes], leave: bool) -> None:
        """`leave` ends the call early, after its first answer. Raises DefectError."""
        self.sent += len(messages)
        call = self._channel.stream_stream(method)(iter(messages), metadata=self._metadata, timeout=_LONGEST_SECONDS)
        try:
            for _ in call:
                if leave:
                    call.cancel()
        except grpc.RpcError:
            pass
        code = call.code()
        self.codes[code.name] += 1
        if code in _DEFECTS:
            raise DefectError(f"{method} ended with {code.name}: {call.details()}")
        left = leave and code is grpc.StatusCode.CANCELLED
        if code is not grpc.StatusCode.OK and method.startswith(_OURS) and not left and not _reason(call):
            raise DefectError(f"{method} ended with {code.name} and without a reason: {call.details()}")


def known_words() -> Known:
    """Of a daemon that runs: it has two clips then."""
    with Client() as client:
        clips = [client.generate("rain on a roof", seconds=0.5).clip() for _ in range(2)]
        ids, models = [clip.id for clip in clips], client.models()
        recipe = client.export_recipe(ids[0])
        return Known({
            "clip_id": ids,
            "prompt": ["rain", "a dog barks", "heavy thunder on a tin roof"],
            "negative_prompt": ["", "thunder"],
            "name": ["", *(model.name for model in models)],
            "model": [model.name for model in models],
            "licence": [model.licence for model in models],
            "page_token": ["", client.clips(page_size=1).next_page_token],
            "recipe_json": [recipe, recipe.replace("0.5", "1e400"), recipe.replace("rain", "snow")],
            "request_id": ["a", "b-1", "c_2"],
            "sha256": ["", clips[0].sha256],
            "text": ["rain", "thunder"],
            "label": ["roof", "rain"],
            "tags": ["outside", "wet"],
        })  # fmt: skip


def fuzz(method: str, messages: int, number: int, known: Known) -> Fuzzed:
    """At least so many messages, unless a defect is found before; `number` seeds chance."""
    caller = Caller()
    try:
        while caller.sent < messages:
            defect = _tried(method, messages - caller.sent, number + caller.sent, caller, known)
            if defect:
                return Fuzzed(method, caller.sent, caller.codes, defect)
    finally:
        caller.close()
    return Fuzzed(method, caller.sent, caller.codes)


def _tried(method: str, examples: int, number: int, caller: Caller, known: Known) -> str:
    """The defect that was found, with the smallest example; empty where there is none."""

    @seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None, print_blob=False, phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(bodies(METHODS[method], known), st.integers(0, 3).map(lambda chance: chance == 1))
    def attempt(sent: list[bytes], leave: bool) -> None:
        try:
            caller(method, sent, leave)
        except DefectError as error:
            error.add_note(f"sent: {sent!r}{' and left' if leave else ''}")
            raise

    try:
        attempt()
    except Exception as error:
        return "\n".join((f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())[:1]))
    return ""


def _reason(call: Any) -> str:
    """Of the daemon's own ErrorInfo; empty where there is none."""
    trailer, info = dict(call.trailing_metadata() or ()), error_details_pb2.ErrorInfo()
    try:
        for detail in status_pb2.Status.FromString(trailer.get(DETAILS_KEY, b"")).details:
            if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
                return str(info.reason)
    except DecodeError:
        pass
    return ""
