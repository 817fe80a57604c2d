"""An independent client: gRPC for Node.js, which shares nothing with ours but the .proto files."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import soundfile
from google.rpc import error_details_pb2, status_pb2

from running_daemon import PATIENCE_SECONDS, Gate, RunningDaemon, install, steered
from soundgen.client import Client

HERE = Path(__file__).parent
PROTO = HERE.parents[1] / "proto"
CHUNK_BYTES = 256 * 1024
Facts = Mapping[str, Any]


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is not None and (HERE / "node_modules" / "@grpc" / "grpc-js").is_dir():
        return found
    reason = (
        "gRPC for Node.js is needed: install the Debian packages nodejs and npm, then "
        f"`npm install --no-package-lock --prefix {HERE.relative_to(HERE.parents[1])}`"
    )
    if os.environ.get("SOUNDCTM_REQUIRE_NODE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def story(node: str, tiny_bundle_dir: Path, tmp_path: Path) -> Iterator[dict[str, Facts]]:
    """What the client told of everything it did, by name; the daemon still runs."""
    install(tiny_bundle_dir, tmp_path / "models")
    gate, told = Gate(), dict[str, Facts]()
    gate.let_through(2)  # the jumps of the clip it generates; the one it cancels waits in its first
    with RunningDaemon(steered(gate.wait)) as daemon:
        arguments = (str(PROTO), daemon.listening.address, daemon.settings.token_file.read_text().strip())
        with subprocess.Popen(
            [node, str(HERE / "session.js"), *arguments, str(tmp_path / "clip.wav")], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                fact = json.loads(line)
                told[fact.pop("what")] = fact
                if "cancelling" in told:
                    gate.let_through(1_000_000)
            assert process.wait(PATIENCE_SECONDS) == 0
        yield told


def test_another_client_generates_watches_cancels_and_downloads(story: dict[str, Facts], tmp_path: Path) -> None:
    generated, watched = story["generated"], story["watched"]
    assert (generated["code"], watched["code"]) == (0, 0)
    assert [event for event in generated["events"] if event != "queued"] == ["started", "jump", "jump", "clip_ready"]
    assert generated["clip"]["recipe"]["seed"] == 7
    assert watched["events"] == ["clip_ready"]

    cancelled = story["cancelled"]
    assert cancelled["code"] == story["left"]["code"] == grpc.StatusCode.CANCELLED.value[0]
    assert (cancelled["event"], cancelled["reason"]) == ("failed", "CANCELLED")

    downloaded, clip = story["downloaded"], generated["clip"]
    data = (tmp_path / "clip.wav").read_bytes()
    assert downloaded["codes"] == [0, 0]
    assert downloaded["same"]
    assert hashlib.sha256(data).hexdigest() == downloaded["sha256"] == downloaded["header"]["sha256"] == clip["sha256"]
    assert len(data) == downloaded["header"]["size_bytes"]
    assert len(downloaded["sizes"]) > 2  # resumed in the middle
    assert {*downloaded["sizes"][:-1]} == {CHUNK_BYTES}
    audio, _ = soundfile.read(tmp_path / "clip.wav")
    assert len(audio) == clip["samples"]

    with Client() as client:
        stored = {each.id for each in client.clips().clips}
    assert clip["id"] in stored
    assert cancelled["clip_id"] not in stored


def test_another_client_reads_why_it_was_refused(story: dict[str, Facts]) -> None:
    refused = story["refused"]
    assert refused["code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    (details,) = refused["details"]
    request = error_details_pb2.BadRequest()
    unpacked = [detail for detail in status_pb2.Status.FromString(base64.b64decode(details)).details
                if detail.Unpack(request)]  # fmt: skip
    assert len(unpacked) == 1
    assert {violation.field for violation in request.field_violations} == {"prompt", "seconds"}
