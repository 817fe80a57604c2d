"""The stored clips."""

from __future__ import annotations

from collections.abc import AsyncIterator

from soundctm.errors import FieldViolation, InvalidRequestError
from soundctm_daemon import wire
from soundctm_daemon.calls import Context, or_abort
from soundctm_daemon.library import Library
from soundctm_daemon.requests import LONGEST_NAME
from soundgen.v1 import clip_service_pb2, clip_service_pb2_grpc

CHUNK_BYTES = 256 * 1024
_DEFAULT_PAGE, _LARGEST_PAGE = 50, 200


class ClipService(clip_service_pb2_grpc.ClipServiceServicer):
    def __init__(self, library: Library) -> None:
        self._library = library

    async def GetClip(  # noqa: N802
        self, request: clip_service_pb2.GetClipRequest, context: Context
    ) -> clip_service_pb2.GetClipResponse:
        clip = await or_abort(context, lambda: self._library.get(request.clip_id[:LONGEST_NAME]))
        return clip_service_pb2.GetClipResponse(clip=wire.clip_message(clip))

    async def ListClips(  # noqa: N802
        self, request: clip_service_pb2.ListClipsRequest, context: Context
    ) -> clip_service_pb2.ListClipsResponse:
        clips, following = await or_abort(context, lambda: self._library.page(*_page_of(request)))
        return clip_service_pb2.ListClipsResponse(
            clips=[wire.clip_message(clip) for clip in clips],
            next_page_token="" if following is None else str(following),
        )

    async def Download(  # noqa: N802
        self, request: clip_service_pb2.DownloadRequest, context: Context
    ) -> AsyncIterator[clip_service_pb2.DownloadResponse]:
        clip = await or_abort(context, lambda: self._library.get(request.clip_id[:LONGEST_NAME]))
        data = await or_abort(context, lambda: self._library.read(clip))
        header = clip_service_pb2.DownloadHeader(size_bytes=len(data), sha256=clip.sha256)
        yield clip_service_pb2.DownloadResponse(header=header)
        for start in range(0, len(data), CHUNK_BYTES):
            yield clip_service_pb2.DownloadResponse(chunk=data[start : start + CHUNK_BYTES])


def _page_of(request: clip_service_pb2.ListClipsRequest) -> tuple[int, int | None]:
    """Page size and sequence number to stay below. Raises InvalidRequestError."""
    if request.page_size > _LARGEST_PAGE:
        violation = FieldViolation("page_size", str(request.page_size), f"0 (takes {_DEFAULT_PAGE}) to {_LARGEST_PAGE}")
        raise InvalidRequestError([violation])
    token = request.page_token
    if token and not (token.isascii() and token.isdigit() and len(token) < 19):
        violation = FieldViolation("page_token", repr(token[:40]), "empty, or the next_page_token of the page before")
        raise InvalidRequestError([violation])
    return request.page_size or _DEFAULT_PAGE, int(token) if token else None
