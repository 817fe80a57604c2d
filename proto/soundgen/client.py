"""A thin typed client of the daemon, sync (`Client`) and async (`AsyncClient`); `connect` starts the daemon if need be.

    with connect() as client:
        for event in client.generate("heavy rain on a tin roof"):
            print(event)

Every method raises errors of `soundgen.errors` and nothing of gRPC's. Ending an iteration early cancels what it was
making, unless it was asked for with `keep=True`. A connection that breaks is taken up again and the iteration goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Unpack

from soundgen import calls, paths, requests, types, upload
from soundgen.async_client import AsyncClient
from soundgen.connection import GENERATE_TIMEOUT_SECONDS
from soundgen.download import Receiver
from soundgen.patience import RECONNECT_SECONDS
from soundgen.requests import (
    CallSettings,
    ClipChanges,
    ClipFilters,
    GenerateSettings,
    ProgressiveSettings,
    RefineSettings,
    VariationSettings,
)
from soundgen.sync_calls import Events, SyncCalls

__all__ = ["AsyncClient", "Client", "Events", "connect"]


def connect(start: bool = True, reconnect_seconds: float = RECONNECT_SECONDS) -> Client:
    """A client of this machine's daemon, which is started if none runs and `start` is set; or of the one elsewhere that
    the environment names (SOUNDCTM_ADDRESS), which is not.

    Raises DaemonStartError, UnauthenticatedError, TlsError.
    """
    if start and paths.remote_address() is None:
        paths.ensure_daemon()
    return Client(reconnect_seconds=reconnect_seconds)


class Client(SyncCalls):
    """`address` is `unix:/path` or `host:port`; None takes what the environment names, else this machine's Unix socket
    and token file. `tls` and `plain_text` are as in `Connection.resolve`.

    `timeout_seconds` is for calls that make nothing, `reconnect_seconds` is how long a broken connection is waited for.
    """

    def generate(
        self, prompt: str, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS, **settings: Unpack[GenerateSettings]
    ) -> Events[types.Event]:
        """What happens to the clip, `ClipReady` last."""
        return self._of_one(requests.generate(prompt, **settings), timeout_seconds)

    def generate_variations(
        self,
        prompt: str,
        count: int = 4,
        *,
        seeds: Iterable[int] | None = None,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[VariationSettings],
    ) -> Events[types.ClipsEvent]:
        """`count` seeds from `seed` on, or these `seeds`; all are made together, and what happens to each is told.

        Raises what the failed ones failed with when none becomes ready.
        """
        return self._of_several(requests.variations(prompt, count, seeds, **settings), timeout_seconds)

    def refine(
        self, clip_id: str, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS, **settings: Unpack[RefineSettings]
    ) -> Events[types.Event]:
        """The very same clip in more jumps; what happens to it, `ClipReady` last."""
        return self._of_one(requests.refine(clip_id, **settings), timeout_seconds)

    def refine_progressively(
        self,
        clip_id: str,
        *,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[ProgressiveSettings],
    ) -> Events[types.ClipsEvent]:
        """Takes in ever more jumps; end the iteration when one is good enough."""
        return self._of_several(requests.refine_progressively(clip_id, **settings), timeout_seconds)

    def rerender(
        self,
        recipe_json: str,
        *,
        allow_other_weights: bool = False,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[CallSettings],
    ) -> Events[types.Event]:
        """A clip again, from what `export_recipe` gave or a clip's file carries (`soundgen.provenance`).

        Raises PreconditionError (MODEL_CHANGED) where its weights are not installed and others are not allowed.
        """
        return self._of_one(requests.rerender(recipe_json, allow_other_weights, **settings), timeout_seconds)

    def watch(self, clip_id: str, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS) -> Events[types.Event]:
        """What happens to a clip from now on, `ClipReady` last; ending early cancels nothing. Raises NotFoundError."""
        return self._of_one(requests.watch(clip_id), timeout_seconds)

    def cancel(self, clip_id: str) -> None:
        """Stop a clip in flight. Raises NotFoundError when there is none of that id."""
        self._ask(calls.cancel(clip_id))

    def jobs(self, *, include_ended: bool = False) -> tuple[types.Job, ...]:
        """Clips in flight, in the order they will be made; also those that ended within the last hour, if asked."""
        return self._ask(calls.jobs(include_ended))

    def clip(self, clip_id: str) -> types.Clip:
        """Raises NotFoundError."""
        return self._ask(calls.clip(clip_id))

    def clips(self, page_size: int = 0, page_token: str = "", **filters: Unpack[ClipFilters]) -> types.ClipPage:
        """One page, newest first; 0 takes the daemon's size, at most 200."""
        return self._ask(calls.clips(page_size, page_token, **filters))

    def all_clips(self, **filters: Unpack[ClipFilters]) -> Iterator[types.Clip]:
        """Of every page, newest first, fetched as they are asked for."""
        page = self.clips(**filters)
        yield from page.clips
        while page.next_page_token:
            page = self.clips(page_token=page.next_page_token, **filters)
            yield from page.clips

    def update_clip(self, clip_id: str, **changes: Unpack[ClipChanges]) -> types.Clip:
        """The clip as it is then. Raises NotFoundError."""
        return self._ask(calls.update_clip(clip_id, **changes))

    def delete_clip(self, clip_id: str) -> types.Clip:
        """It leaves every list; `undelete_clip` brings it back until it is purged. Raises NotFoundError."""
        return self._ask(calls.delete_clip(clip_id))

    def undelete_clip(self, clip_id: str) -> types.Clip:
        """Raises NotFoundError."""
        return self._ask(calls.undelete_clip(clip_id))

    def search_clips(
        self, text: str | None = None, *, clip_id: str | None = None, limit: int = 0
    ) -> tuple[types.SearchHit, ...]:
        """Nearest in meaning first: to a description, or to a clip's own. 0 takes the daemon's limit."""
        return self._ask(calls.search_clips(text, clip_id, limit))

    def export_recipe(self, clip_id: str) -> str:
        """Everything that makes the clip again, as JSON for `rerender`. Raises NotFoundError, PreconditionError."""
        return self._ask(calls.export_recipe(clip_id))

    def import_clip(
        self,
        path: Path,
        *,
        label: str | None = None,
        tags: Iterable[str] | None = None,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
    ) -> types.Clip:
        """A sound file (WAV, FLAC, AIFF, Ogg, MP3) becomes a clip, named after its file. Raises OSError."""
        return self._ask(calls.import_clip(upload.messages(path, label, tags)), timeout_seconds)

    def download(
        self, clip_id: str, destination: Path, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS
    ) -> Path:
        """The clip's WAV file, whole and verified, at `destination`; one that breaks off goes on where it stopped.

        Raises NotFoundError, DataLossError, OSError.
        """
        receiver = Receiver(clip_id, destination)
        with receiver, closing(self._stream(lambda: receiver.request, timeout_seconds)) as messages:
            for message in messages:
                receiver.take(message)
        return destination

    def models(self) -> tuple[types.Model, ...]:
        return self._ask(calls.models())

    def model(self, name: str = "") -> types.Model:
        """By name; empty is the daemon's default. Raises NotFoundError."""
        return self._ask(calls.model(name))

    def load_model(self, name: str = "", *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS) -> types.Model:
        """Verified, in memory and warm. Raises NotFoundError, PreconditionError."""
        return self._ask(calls.load_model(name), timeout_seconds)

    def unload_model(self, name: str) -> types.Model:
        """Frees its memory. Raises NotFoundError, PreconditionError while clips are being made with it."""
        return self._ask(calls.unload_model(name))

    def reload_model(self, name: str, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS) -> types.Model:
        """Its folder read again. Raises NotFoundError, PreconditionError; then the former weights go on."""
        return self._ask(calls.reload_model(name), timeout_seconds)

    def accept_licence(self, name: str, licence: str) -> types.Model:
        """`licence` as `Model.licence` shows it: what is accepted is what was read."""
        return self._ask(calls.accept_licence(name, licence))

    def serving(self) -> bool:
        """Whether the model is loaded. Raises DaemonUnreachableError."""
        return self._ask(calls.serving())
