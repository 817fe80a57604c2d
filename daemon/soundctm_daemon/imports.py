"""Sound files from outside become clips: received into a temporary file, checked, decoded, stored."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from soundctm_daemon.clip import ClipOrigin, ClipRecord, StoredClip, new_clip_id
from soundctm_daemon.clip_requests import ImportHeader, import_header_of, invalid
from soundctm_daemon.files import library_error, partial_path
from soundctm_daemon.library import Library
from soundgen.v1 import clip_service_pb2

MOST_CHUNK_BYTES = 256 * 1024


class Importer:
    """`limit_mb` bounds a file's size, and what its sound takes as 32-bit floats."""

    def __init__(self, library: Library, limit_mb: int) -> None:
        self._library, self._limit_mb = library, limit_mb
        self._decoding = asyncio.Lock()  # a decoded sound takes several times its size in memory: one at a time

    async def bring_in(self, requests: AsyncIterator[clip_service_pb2.ImportClipRequest]) -> StoredClip:
        """Raises InvalidRequestError, SoundUnusableError, LibraryError and its kinds. The temporary file goes in any
        case."""
        first = await anext(requests, clip_service_pb2.ImportClipRequest())
        header = import_header_of(first, self._limit_mb)
        clip_id = new_clip_id()
        path = partial_path(self._library.folder / f"import-{clip_id}")
        try:
            await self._receive(requests, header, path)
            async with self._decoding:
                return await asyncio.to_thread(self._store, path, header, clip_id)
        except OSError as error:
            raise library_error(error, self._library.folder) from error
        finally:
            with suppress(OSError):  # then it goes when the library is opened next
                path.unlink(missing_ok=True)

    async def _receive(
        self, requests: AsyncIterator[clip_service_pb2.ImportClipRequest], header: ImportHeader, path: Path
    ) -> None:
        digest, received = hashlib.sha256(), 0
        with path.open("xb") as file:
            async for request in requests:
                chunk = request.chunk
                if request.WhichOneof("part") != "chunk" or len(chunk) > MOST_CHUNK_BYTES:
                    seen = f"{len(chunk)} bytes" if chunk else "a header"
                    raise invalid("chunk", seen, f"after the header, chunks of at most {MOST_CHUNK_BYTES} bytes")
                received += len(chunk)
                if received > header.size_bytes:
                    break
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        if received != header.size_bytes:
            seen = f"{'more than ' if received > header.size_bytes else ''}{min(received, header.size_bytes)} bytes"
            raise invalid("chunk", f"{seen} in all", f"{header.size_bytes} bytes, as header.size_bytes says")
        if header.sha256 and digest.hexdigest() != header.sha256:
            raise invalid("header.sha256", header.sha256, f"that of the bytes received, {digest.hexdigest()}")

    def _store(self, path: Path, header: ImportHeader, clip_id: str) -> StoredClip:
        from soundctm_daemon.sounds import read_sound  # soundfile is loaded with the first import

        sound = read_sound(path, self._limit_mb)
        model, recipe = sound.origin or ("", None)
        means = sound.audio.mean(axis=1, dtype=np.float64)
        record = ClipRecord(
            id=clip_id,
            model=model,
            recipe=recipe,
            parent_id="",
            label=header.label,
            created_at=time.time(),
            render_seconds=0.0,
            sample_rate_hz=sound.sample_rate_hz,
            channels=sound.audio.shape[0],
            samples=sound.audio.shape[1],
            peak=float(np.abs(sound.audio).max()),
            mean=float(means[np.abs(means).argmax()]),
            origin=ClipOrigin.IMPORTED,
            tags=header.tags,
        )
        return self._library.add(record, sound.audio)
