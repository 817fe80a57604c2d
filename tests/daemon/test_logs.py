"""Each line of the log says which call and which clip it concerns; nothing that was asked for is in it."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from running_daemon import PATIENCE_SECONDS, RunningDaemon, steered
from soundctm.bundle import open_bundle
from soundctm.recipe import make_recipe
from soundctm_daemon import logs, tracing
from soundctm_daemon.clip import new_clip_id
from soundctm_daemon.errors import QueueFullError
from soundctm_daemon.jobs import Failed, Job, JobEvent, Queued
from soundctm_daemon.logs import JsonFormatter, RotatedFile, TextFormatter
from soundctm_daemon.metrics import Metrics
from soundctm_daemon.observed_clips import ClipObserver
from soundctm_daemon.scheduler import Scheduler
from soundgen import paths
from soundgen.client import Client
from soundgen.v1 import (
    clip_service_pb2,
    clip_service_pb2_grpc,
    generation_service_pb2,
    generation_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

KEY = logs.REQUEST_ID_KEY
MODELS = model_service_pb2.ListModelsRequest()


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards as its room's are."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    yield logger
    for room in ("soundctm", "soundctm_daemon"):
        logging.getLogger(room).setLevel(logging.NOTSET)
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def log(root: logging.Logger) -> io.StringIO:
    """JSON lines, everything down to DEBUG."""
    handler = logs.set_up(paths.log_path(), "json", "debug")
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    handler.setStream(written)
    return written


@pytest.fixture
def daemon(models: Path, log: io.StringIO) -> Iterator[RunningDaemon]:
    with RunningDaemon(steered()) as running:
        yield running


@pytest.fixture
def channel(daemon: RunningDaemon) -> Iterator[grpc.Channel]:
    with Client() as client, grpc.insecure_channel(client.connection.target) as opened:
        yield opened


def metadata(request_id: str | None = None) -> list[tuple[str, str]]:
    given = [] if request_id is None else [(KEY, request_id)]
    return [("authorization", f"Bearer {paths.read_token()}"), *given]


def list_models(channel: grpc.Channel, request_id: str | None = None) -> str:
    """The id the daemon answers with."""
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    _, call = stub.ListModels.with_call(MODELS, metadata=metadata(request_id), timeout=PATIENCE_SECONDS)
    return dict(call.trailing_metadata())[KEY]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def record(message: str, *arguments: object, **extra: str) -> logging.LogRecord:
    made = logging.LogRecord("soundctm_daemon", logging.INFO, "", 0, message, arguments, None)
    made.__dict__.update(extra)
    return made


def test_a_call_keeps_the_id_it_came_with(channel: grpc.Channel) -> None:
    assert list_models(channel, "take-7.b_C") == "take-7.b_C"


@pytest.mark.parametrize("insane", [None, "", "x" * 65, "two words", "a;b", "a/../b"])
def test_a_call_without_a_sane_id_gets_one(channel: grpc.Channel, insane: str | None) -> None:
    first, second = list_models(channel, insane), list_models(channel, insane)
    assert first != second
    assert insane not in (first, second)
    assert all(len(made) == 16 and made.isalnum() for made in (first, second))


def test_a_call_that_fails_says_its_id_beside_its_details(channel: grpc.Channel) -> None:
    clips = clip_service_pb2_grpc.ClipServiceStub(channel)
    with pytest.raises(grpc.RpcError) as raised:
        clips.GetClip(clip_service_pb2.GetClipRequest(clip_id="none"), metadata=metadata("find-me"), timeout=9.0)
    trailer = dict(raised.value.trailing_metadata())
    assert trailer[KEY] == "find-me"
    assert "grpc-status-details-bin" in trailer


def test_the_lines_of_a_call_and_of_its_clip_carry_the_id_and_no_prompt(
    daemon: RunningDaemon, channel: grpc.Channel, log: io.StringIO
) -> None:
    generation = generation_service_pb2_grpc.GenerationServiceStub(channel)
    request = generation_service_pb2.GenerateRequest(prompt="my secret plan", label="hidden", seconds=1.0)
    *_, last = generation.Generate(request, metadata=metadata("call-1"), timeout=PATIENCE_SECONDS)
    clip_id = last.event.clip_ready.clip.id
    assert list_models(channel, "call-2") == "call-2"
    daemon.__exit__(None, None, None)  # whatever is still to be written is
    text = log.getvalue()
    written = lines(text)
    (ready,) = [line for line in written if line.get("clip_id") == clip_id]
    assert ready["request_id"] == "call-1"
    assert "1 jumps" in ready["message"]
    assert {line["message"].split(" after")[0] for line in written if line.get("request_id") == "call-2"} == {
        "/soundgen.v1.ModelService/ListModels ended with OK"
    }
    assert all(line["level"] in ("DEBUG", "INFO") and line["time"].endswith("+00:00") for line in written)
    assert not any(word in text for word in ("secret", "hidden", paths.read_token()))


def test_what_goes_wrong_on_another_thread_is_told_with_the_id_of_its_call(models: Path, log: io.StringIO) -> None:
    def broken() -> None:
        raise ArithmeticError("the weights are made of cheese")

    with RunningDaemon(steered(broken)), Client() as client, grpc.insecure_channel(client.connection.target) as channel:
        generation = generation_service_pb2_grpc.GenerationServiceStub(channel)
        request = generation_service_pb2.GenerateRequest(prompt="my secret plan", seconds=1.0)
        with pytest.raises(grpc.RpcError) as raised:
            list(generation.Generate(request, metadata=metadata("call-3"), timeout=PATIENCE_SECONDS))
    assert dict(raised.value.trailing_metadata())[KEY] == "call-3"
    of_call = {line["logger"]: line for line in lines(log.getvalue()) if line.get("request_id") == "call-3"}
    assert of_call["soundctm_daemon.worker"]["exception"].endswith("made of cheese")
    assert of_call["soundctm_daemon.observed_clips"]["message"].endswith("ended after 0 jumps: INTERNAL")
    assert of_call["soundctm_daemon.observed_calls"]["level"] == "ERROR"
    assert len({line["clip_id"] for line in of_call.values() if "clip_id" in line}) == 1
    assert "secret" not in log.getvalue()


def test_text_is_one_line_per_message_whatever_is_in_it() -> None:
    forged = TextFormatter().format(record("named %s", "a\n2026 ERROR lost\x1b[2J", request_id="r1", clip_id="c1"))
    assert forged.endswith(r"named a\x0a2026 ERROR lost\x1b[2J [request_id r1, clip_id c1]")
    assert "\n" not in forged


def test_json_holds_the_traceback_in_its_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        failed = record("it failed")
        failed.exc_info = sys.exc_info()
    line = JsonFormatter().format(failed)
    assert "\n" not in line
    assert json.loads(line)["exception"].endswith("ValueError: broken")


def test_the_file_is_rotated_and_standard_error_follows_it(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    code = (
        "import logging, os, pathlib\n"
        "from soundctm_daemon import logs\n"
        f"handler = logs.set_up(pathlib.Path({str(path)!r}), 'text', 'info')\n"
        "handler.maxBytes = 200\n"
        "for number in range(40): logging.info('line %d', number)\n"
        "os.write(2, b'a crash has the last word')\n"
    )
    with path.open("ab") as log:
        subprocess.run([sys.executable, "-c", code], stdout=log, stderr=log, check=True)
    kept = sorted(file.name for file in tmp_path.iterdir())
    assert kept == ["daemon.log", *(f"daemon.log.{number}" for number in range(1, 6))]
    assert path.read_text().endswith("line 39\na crash has the last word")
    assert all(file.stat().st_size < 300 for file in tmp_path.iterdir())


def test_a_log_that_cannot_be_rotated_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "daemon.log"
    for number in range(1, 7):
        (tmp_path / f"daemon.log.{number}" / "in the way").mkdir(parents=True)
    handler = RotatedFile(path, rotate_at_bytes=30, follow=())
    for number in range(5):
        handler.emit(record("line %d", number))
    handler.close()
    assert path.read_text().split() == ["line", "0", "line", "1", "line", "2", "line", "3", "line", "4"]


def test_a_terminal_gets_lines_and_no_file(
    tmp_path: Path, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up(tmp_path / "daemon.log", "text", "warning")
    logging.getLogger("soundctm_daemon.test").info("quiet")
    logging.getLogger("soundctm_daemon.test").warning("loud")
    assert capsys.readouterr().err.endswith("WARNING soundctm_daemon.test: loud\n")
    assert list(tmp_path.glob("daemon.log*")) == []


def test_spans_are_off_unless_a_collector_is_named(caplog: pytest.LogCaptureFixture) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, soundctm_daemon.server; print('opentelemetry' in sys.modules)"],
        capture_output=True, text=True, check=True, env={**os.environ, tracing.ENDPOINT_VARIABLE: "http://127.0.0.1:1"},
    )
    assert loaded.stdout == "False\n"
    assert isinstance(tracing.set_up({}), tracing.NoTracing)
    assert isinstance(tracing.set_up({tracing.ENDPOINT_VARIABLE: ""}), tracing.NoTracing)


def test_a_clip_that_is_refused_has_no_span(tiny_bundle_dir: Path) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observer = ClipObserver(Metrics(), tracing.OpenTelemetry(provider))
    told: list[JobEvent] = []
    bundle = open_bundle(tiny_bundle_dir)
    recipe = make_recipe(bundle.spec, bundle.digest, prompt="rain", seed=7)
    job = Job(new_clip_id(), "tiny", bundle, recipe, "", "a clip", told.append)
    scheduler = Scheduler(queue_limit=1)
    scheduler.submit([observer.follow(job)])
    with pytest.raises(QueueFullError):
        scheduler.submit([observer.follow(dataclasses.replace(job, clip_id="refused"))])
    scheduler.stop_all()
    (span,) = exporter.get_finished_spans()
    assert dict(span.attributes or {})["clip_id"] == job.clip_id
    assert [type(event) for event in told] == [Queued, Failed]


def test_a_missing_exporter_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert isinstance(tracing.set_up({tracing.ENDPOINT_VARIABLE: "http://127.0.0.1:1"}), tracing.NoTracing)
    assert "pip install 'soundctm-daw[otel]'" in caplog.text


def test_the_span_of_a_clip_lies_in_the_span_of_its_call() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = tracing.OpenTelemetry(provider)
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    with spans.call("/soundgen.v1.GenerationService/Generate", {"traceparent": parent}) as call:
        clip = spans.clip({"clip_id": "c1"})
        call.end(code="OK")
    clip.end("DISK_FULL", jumps=3)
    outer, inner = exporter.get_finished_spans()
    assert (outer.name, inner.name) == ("soundgen.v1.GenerationService/Generate", "clip")
    assert outer.parent is not None
    assert (format(outer.context.trace_id, "x"), format(outer.parent.span_id, "x")) == ("a" * 32, "b" * 16)
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id
    assert dict(inner.attributes or {}) == {"clip_id": "c1", "jumps": 3}
    assert (inner.status.status_code, inner.status.description) == (StatusCode.ERROR, "DISK_FULL")
