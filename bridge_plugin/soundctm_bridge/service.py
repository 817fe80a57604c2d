"""OSC requests -> the daemon -> a prepared clip -> the DAW. Only `handle` runs on the OSC thread."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from soundctm_bridge.adapters.base import DawAdapter, PlacedRegion
from soundctm_bridge.answers import Answer, Send, Value, clip_fields
from soundctm_bridge.errors import AdapterError, BridgeError, BusyError, OscRequestError, PreparationError
from soundctm_bridge.prepare import display_name, file_stem, prepare_clip
from soundctm_bridge.requests import (
    CancelRequest,
    GenerateRequest,
    PlaceRequest,
    RefineRequest,
    ReplyTo,
    Request,
    StatusRequest,
    parse_reply_to,
    parse_request,
)
from soundctm_bridge.takes import Takes
from soundgen import client as soundgen_client
from soundgen.client import Client
from soundgen.errors import ClipCancelledError, SoundgenError
from soundgen.types import Clip, ClipReady, Event, Queued

log = logging.getLogger(__name__)

_PREFIX = "/soundctm/"
_WORKERS = 16
_MOST_UNDER_WAY = 64


@dataclass
class _UnderWay:
    """A request being worked on. clip_id is known once the daemon has queued it."""

    clip_id: str = ""
    cancelled: bool = False


class Service:
    """Does what OSC messages ask for.

    adapter : the DAW. send : how an answer leaves. prepared_folder : where files wait until the DAW has them.
    connect : gives a client of the daemon; connect(False) must not start one.
    """

    def __init__(
        self,
        adapter: DawAdapter,
        send: Send,
        prepared_folder: Path,
        connect: Callable[[bool], Client] = soundgen_client.connect,
    ) -> None:
        self._adapter, self._send, self._folder, self._connect = adapter, send, prepared_folder, connect
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="bridge")
        self._daw = threading.Lock()  # a DAW does one job at a time
        self._lock = threading.Lock()  # guards the two below
        self._under_way: dict[ReplyTo, _UnderWay] = {}
        self._takes = Takes()

    def close(self) -> None:
        """Cancels what is under way and waits for it."""
        with self._lock:
            running = list(self._under_way.values())
        for under_way in running:
            under_way.cancelled = True
        self._workers.shutdown(wait=True, cancel_futures=True)

    def handle(self, address: str, arguments: Sequence[Any]) -> None:
        """One OSC message. Quick: it only checks the message's shape and hands it on."""
        verb = address.removeprefix(_PREFIX)
        try:
            reply_to = parse_reply_to(verb, arguments)
        except OscRequestError as error:
            log.warning("ignored %s, which says no place to answer to: %s", address, error)
            return
        answer = Answer(self._send, reply_to)
        try:
            if not address.startswith(_PREFIX):
                raise OscRequestError(f"the bridge knows no address {address}", "its addresses begin with /soundctm/")
            request = parse_request(verb, reply_to, arguments[2:])
            under_way = self._enter(reply_to)
        except BridgeError as error:
            answer.error(error)
            return
        self._workers.submit(self._run, request, answer, under_way)

    def _enter(self, reply_to: ReplyTo) -> _UnderWay:
        with self._lock:
            if reply_to in self._under_way:
                raise OscRequestError(f"{reply_to.request_id!r} is under way already", "give every request its own id")
            if len(self._under_way) >= _MOST_UNDER_WAY:
                raise BusyError(f"{_MOST_UNDER_WAY} requests are under way, which is the most", "wait for one to end")
            under_way = self._under_way[reply_to] = _UnderWay()
            return under_way

    def _run(self, request: Request, answer: Answer, under_way: _UnderWay) -> None:
        """One request from end to end, on a worker's thread; whatever goes wrong is answered."""
        try:
            self._do(request, answer, under_way)
        except SoundgenError as error:
            log.info("request %s failed: %s", request.reply_to.request_id, error)
            answer.event("failed", error.reason)
            answer.error(error)
        except Exception as error:
            log.exception("request %s failed in a way nobody foresaw", request.reply_to.request_id)
            answer.event("failed", BridgeError.reason)
            answer.error(BridgeError(f"the bridge failed: {error!r}", "its log says where; please report it"))
        finally:
            with self._lock:
                del self._under_way[request.reply_to]

    def _do(self, request: Request, answer: Answer, under_way: _UnderWay) -> None:
        match request:
            case GenerateRequest():
                self._generate(request, answer, under_way)
            case RefineRequest():
                self._refine(request, answer, under_way)
            case PlaceRequest():
                self._place(request, answer)
            case CancelRequest():
                self._cancel(request, answer)
            case StatusRequest():
                fields = {"bridge": version("soundctm-daw"), **self._daemon_status(), **self._daw_status()}
                answer.reply("status", fields)

    def _generate(self, request: GenerateRequest, answer: Answer, under_way: _UnderWay) -> None:
        if request.placement is not None:
            self._adapter.state()  # a closed DAW is told before the work, not after it
        with self._connect(True) as client:
            clip = self._follow(client.generate(request.prompt, **request.settings), answer, under_way)
            fields = clip_fields(clip)
            if request.placement is not None:
                placement = request.placement
                name = display_name(clip.title)
                regions = self._deliver(client, clip, lambda audio: [self._adapter.place(audio, name, placement)])
                fields |= _announce(answer, clip, regions)
        answer.reply("generate", fields)

    def _refine(self, request: RefineRequest, answer: Answer, under_way: _UnderWay) -> None:
        if request.replace:
            self._adapter.state()
        with self._connect(True) as client:
            clip = self._follow(client.refine(request.clip_id, **request.settings), answer, under_way)
            with self._lock:
                on_timeline = self._takes.of(request.clip_id)
                self._takes.add(request.clip_id, clip.id)
            fields = clip_fields(clip)
            if request.replace:
                regions = self._deliver(client, clip, lambda audio: self._adapter.replace(on_timeline, audio))
                fields |= _announce(answer, clip, regions)
        answer.reply("refine", fields)

    def _place(self, request: PlaceRequest, answer: Answer) -> None:
        with self._connect(True) as client:
            clip = client.clip(request.clip_id)
            name = display_name(clip.title)
            regions = self._deliver(client, clip, lambda audio: [self._adapter.place(audio, name, request.placement)])
        answer.reply("place", clip_fields(clip) | _announce(answer, clip, regions))

    def _cancel(self, request: CancelRequest, answer: Answer) -> None:
        target = ReplyTo(request.reply_to.port, request.target_id)
        with self._lock:
            under_way = self._under_way.get(target)
        if under_way is None or target == request.reply_to:
            raise OscRequestError(f"no request {request.target_id!r} is under way", "it may have ended already")
        under_way.cancelled = True
        if under_way.clip_id:
            with self._connect(False) as client:
                client.cancel(under_way.clip_id)
        answer.reply("cancel", {"request_id": request.target_id})

    def _follow(self, events: Iterator[Event], answer: Answer, under_way: _UnderWay) -> Clip:
        """Passes the daemon's events on; returns the clip they end with."""
        clip: Clip | None = None
        for event in events:
            if isinstance(event, Queued):
                under_way.clip_id = event.clip_id
            if under_way.cancelled and not isinstance(event, ClipReady):
                raise ClipCancelledError("the request was cancelled")
            answer.progress(event)
            if isinstance(event, ClipReady):
                clip = event.clip
        if clip is None:
            raise BridgeError("the daemon ended without a clip", "see its log and try again")
        return clip

    def _deliver(self, client: Client, clip: Clip, job: Callable[[Path], list[PlacedRegion]]) -> list[PlacedRegion]:
        """Fetches and prepares a clip at the session's rate and has the DAW take it."""
        stem = file_stem(clip.title, clip.id)
        fetched = self._folder / f"{clip.id}.fetched.wav"
        with self._daw:
            rate_hz = self._adapter.state().rate_hz
            try:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                client.download(clip.id, fetched)
            except OSError as error:
                message = f"the clip cannot be stored in {self._folder}: {error}"
                raise PreparationError(message, "look at the free space and the permissions there") from error
            try:
                prepared = prepare_clip(fetched, self._folder, stem, rate_hz)
            finally:
                fetched.unlink()
            if prepared.gain_db < 0:
                log.warning("clip %s was turned down by %.1f dB to fit 24 bits", clip.id, -prepared.gain_db)
            try:
                return job(prepared.path)
            finally:
                if self._adapter.copies_audio:
                    prepared.path.unlink()

    def _daemon_status(self) -> dict[str, Value]:
        try:
            with self._connect(False) as client:
                return {"daemon": "serving" if client.serving() else "loading"}
        except SoundgenError as error:
            return {"daemon": "silent", "daemon_problem": str(error)}

    def _daw_status(self) -> dict[str, Value]:
        try:
            state = self._adapter.state()
        except AdapterError as error:
            return {"daw": self._adapter.name, "daw_state": "silent", "daw_problem": str(error)}
        return {
            "daw": self._adapter.name,
            "daw_state": "rolling" if state.rolling else "stopped",
            "session": state.session,
            "rate_hz": state.rate_hz,
            "position_samples": state.position_samples,
            "tempo_bpm": state.tempo_bpm,
            "meter": state.meter,
            "bar_beat_tick": state.bar_beat_tick,
        }


def _announce(answer: Answer, clip: Clip, regions: Sequence[PlacedRegion]) -> dict[str, Value]:
    for region in regions:
        answer.placed(clip.id, region)
    first = regions[0]
    return {
        "regions": len(regions),
        "track": first.track,
        "region": first.name,
        "position_samples": first.position_samples,
        "length_samples": first.length_samples,
    }
