"""What the OSC messages mean: arguments -> typed requests.

    /soundctm/<verb>  reply_port:int  request_id:string  [subject:string]  [key value]...

generate's subject is the prompt, refine's and place's a clip id, cancel's a request id; status has none.
Ranges are the daemon's to judge; here only shapes are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from soundctm_bridge.adapters.base import Placement
from soundctm_bridge.errors import OscRequestError
from soundgen.requests import GenerateSettings, RefineSettings

DEFAULT_TRACK = "SoundCTM"
TRACK_COLOUR = 0x4C8DAEFF
_LONGEST_ID = 64
_LONGEST_TRACK = 120


@dataclass(frozen=True)
class ReplyTo:
    """Where the answer goes: a UDP port on this machine, and the id the client knows its request by."""

    port: int
    request_id: str


@dataclass(frozen=True)
class GenerateRequest:
    """placement : None = only make the clip."""

    reply_to: ReplyTo
    prompt: str
    settings: GenerateSettings
    placement: Placement | None


@dataclass(frozen=True)
class RefineRequest:
    """replace : whether the take replaces the clip's regions on the timeline."""

    reply_to: ReplyTo
    clip_id: str
    settings: RefineSettings
    replace: bool


@dataclass(frozen=True)
class PlaceRequest:
    reply_to: ReplyTo
    clip_id: str
    placement: Placement


@dataclass(frozen=True)
class CancelRequest:
    reply_to: ReplyTo
    target_id: str


@dataclass(frozen=True)
class StatusRequest:
    reply_to: ReplyTo


Request = GenerateRequest | RefineRequest | PlaceRequest | CancelRequest | StatusRequest


def parse_reply_to(verb: str, arguments: Sequence[Any]) -> ReplyTo:
    """The first two arguments. Raises OscRequestError; there is nobody to send that to, so it is logged."""
    grammar = f"/soundctm/{verb} reply_port:int request_id:string ..."
    if len(arguments) < 2:
        raise OscRequestError(f"{len(arguments)} arguments where at least 2 are needed", f"the form is {grammar}")
    port, request_id = arguments[0], arguments[1]
    if not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
        raise OscRequestError(f"reply_port is {port!r}; allowed: an int from 1 to 65535", f"the form is {grammar}")
    if not isinstance(request_id, str) or not 1 <= len(request_id) <= _LONGEST_ID or not request_id.isprintable():
        allowed = f"a printable string of 1 to {_LONGEST_ID} characters"
        raise OscRequestError(f"request_id is {request_id!r}; allowed: {allowed}", f"the form is {grammar}")
    return ReplyTo(port, request_id)


def parse_request(verb: str, reply_to: ReplyTo, arguments: Sequence[Any]) -> Request:
    """The arguments after the first two, as the verb's request. Raises OscRequestError naming the argument."""
    if verb == "status":
        _read_options(arguments, {})
        return StatusRequest(reply_to)
    subject, rest = _subject(verb, arguments)
    if verb == "cancel":
        _read_options(rest, {})
        return CancelRequest(reply_to, subject)
    if verb == "place":
        return PlaceRequest(reply_to, subject, _placement(_read_options(rest, _PLACEMENT)))
    if verb == "refine":
        options = _read_options(rest, {"steps": _whole, "gamma": _number, "replace": _switch})
        replace = options.pop("replace", True)
        return RefineRequest(reply_to, subject, cast(RefineSettings, options), replace)
    if verb == "generate":
        return _generate(reply_to, subject, rest)
    raise OscRequestError(f"the bridge knows no verb {verb!r}", f"verbs are {', '.join(VERBS)}")


VERBS = ("generate", "refine", "place", "cancel", "status")
_SUBJECTS = {"generate": "prompt", "refine": "clip_id", "place": "clip_id", "cancel": "request_id"}


def _generate(reply_to: ReplyTo, prompt: str, rest: Sequence[Any]) -> GenerateRequest:
    options = _read_options(rest, {**_GENERATION, **_PLACEMENT, "place": _switch})
    placed = options.pop("place", True)
    settings = {key: value for key, value in options.items() if key in _GENERATION}
    return GenerateRequest(reply_to, prompt, cast(GenerateSettings, settings), _placement(options) if placed else None)


def _placement(options: Mapping[str, Any]) -> Placement:
    return Placement(options.get("track", DEFAULT_TRACK), options.get("at"), TRACK_COLOUR)


def _subject(verb: str, arguments: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    name = _SUBJECTS.get(verb, "subject")
    if not arguments:
        raise OscRequestError(f"the {name} is missing", f"send it as the third argument of /soundctm/{verb}, a string")
    return _text(name, arguments[0]), arguments[1:]


def _read_options(arguments: Sequence[Any], known: Mapping[str, Callable[[str, Any], Any]]) -> dict[str, Any]:
    if len(arguments) % 2:
        raise OscRequestError(f"{arguments[-1]!r} has no partner", "options come in pairs: a key, then its value")
    options: dict[str, Any] = {}
    for key, value in zip(arguments[::2], arguments[1::2], strict=True):
        if not isinstance(key, str) or key not in known:
            allowed = f"allowed are {', '.join(known)}" if known else "this verb has none"
            raise OscRequestError(f"{key!r} is no option here", allowed)
        if key in options:
            raise OscRequestError(f"{key} is given twice", "give it once")
        options[key] = known[key](key, value)
    return options


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise OscRequestError(f"{name} is {value!r}", "allowed is a string (OSC type s)")
    return value


def _number(name: str, value: Any) -> float:
    """Also a string: OSC's float has 32 bits, and some senders know no other number."""
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass  # falls through to the one message below
    raise OscRequestError(f"{name} is {value!r}", "allowed is a number (OSC type f, i or h, or a string)")


def _whole(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)  # Pure Data and Max send every number as a float
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            pass  # falls through to the one message below
    raise OscRequestError(f"{name} is {value!r}", "allowed is a whole number (OSC type i or h, or a string)")


def _switch(name: str, value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise OscRequestError(f"{name} is {value!r}", "allowed are 0 and 1")


def _at(name: str, value: Any) -> int | None:
    if value == "playhead":
        return None
    samples = _whole(name, value)
    if samples < 0:
        raise OscRequestError(f"{name} is {samples}", 'allowed is "playhead" or a position in samples, 0 or later')
    return samples


def _track(name: str, value: Any) -> str:
    text = _text(name, value)
    if not text.strip() or len(text) > _LONGEST_TRACK or not text.isprintable():
        raise OscRequestError(f"{name} is {text!r}", f"allowed are 1 to {_LONGEST_TRACK} printable characters")
    return text


_PLACEMENT: dict[str, Callable[[str, Any], Any]] = {"track": _track, "at": _at}
_GENERATION: dict[str, Callable[[str, Any], Any]] = {
    "seconds": _number,
    "steps": _whole,
    "seed": _whole,
    "omega": _number,
    "nu": _number,
    "gamma": _number,
    "negative_prompt": _text,
    "model": _text,
}
