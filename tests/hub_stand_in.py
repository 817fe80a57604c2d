"""A hub of published files that runs on this machine: whole, broken off, altered or refused, as a test asks for it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE_SECONDS = 180.0
COMMIT = "c" * 40
STUDENT, VAE, Z_STATS = "checkpoints/ema.pt", "vae/weights.pth", "checkpoints/z_stats.pth"


@dataclass
class Published:
    """What the stand-in holds and how it behaves. `cut` maps a path to byte counts after which its next answers end."""

    files: dict[str, dict[str, bytes]]
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    altered: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    files_at: str = ""  # another host, as big files of a hub lie elsewhere
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    held_at: int | None = None
    holding: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def record(self, repository: str) -> dict[str, Any]:
        siblings = []
        for path, data in self.files[repository].items():
            file: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": _git_sha1(data)}
            if not path.endswith((".json", "LICENSE")):
                file["lfs"] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}
            siblings.append(file)
        return {"sha": COMMIT, "siblings": siblings, "tags": ["audio"], **self.cards.get(repository, {})}

    def ranges_asked(self, path: str) -> list[str | None]:
        return [asked for where, asked, _ in self.requests if where.endswith(path)]


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _handler(published: Published) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            published.requests.append((path, self.headers["Range"], self.headers["Authorization"]))
            if path in published.status:
                self._answer(published.status[path], b"no")
            elif path.startswith("/api/models/"):
                repository = path.removeprefix("/api/models/").split("/revision/")[0]
                self._answer(200, json.dumps(published.record(repository)).encode())
            elif path.startswith("/cdn/"):
                self._file(*path.removeprefix("/cdn/").split("/resolve/"))
            else:
                self.send_response(302)
                self.send_header("Location", f"{published.files_at}/cdn{path}")
                self.end_headers()

        def _file(self, repository: str, rest: str) -> None:
            name = rest.split("/", 1)[1]
            data = published.altered.get(name, published.files[repository][name])
            asked = self.headers["Range"]
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and published.ranges else 0
            cuts = published.cut.get(name, [])
            sent = data[start:][: cuts.pop(0)] if cuts else data[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if published.held_at is not None and name == STUDENT and not published.go_on.is_set():
                self.wfile.write(sent[: published.held_at])
                self.wfile.flush()
                published.holding.set()
                assert published.go_on.wait(PATIENCE_SECONDS)
            else:
                self.wfile.write(sent)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:
            pass

    return Handler


@contextmanager
def serving(published: Published) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(published))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        published.go_on.set()
        server.shutdown()
        thread.join(PATIENCE_SECONDS)
        server.server_close()
