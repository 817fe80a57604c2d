"""The client for asyncio; see `soundgen.client`, which hands it out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Unpack

from soundgen import calls, requests, types, upload
from soundgen.async_calls import AsyncCalls, AsyncEvents
from soundgen.connection import GENERATE_TIMEOUT_SECONDS
from soundgen.download import Receiver
from soundgen.requests import (
    CallSettings,
    ClipChanges,
    ClipFilters,
    GenerateSettings,
    ProgressiveSettings,
    RefineSettings,
    VariationSettings,
)


class AsyncClient(AsyncCalls):
    """As `soundgen.client.Client`, for asyncio; make it where its event loop runs. Its methods are documented there."""

    def generate(
        self, prompt: str, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS, **settings: Unpack[GenerateSettings]
    ) -> AsyncEvents[types.Event]:
        return self._of_one(requests.generate(prompt, **settings), timeout_seconds)

    def generate_variations(
        self,
        prompt: str,
        count: int = 4,
        *,
        seeds: Iterable[int] | None = None,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[VariationSettings],
    ) -> AsyncEvents[types.ClipsEvent]:
        return self._of_several(requests.variations(prompt, count, seeds, **settings), timeout_seconds)

    def refine(
        self, clip_id: str, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS, **settings: Unpack[RefineSettings]
    ) -> AsyncEvents[types.Event]:
        return self._of_one(requests.refine(clip_id, **settings), timeout_seconds)

    def refine_progressively(
        self,
        clip_id: str,
        *,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[ProgressiveSettings],
    ) -> AsyncEvents[types.ClipsEvent]:
        return self._of_several(requests.refine_progressively(clip_id, **settings), timeout_seconds)

    def rerender(
        self,
        recipe_json: str,
        *,
        allow_other_weights: bool = False,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
        **settings: Unpack[CallSettings],
    ) -> AsyncEvents[types.Event]:
        return self._of_one(requests.rerender(recipe_json, allow_other_weights, **settings), timeout_seconds)

    def watch(self, clip_id: str, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS) -> AsyncEvents[types.Event]:
        return self._of_one(requests.watch(clip_id), timeout_seconds)

    async def cancel(self, clip_id: str) -> None:
        await self._ask(calls.cancel(clip_id))

    async def jobs(self, *, include_ended: bool = False) -> tuple[types.Job, ...]:
        return await self._ask(calls.jobs(include_ended))

    async def clip(self, clip_id: str) -> types.Clip:
        return await self._ask(calls.clip(clip_id))

    async def clips(self, page_size: int = 0, page_token: str = "", **filters: Unpack[ClipFilters]) -> types.ClipPage:
        return await self._ask(calls.clips(page_size, page_token, **filters))

    async def all_clips(self, **filters: Unpack[ClipFilters]) -> AsyncIterator[types.Clip]:
        token = ""
        while True:
            page = await self.clips(page_token=token, **filters)
            for clip in page.clips:
                yield clip
            token = page.next_page_token
            if not token:
                return

    async def update_clip(self, clip_id: str, **changes: Unpack[ClipChanges]) -> types.Clip:
        return await self._ask(calls.update_clip(clip_id, **changes))

    async def delete_clip(self, clip_id: str) -> types.Clip:
        return await self._ask(calls.delete_clip(clip_id))

    async def undelete_clip(self, clip_id: str) -> types.Clip:
        return await self._ask(calls.undelete_clip(clip_id))

    async def search_clips(
        self, text: str | None = None, *, clip_id: str | None = None, limit: int = 0
    ) -> tuple[types.SearchHit, ...]:
        return await self._ask(calls.search_clips(text, clip_id, limit))

    async def export_recipe(self, clip_id: str) -> str:
        return await self._ask(calls.export_recipe(clip_id))

    async def import_clip(
        self,
        path: Path,
        *,
        label: str | None = None,
        tags: Iterable[str] | None = None,
        timeout_seconds: float = GENERATE_TIMEOUT_SECONDS,
    ) -> types.Clip:
        messages = await asyncio.to_thread(upload.messages, path, label, tags)
        return await self._ask(calls.import_clip(messages), timeout_seconds)

    async def download(
        self, clip_id: str, destination: Path, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS
    ) -> Path:
        """Writes from another thread: a slow disk does not stop the loop."""
        with Receiver(clip_id, destination) as receiver:
            async with aclosing(self._stream(lambda: receiver.request, timeout_seconds)) as messages:
                async for message in messages:
                    await asyncio.to_thread(receiver.take, message)
        return destination

    async def models(self) -> tuple[types.Model, ...]:
        return await self._ask(calls.models())

    async def model(self, name: str = "") -> types.Model:
        return await self._ask(calls.model(name))

    async def load_model(self, name: str = "", *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS) -> types.Model:
        return await self._ask(calls.load_model(name), timeout_seconds)

    async def unload_model(self, name: str) -> types.Model:
        return await self._ask(calls.unload_model(name))

    async def reload_model(self, name: str, *, timeout_seconds: float = GENERATE_TIMEOUT_SECONDS) -> types.Model:
        return await self._ask(calls.reload_model(name), timeout_seconds)

    async def accept_licence(self, name: str, licence: str) -> types.Model:
        return await self._ask(calls.accept_licence(name, licence))

    async def serving(self) -> bool:
        return await self._ask(calls.serving())
