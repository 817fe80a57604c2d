"""Requests that are missing, damaged or too many: calls end at once, with a reason."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from raw_calls import open_api
from running_daemon import PATIENCE_SECONDS, RunningDaemon, steered
from soundctm_daemon.status import DETAILS_KEY

pytestmark = pytest.mark.usefixtures("models")

NO_SUCH_ID = b"\x0a\x02ab"  # of every request whose first field is an id
UNARY, STREAM = "/soundgen.v1.ClipService/GetClip", "/soundgen.v1.GenerationService/Watch"
UPLOAD = "/soundgen.v1.ClipService/ImportClip"


def ended(method: str, messages: list[bytes]) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """The code, the reason and what else the ErrorInfo says."""
    with RunningDaemon(steered()) as daemon, grpc.insecure_channel(daemon.listening.address) as channel:
        metadata = (("authorization", f"Bearer {daemon.settings.token_file.read_text().strip()}"),)
        call = channel.stream_stream(method)(iter(messages), metadata=metadata, timeout=PATIENCE_SECONDS)
        with pytest.raises(grpc.RpcError):
            list(call)
        status = status_pb2.Status.FromString(dict(call.trailing_metadata())[DETAILS_KEY])
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        return call.code(), info.reason, dict(info.metadata)


@pytest.mark.parametrize("method", [UNARY, STREAM])
def test_a_call_without_its_request_ends(method: str) -> None:
    code, reason, info = ended(method, [])
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert (info["field"], info["value"]) == ("request", "missing")


@pytest.mark.parametrize("method", [UNARY, STREAM, UPLOAD])
@pytest.mark.parametrize("damaged", [b"\xff\xff", b"\x0a\x01\xff", b"\x0a\x7fab"])
def test_a_request_that_cannot_be_read_is_told(method: str, damaged: bytes) -> None:
    code, reason, info = ended(method, [damaged])
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert info["field"] == "request"
    assert info["value"].startswith(f"{len(damaged)} bytes that cannot be read")


@pytest.mark.parametrize("method", [UNARY, STREAM])
def test_what_comes_behind_the_one_request_is_not_read(method: str) -> None:
    code, reason, _ = ended(method, [NO_SUCH_ID, b"\xff\xff"])
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "CLIP_NOT_FOUND")


def test_a_damaged_chunk_leaves_no_file_behind() -> None:
    header = b"\x0a\x04\x0a\x00\x10\x05"  # of a file of 5 bytes
    with open_api() as api:
        folder = api.daemon.settings.clips_dir
    before = {*folder.iterdir()}
    assert ended(UPLOAD, [header, b"\xff\xff"])[1] == "INVALID_REQUEST"
    assert {path for path in folder.iterdir() if "import" in path.name} <= before
