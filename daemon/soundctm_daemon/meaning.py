"""Clips by meaning: the nearest by their descriptions' embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundctm.bundle import Bundle
from soundctm_daemon.clip import StoredClip, description
from soundctm_daemon.engines import EnginePool
from soundctm_daemon.library import Library
from soundctm_daemon.worker import Worker

_TOGETHER = 8  # texts in one turn on the engine's thread: a clip being made waits for no more of them


@dataclass(frozen=True)
class Embedded:
    """Unit vectors float32 [N, D], and the digest of the bundle that made them: only those of one may be compared."""

    vectors: NDArray[np.float32]
    made_by: str


Embed = Callable[[Sequence[str]], Awaitable[Embedded]]


async def search(library: Library, embed: Embed, text: str, limit: int) -> list[tuple[StoredClip, float]]:
    """Clips with their cosines, nearest first. Clips that this text model has not embedded yet are embedded now, and
    stay so. Raises LibraryError, and what `embed` does."""
    return await _nearest(library, embed, text, limit, besides="")


async def search_like(library: Library, embed: Embed, clip_id: str, limit: int) -> list[tuple[StoredClip, float]]:
    """Clips described like this one, without it. Raises ClipNotFoundError, LibraryError, and what `embed` does."""
    clip = await asyncio.to_thread(library.get, clip_id)
    return await _nearest(library, embed, description(clip.record), limit, besides=clip_id)


def engine_embed(find: Callable[[], Bundle], pool: EnginePool, worker: Worker) -> Embed:
    """With the engine of the bundle that `find` gives at that moment; it reads small files."""
    # on the loop's own threads, searches that wait for a model to be loaded would leave none to anybody else
    loading = ThreadPoolExecutor(1, "searching")

    async def embed(prompts: Sequence[str]) -> Embedded:
        bundle = await asyncio.to_thread(find)
        pool.pin(bundle.digest)
        try:
            engine = await asyncio.get_running_loop().run_in_executor(loading, pool.get, bundle)
            vectors = await asyncio.wrap_future(worker.call(lambda: engine.embed(prompts)))
        finally:
            pool.unpin(bundle.digest)
        return Embedded(vectors, bundle.digest)

    return embed


async def _nearest(
    library: Library, embed: Embed, text: str, limit: int, besides: str
) -> list[tuple[StoredClip, float]]:
    query = await embed([text])
    texts = await asyncio.to_thread(library.not_embedded, query.made_by, query.vectors.shape[1])
    for start in range(0, len(texts), _TOGETHER):
        some = texts[start : start + _TOGETHER]
        made = await embed([description for _, description in some])
        if made.made_by != query.made_by:  # the model was changed meanwhile
            return await _nearest(library, embed, text, limit, besides)
        await asyncio.to_thread(library.keep_embeddings, some, made.vectors, made.made_by)
    return await asyncio.to_thread(library.nearest, query.vectors[0], query.made_by, limit, besides)
