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

    def __init__(self, destination: Path) -> None:
        self._destination = destination
        self._partial = destination.with_name(f".{destination.name}.partial")
        self._digest, self._received_bytes = hashlib.sha256(), 0
        self._header: clip_service_pb2.DownloadHeader | None = None

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        try:
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
