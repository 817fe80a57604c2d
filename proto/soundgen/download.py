"""A clip's bytes -> a file that is whole or not there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType

from soundgen.errors import DataLossError
from soundgen.v1 import clip_service_pb2


class Receiver:
    """Writes beside `destination` and renames once the size and the sha256 agree; a failure leaves nothing behind.

    Raises DataLossError when they do not, OSError when the file cannot be written.
    """

    def __init__(self, clip_id: str, destination: Path) -> None:
        self._clip_id, self._destination = clip_id, destination
        self._partial = destination.with_name(f".{destination.name}.partial")
        self._digest, self._received_bytes = hashlib.sha256(), 0
        self._header: clip_service_pb2.DownloadHeader | None = None

    @property
    def request(self) -> clip_service_pb2.DownloadRequest:
        """For the bytes that have not arrived yet."""
        return clip_service_pb2.DownloadRequest(clip_id=self._clip_id, offset_bytes=self._received_bytes)

    def __enter__(self) -> Receiver:
        self._file = self._partial.open("wb")
        return self

    def take(self, message: clip_service_pb2.DownloadResponse) -> None:
        if message.WhichOneof("part") == "header":
            self._header = message.header
            return
        self._file.write(message.chunk)
        self._digest.update(message.chunk)
        self._received_bytes += len(message.chunk)
        if self._header is None or self._received_bytes > self._header.size_bytes:
            self._require_whole()  # no use in waiting for more

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
            if error is None:
                self._require_whole()
                self._partial.replace(self._destination)
        finally:
            self._partial.unlink(missing_ok=True)

    def _require_whole(self) -> None:
        if self._header is None:
            raise DataLossError("the download ended before its header; nothing was written. Try again.")
        if self._received_bytes != self._header.size_bytes or self._digest.hexdigest() != self._header.sha256:
            raise DataLossError(
                f"{self._received_bytes} bytes arrived with sha256 {self._digest.hexdigest()}; the daemon announced "
                f"{self._header.size_bytes} with {self._header.sha256}. Nothing was written; try again."
            )
