"""What the services share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from soundctm.errors import SoundCTMError
from soundctm_daemon import status

Context = grpc.aio.ServicerContext[Any, Any]
_T = TypeVar("_T")


async def or_abort(context: Context, work: Callable[[], _T]) -> _T:
    """The result of blocking work, done in another thread; an error of ours ends the call."""
    try:
        return await asyncio.to_thread(work)
    except SoundCTMError as error:
        await status.abort(context, error)
