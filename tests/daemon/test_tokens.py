"""Named tokens: made, told apart, revoked, all while the daemon runs; and what does not count as one."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from typer.testing import CliRunner

from running_daemon import PATIENCE_SECONDS, RunningDaemon, steered
from soundctm_daemon.cli import app
from soundctm_daemon.errors import SettingsError, TokenNameError
from soundctm_daemon.status import DETAILS_KEY
from soundctm_daemon.tokens import OWNER, TokenFile, Tokens
from soundgen import paths
from soundgen.client import Client
from soundgen.errors import UnauthenticatedError
from soundgen.v1 import model_service_pb2, model_service_pb2_grpc

LIST_MODELS = "/soundgen.v1.ModelService/ListModels"


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "state")


def known(tokens: TokenFile) -> list[str]:
    return [token.name for token in tokens.read()]


def test_tokens_are_made_listed_and_revoked(tokens: TokenFile) -> None:
    assert known(tokens) == []
    first, second = tokens.add("laptop"), tokens.add("studio-2.north")
    assert len({first, second}) == 2
    assert len(first) >= 43  # 256 bits
    assert known(tokens) == ["laptop", "studio-2.north"]
    tokens.revoke("laptop")
    assert known(tokens) == ["studio-2.north"]


def test_the_file_holds_no_token_and_is_the_owners_alone(tokens: TokenFile) -> None:
    secret = tokens.add("laptop")
    assert secret not in tokens.path.read_text()
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(tokens.path.parent.stat().st_mode) == 0o700


def test_a_file_others_could_use_is_closed_to_them(tokens: TokenFile, caplog: pytest.LogCaptureFixture) -> None:
    tokens.add("laptop")
    tokens.path.chmod(0o666)
    assert known(tokens) == ["laptop"]
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert str(tokens.path) in caplog.text


@pytest.mark.parametrize("name", ["", "-x", ".", "a b", "a/b", "../x", "x" * 41, "\u00e9", "a\n", "a\x00"])
def test_what_cannot_name_a_token_is_refused(tokens: TokenFile, name: str) -> None:
    with pytest.raises(TokenNameError, match="cannot name a token; allowed: 1 to 40"):
        tokens.add(name)
    assert known(tokens) == []


def test_a_name_is_given_once_and_what_is_not_there_cannot_be_revoked(tokens: TokenFile) -> None:
    tokens.add("laptop")
    with pytest.raises(TokenNameError, match="is there already"):
        tokens.add("laptop")
    with pytest.raises(TokenNameError, match="no token is named 'lapdog'; there are: laptop"):
        tokens.revoke("lapdog")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tokens": [{"name": "x"}]}', '{"tokens": 3}', "\x00\xff"])
def test_a_damaged_file_is_named_and_never_overwritten(tokens: TokenFile, text: str) -> None:
    tokens.path.parent.mkdir(mode=0o700)
    tokens.path.write_text(text)
    with pytest.raises(SettingsError, match=r"tokens\.json cannot be used"):
        tokens.add("laptop")
    assert tokens.path.read_text() == text


def test_a_folder_that_cannot_be_written_changes_nothing(tokens: TokenFile) -> None:
    tokens.path.parent.write_text("a file in the folder's place")
    with pytest.raises(SettingsError, match=r"cannot be written .*nothing was changed"):
        tokens.add("laptop")


def test_many_at_once_lose_none(tokens: TokenFile) -> None:
    threads = [threading.Thread(target=tokens.add, args=(f"client{number}",)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(known(tokens)) == sorted(f"client{number}" for number in range(12))


def test_whose_a_token_is_follows_the_file(tokens: TokenFile, caplog: pytest.LogCaptureFixture) -> None:
    known_tokens = Tokens("the owner's", tokens)
    assert known_tokens.owner_of("the owner's") == OWNER
    secret = tokens.add("laptop")
    assert known_tokens.owner_of(secret) == "laptop"
    assert known_tokens.owner_of(secret + "x") is None
    assert known_tokens.owner_of("") is None
    tokens.path.write_text("damaged")
    assert known_tokens.owner_of(secret) is None  # nobody but the owner
    assert known_tokens.owner_of("the owner's") == OWNER
    assert known_tokens.owner_of(secret) is None
    assert caplog.text.count("cannot be used") == 1
    tokens.path.unlink()
    again = tokens.add("laptop")
    assert (known_tokens.owner_of(again), known_tokens.owner_of(secret)) == ("laptop", None)


def test_the_commands_change_a_running_daemon(models: Path) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["token", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    with RunningDaemon(steered()) as daemon:
        secret = run("add", "laptop")
        with Client(daemon.listening.address, secret) as client:
            assert "tiny" in [model.name for model in client.models()]
            assert run("list").startswith("laptop ")
            run("revoke", "laptop")
            with pytest.raises(UnauthenticatedError, match="was revoked"):
                client.models()
        with Client() as owner:
            assert owner.models()


def test_every_job_knows_whose_token_asked_for_it(models: Path) -> None:
    with RunningDaemon(steered()) as daemon:
        secret = TokenFile(daemon.settings.state_dir).add("laptop")
        address = daemon.listening.address
        with Client() as owner, Client(address, secret) as laptop, ThreadPoolExecutor(8) as pool:
            asked = [
                pool.submit(lambda client, name: list(client.generate(name, seconds=0.5)), *whose)
                for whose in [(owner, "owner"), (laptop, "laptop")] * 4
            ]
            for clip in asked:
                clip.result(PATIENCE_SECONDS)
            jobs = owner.jobs(include_ended=True)
        assert sorted((job.label, job.client) for job in jobs) == [("laptop", "laptop")] * 4 + [("owner", OWNER)] * 4


def test_the_command_says_what_it_refuses() -> None:
    refused = CliRunner().invoke(app, ["token", "add", "a b"])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "TOKEN_NAME: 'a b' cannot name a token" in refused.stderr
    assert CliRunner().invoke(app, ["token", "list", "--json"]).stdout == "[]\n"


@pytest.fixture
def channel(models: Path) -> Iterator[grpc.Channel]:
    with RunningDaemon(steered()) as daemon, grpc.insecure_channel(daemon.listening.address) as opened:
        yield opened


def refusal(channel: grpc.Channel, metadata: tuple[tuple[str, str | bytes], ...], body: bytes = b"") -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(LIST_MODELS)(body, metadata=metadata, timeout=30)
    return caught.value


def test_what_is_no_token_is_refused_and_the_daemon_goes_on(channel: grpc.Channel) -> None:
    token = paths.read_token()
    headers: list[tuple[tuple[str, str | bytes], ...]] = [
        (),
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer "),),
        (("authorization", token),),
        (("authorization", f"Basic {token}"),),
        (("authorization", f"Bearer {token}x"),),
        (("authorization", f"Bearer {token[:-1]}"),),
        (("authorization", "Bearer " + "~" * 4000),),
        (("authorization-bin", f"Bearer {token}".encode()),),
        (("authorization-bin", bytes(range(256))),),
        (("x-token", token),),
    ]
    for metadata in headers:
        error = refusal(channel, metadata, body=b"\xff" * 64)  # nor is the request of a stranger read
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED, metadata
        assert "authorization: Bearer <token>" in error.details()
        assert token not in error.details()
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    for scheme in ("Bearer", "bearer"):
        metadata = (("authorization", f"{scheme} {token}"),)
        assert models.ListModels(model_service_pb2.ListModelsRequest(), metadata=metadata).models


def test_a_refusal_is_a_status_for_programs(channel: grpc.Channel) -> None:
    error = refusal(channel, (("authorization", "Bearer wrong"),))
    (details,) = (value for key, value in error.trailing_metadata() if key == DETAILS_KEY)
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert (info.reason, info.domain) == ("UNAUTHENTICATED", "soundctm")


def test_headers_of_any_size_are_refused_at_worst(channel: grpc.Channel) -> None:
    good = (("authorization", f"Bearer {paths.read_token()}"),)
    for size in (20_000, 1_000_000):
        error = refusal(channel, (*good, ("x-huge", "h" * size)))
        assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    many = tuple((f"x-{number}", "v" * 50) for number in range(400))
    assert refusal(channel, (*good, *many)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert channel.unary_unary(LIST_MODELS)(b"", metadata=good)
