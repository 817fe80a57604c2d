"""What goes back to a client: events while a request is under way, then exactly one reply or one error."""

from collections.abc import Callable, Mapping, Sequence

from soundctm_bridge.adapters.base import PlacedRegion
from soundctm_bridge.errors import BridgeError
from soundctm_bridge.requests import ReplyTo
from soundgen.errors import SoundgenError
from soundgen.types import AudioFinding, Clip, ClipReady, Event, JumpDone, Queued, Started

Value = str | int | float
Send = Callable[[int, str, Sequence[Value]], None]  # port, address, arguments

_LONGEST_TEXT = 2000  # characters; an answer has to fit into one datagram


class Answer:
    """The way back to the client of one request."""

    def __init__(self, send: Send, reply_to: ReplyTo) -> None:
        self._send, self._to = send, reply_to

    def event(self, name: str, *values: Value) -> None:
        """/soundctm/event/<name> request_id values..."""
        self._message(f"/soundctm/event/{name}", *values)

    def reply(self, verb: str, fields: Mapping[str, Value]) -> None:
        """/soundctm/reply/<verb> request_id key value ...: the request is done."""
        self._message(f"/soundctm/reply/{verb}", *(item for pair in fields.items() for item in pair))

    def error(self, error: SoundgenError) -> None:
        """/soundctm/error request_id code message what_to_do: the request cannot be done."""
        message = error.message if isinstance(error, BridgeError) else str(error)
        what_to_do = error.what_to_do if isinstance(error, BridgeError) else ""
        self._message("/soundctm/error", error.reason, message[:_LONGEST_TEXT], what_to_do[:_LONGEST_TEXT])

    def progress(self, event: Event) -> None:
        """One of the daemon's events, as it comes."""
        match event:
            case Queued():
                self.event("queued", event.clip_id, event.position)
            case Started():
                self.event("started", event.clip_id)
            case JumpDone():
                self.event("jump", event.clip_id, event.done, event.total)
            case ClipReady():
                self.event("clip", event.clip_id, str(event.clip.path), event.clip.seconds)

    def placed(self, clip_id: str, region: PlacedRegion) -> None:
        """A region that now lies on the timeline; position and length in samples of the session."""
        values = (region.track, region.name, region.position_samples, region.length_samples)
        self.event("placed", clip_id, *values)

    def _message(self, address: str, *values: Value) -> None:
        self._send(self._to.port, address, [self._to.request_id, *values])


def clip_fields(clip: Clip) -> dict[str, Value]:
    """What a reply says about a clip: `steps` and `seed` unless it was imported without them, `findings`,
    comma-separated, where there are any."""
    fields: dict[str, Value] = {
        "clip_id": clip.id,
        "path": str(clip.path),
        "seconds": clip.seconds,
    }
    if clip.recipe is not None:
        fields |= {"steps": clip.recipe.steps, "seed": clip.recipe.seed}
    if clip.findings:
        fields["findings"] = ",".join(clip.findings)
    if AudioFinding.UNFAMILIAR_PROMPT in clip.findings and clip.familiarity is not None:
        fields |= {"nearest": clip.familiarity.nearest, "similarity": clip.familiarity.similarity}
    return fields
