"""Bad input gets an error that says what was wrong, the value seen, what is allowed and what to do."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from running_daemon import RunningDaemon, steered
from soundgen import types
from soundgen.client import Client
from soundgen.errors import InvalidRequestError, NotFoundError, PreconditionError, UnauthenticatedError
from soundgen.v1 import generation_service_pb2, generation_service_pb2_grpc

GENERATE = {
    "empty prompt": ({"prompt": ""}, "prompt", "empty", "1 to 1000 characters that describe a sound"),
    "blank prompt": ({"prompt": "  \n"}, "prompt", "empty", "1 to 1000 characters that describe a sound"),
    "10 000 characters": ({"prompt": "x" * 10_000}, "prompt", "10000 characters long", "at most 1000 characters"),
    "no steps": ({"steps": 0}, "steps", "0", "a whole number from 1 to 64"),
    "10 000 steps": ({"steps": 10_000}, "steps", "10000", "a whole number from 1 to 64"),
    "omega below": ({"omega": 0.5}, "omega", "0.5", "1 to 5 (what it was distilled with)"),
    "omega above": ({"omega": 5.5}, "omega", "5.5", "1 to 5 (what it was distilled with)"),
    "omega NaN": ({"omega": math.nan}, "omega", "nan", "1 to 5 (what it was distilled with)"),
    "seconds NaN": ({"seconds": math.nan}, "seconds", "nan", "0.5 to 10"),
    "seconds infinite": ({"seconds": math.inf}, "seconds", "inf", "0.5 to 10"),
    "too short": ({"seconds": 0.4}, "seconds", "0.4", "0.5 to 10"),
    "too long": ({"seconds": 10.1}, "seconds", "10.1", "0.5 to 10"),
    "gamma above": ({"gamma": 1.1}, "gamma", "1.1", "0 to 1"),
    "nu NaN": ({"nu": math.nan}, "nu", "nan", "0 to 10"),
    "nu below": ({"nu": -1.0}, "nu", "-1.0", "0 to 10"),
    "long label": ({"label": "x" * 201}, "label", "201 characters long", "at most 200 characters"),
    "long model": ({"model": "x" * 10_000}, "model", "10000 characters long", "at most 200 characters"),
}


@pytest.mark.usefixtures("models")
def test_every_field_out_of_range_is_named_with_value_and_range() -> None:
    with RunningDaemon(steered()), Client() as client:
        for name, (fields, field, value, allowed) in GENERATE.items():
            request: dict[str, Any] = {"prompt": "rain", **fields}
            with pytest.raises(InvalidRequestError) as caught:
                list(client.generate(request.pop("prompt"), **request))
            error = caught.value
            assert error.metadata == {"field": field, "value": value, "allowed": allowed}, name
            assert [violation.field for violation in error.violations] == [field], name
            assert str(error) == f"{field} is {value}; allowed: {allowed}", name
        with pytest.raises(InvalidRequestError) as caught:
            list(client.generate("", steps=0, omega=9))
        assert [violation.field for violation in caught.value.violations] == ["prompt", "steps", "omega"]
        with pytest.raises(InvalidRequestError, match="page_size is 201"):
            client.clips(page_size=201)
        for token in ("x", "-1", "9" * 30, "²"):
            with pytest.raises(InvalidRequestError, match="the next_page_token of the page before"):
                client.clips(page_token=token)
        assert client.clips().clips == ()


@pytest.mark.parametrize("fields", [{"steps": -1}, {"steps": 1.5}, {"seed": 2**32}, {"seconds": "long"}])
def test_what_the_wire_cannot_hold_is_refused_before_it_is_sent(models: Path, fields: dict[str, Any]) -> None:
    with RunningDaemon(steered()), Client() as client:
        (name,) = fields
        with pytest.raises(InvalidRequestError, match=f"^{name} is .*; allowed: ") as caught:
            client.generate("rain", **fields)
        assert [violation.field for violation in caught.value.violations] == [name]


def test_an_error_is_a_google_rpc_status_in_the_trailer(models: Path) -> None:
    with RunningDaemon(steered()) as daemon, grpc.insecure_channel(daemon.listening.address) as channel:
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        request = generation_service_pb2.GenerateRequest(prompt="rain", steps=0)
        token = daemon.settings.token_file.read_text().strip()
        call = stub.Generate(request, metadata=(("authorization", f"Bearer {token}"),))
        with pytest.raises(grpc.RpcError):
            list(call)
        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
        trailer = dict(call.trailing_metadata())
    status = status_pb2.Status.FromString(trailer["grpc-status-details-bin"])
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.code == 3
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad_request)
    assert (info.domain, info.reason) == ("soundctm", "INVALID_REQUEST")
    assert dict(info.metadata) == {"field": "steps", "value": "0", "allowed": "a whole number from 1 to 64"}
    assert [violation.field for violation in bad_request.field_violations] == ["steps"]


def test_an_unknown_model_names_those_that_are_installed(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(models / "tiny"))
    (models / ".half-made").symlink_to(models / "tiny", target_is_directory=True)
    with RunningDaemon(steered()), Client() as client:
        for name in ("nosuchmodel", "../tiny", str(models / "tiny"), "~", "..", ".", ".half-made", "a\0b"):
            with pytest.raises(NotFoundError, match="tiny, starter") as caught:
                list(client.generate("rain", model=name))
            assert caught.value.reason == "MODEL_NOT_FOUND"
            assert caught.value.metadata["value"] == name
        with pytest.raises(NotFoundError):
            client.model("nosuchmodel")


@pytest.mark.parametrize("damage", ["altered", "truncated", "removed"])
def test_damaged_weights_are_named_to_every_request_until_they_are_repaired(
    tiny_bundle_dir: Path, tmp_path: Path, damage: str
) -> None:
    weights = shutil.copytree(tiny_bundle_dir, tmp_path / "models" / "tiny") / "network.safetensors"
    whole = weights.read_bytes()
    match damage:
        case "altered":
            weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "truncated":
            weights.write_bytes(whole[:-1])
        case _:
            weights.unlink()
    with RunningDaemon(), Client() as client:
        for _ in range(2):
            with pytest.raises(PreconditionError, match=r"network\.safetensors is truncated or altered") as caught:
                list(client.generate("rain", seconds=0.5))
            assert caught.value.reason == "DIGEST_MISMATCH"
            assert caught.value.metadata == {"file": str(weights)}
        assert not client.serving()
        assert client.model().state is types.ModelState.UNUSABLE
        assert "network.safetensors" in client.model().problem
        weights.write_bytes(whole)
        assert isinstance(list(client.generate("rain", seconds=0.5))[-1], types.ClipReady)


def test_a_damaged_manifest_is_named_and_the_daemon_lives(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle_dir, tmp_path / "models" / "tiny")
    (bundle / "bundle.json").write_text("{")
    with RunningDaemon(), Client() as client:
        with pytest.raises(PreconditionError, match=r"bundle\.json is not a valid manifest"):
            list(client.generate("rain"))
        states = {model.name: model.state for model in client.models()}
        assert states["tiny"] is types.ModelState.UNUSABLE


def test_an_engine_that_cannot_be_brought_up_is_a_failed_precondition(models: Path) -> None:
    def no_memory(bundle: object) -> Any:
        raise MemoryError("cannot allocate")

    with RunningDaemon(no_memory), Client() as client:
        with pytest.raises(PreconditionError, match="MemoryError: cannot allocate") as caught:
            list(client.generate("rain"))
        assert caught.value.reason == "MODEL_NOT_LOADED"


@pytest.mark.parametrize(("token", "said"), [("", "a wrong token"), ("wrong", "a wrong token")])
def test_a_wrong_token_is_refused_on_every_service(models: Path, token: str, said: str, tmp_path: Path) -> None:
    with RunningDaemon(steered()) as daemon, Client(daemon.listening.address, token=token) as client:
        for call in (
            lambda: list(client.generate("rain")),
            lambda: list(client.refine("x")),
            lambda: client.cancel("x"),
            lambda: client.models(),
            lambda: client.model(),
            lambda: client.clip("x"),
            lambda: client.clips(),
            lambda: client.download("x", tmp_path / "x.wav"),
        ):
            with pytest.raises(UnauthenticatedError, match=said) as caught:
                call()
            assert str(daemon.settings.token_file) in str(caught.value)


def test_a_missing_token_is_refused(models: Path) -> None:
    with RunningDaemon(steered()) as daemon, grpc.insecure_channel(daemon.listening.address) as channel:
        stub = generation_service_pb2_grpc.GenerationServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Generate(generation_service_pb2.GenerateRequest(prompt="rain")))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "carries no token" in caught.value.details()
        daemon.settings.token_file.unlink()
        with pytest.raises(UnauthenticatedError, match="The daemon writes it when it first starts"):
            Client()
