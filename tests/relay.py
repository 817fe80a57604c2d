"""A Unix socket that passes everything on to another one, until a test pulls the plug."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Self


class Relay:
    """Connects whoever comes to `path` with the socket `target`. `drop` breaks every connection there is."""

    def __init__(self, path: Path, target: Path) -> None:
        self.address = f"unix:{path}"
        self._path, self._target = path, target
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._spawn(self._accept)
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.drop()
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def drop(self) -> None:
        with self._lock:
            for end in self._ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _spawn(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="relay")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with self._lock:
                self._ends += [near, far]
            try:
                far.connect(str(self._target))
            except OSError:  # nobody there: the caller is told by a connection that ends at once
                near.shutdown(socket.SHUT_RDWR)
                continue
            self._spawn(self._pass_on, near, far)
            self._spawn(self._pass_on, far, near)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
