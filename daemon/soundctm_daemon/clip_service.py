"""The stored clips."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from soundctm_daemon import status, wire
from soundctm_daemon.calls import Context, answered, or_abort
from soundctm_daemon.clip import StoredClip
from soundctm_daemon.clip_requests import LONGEST_ID, edit_of, hits_of, page_of
from soundctm_daemon.errors import NoRecipeError, OffsetError
from soundctm_daemon.imports import Importer
from soundctm_daemon.library import Library
from soundctm_daemon.meaning import Embed, search, search_like
from soundctm_daemon.recipes import encode_recipe
from soundgen.v1 import clip_service_pb2, clip_service_pb2_grpc

CHUNK_BYTES = 256 * 1024


class ClipService(clip_service_pb2_grpc.ClipServiceServicer):
    """`embed` embeds descriptions with the default model; `import_limit_mb` bounds a file from outside."""

    def __init__(self, library: Library, embed: Embed, import_limit_mb: int) -> None:
        self._library, self._embed = library, embed
        self._importer = Importer(library, import_limit_mb)

    async def GetClip(  # noqa: N802
        self, request: clip_service_pb2.GetClipRequest, context: Context
    ) -> clip_service_pb2.GetClipResponse:
        clip = await self._clip(request.clip_id, context)
        return clip_service_pb2.GetClipResponse(clip=wire.clip_message(clip))

    async def ListClips(  # noqa: N802
        self, request: clip_service_pb2.ListClipsRequest, context: Context
    ) -> clip_service_pb2.ListClipsResponse:
        page = await or_abort(context, lambda: page_of(request))
        clips, following = await or_abort(context, lambda: self._library.page(page.size, page.before, page.which))
        return clip_service_pb2.ListClipsResponse(
            clips=[wire.clip_message(clip) for clip in clips], next_page_token=page.token(following)
        )

    async def Download(  # noqa: N802
        self, request: clip_service_pb2.DownloadRequest, context: Context
    ) -> AsyncIterator[clip_service_pb2.DownloadResponse]:
        clip = await self._clip(request.clip_id, context)
        if request.offset_bytes > clip.size_bytes:
            await status.abort(
                context,
                OffsetError(
                    f"offset_bytes is {request.offset_bytes}; allowed: 0 to {clip.size_bytes}, the file's size. Begin "
                    "again from 0 if what you have is not this clip's."
                ),
            )
        with await or_abort(context, lambda: self._library.open(clip)) as stream:
            header = clip_service_pb2.DownloadHeader(size_bytes=clip.size_bytes, sha256=clip.sha256)
            yield clip_service_pb2.DownloadResponse(header=header)
            stream.seek(request.offset_bytes, os.SEEK_SET)
            while chunk := await asyncio.to_thread(stream.read, CHUNK_BYTES):
                yield clip_service_pb2.DownloadResponse(chunk=chunk)

    async def UpdateClip(  # noqa: N802
        self, request: clip_service_pb2.UpdateClipRequest, context: Context
    ) -> clip_service_pb2.UpdateClipResponse:
        clip = await or_abort(context, lambda: self._library.edit(request.clip_id[:LONGEST_ID], edit_of(request)))
        return clip_service_pb2.UpdateClipResponse(clip=wire.clip_message(clip))

    async def DeleteClip(  # noqa: N802
        self, request: clip_service_pb2.DeleteClipRequest, context: Context
    ) -> clip_service_pb2.DeleteClipResponse:
        clip = await or_abort(context, lambda: self._library.delete(request.clip_id[:LONGEST_ID]))
        return clip_service_pb2.DeleteClipResponse(clip=wire.clip_message(clip))

    async def UndeleteClip(  # noqa: N802
        self, request: clip_service_pb2.UndeleteClipRequest, context: Context
    ) -> clip_service_pb2.UndeleteClipResponse:
        clip = await or_abort(context, lambda: self._library.undelete(request.clip_id[:LONGEST_ID]))
        return clip_service_pb2.UndeleteClipResponse(clip=wire.clip_message(clip))

    async def ImportClip(  # noqa: N802
        self, request_iterator: AsyncIterator[clip_service_pb2.ImportClipRequest], context: Context
    ) -> clip_service_pb2.ImportClipResponse:
        clip = await answered(context, self._importer.bring_in(request_iterator))
        return clip_service_pb2.ImportClipResponse(clip=wire.clip_message(clip))

    async def SearchClips(  # noqa: N802
        self, request: clip_service_pb2.SearchClipsRequest, context: Context
    ) -> clip_service_pb2.SearchClipsResponse:
        limit = await or_abort(context, lambda: hits_of(request))
        if request.WhichOneof("like") == "text":
            found = search(self._library, self._embed, request.text, limit)
        else:
            found = search_like(self._library, self._embed, request.clip_id[:LONGEST_ID], limit)
        hits = [
            clip_service_pb2.SearchHit(clip=wire.clip_message(clip), similarity=similarity)
            for clip, similarity in await answered(context, found)
        ]
        return clip_service_pb2.SearchClipsResponse(hits=hits)

    async def ExportRecipe(  # noqa: N802
        self, request: clip_service_pb2.ExportRecipeRequest, context: Context
    ) -> clip_service_pb2.ExportRecipeResponse:
        record = (await self._clip(request.clip_id, context)).record
        if record.recipe is None:
            await status.abort(
                context,
                NoRecipeError(
                    f"clip {record.id} was imported and its file carries no recipe, so that nothing says how to make "
                    "it again. Only clips that a model made have one."
                ),
            )
        return clip_service_pb2.ExportRecipeResponse(recipe_json=encode_recipe(record.model, record.recipe))

    async def _clip(self, clip_id: str, context: Context) -> StoredClip:
        return await or_abort(context, lambda: self._library.get(clip_id[:LONGEST_ID]))
