"""Spans of calls and of clips, for whoever runs an OpenTelemetry collector; nothing is imported for anybody else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import TracerProvider

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
_log = logging.getLogger(__name__)

Attributes = Mapping[str, str | int | float | bool]


class Span(Protocol):
    def end(self, error: str = "", **attributes: str | int | float | bool) -> None:
        """`error` is empty where all went well."""
        ...


class Tracing(Protocol):
    def call(self, method: str, metadata: Mapping[str, str]) -> contextlib.AbstractContextManager[Span]:
        """The span of a call, current inside the `with`; the caller's `traceparent` is its parent. Not ended by
        leaving."""
        ...

    def clip(self, attributes: Attributes) -> Span:
        """The span of a clip; its parent is the current one."""
        ...


class NoTracing:
    """Where nobody collects spans."""

    @contextlib.contextmanager
    def call(self, method: str, metadata: Mapping[str, str]) -> Iterator[Span]:
        yield _NoSpan()

    def clip(self, attributes: Attributes) -> Span:
        return _NoSpan()


class _NoSpan:
    def end(self, error: str = "", **attributes: str | int | float | bool) -> None:
        pass


class OpenTelemetry:
    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("soundctm_daemon")

    @contextlib.contextmanager
    def call(self, method: str, metadata: Mapping[str, str]) -> Iterator[Span]:
        from opentelemetry import propagate, trace

        span = self._tracer.start_span(
            method.lstrip("/"),
            context=propagate.extract(metadata),
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": method},
        )
        with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            yield _OtelSpan(span)

    def clip(self, attributes: Attributes) -> Span:
        return _OtelSpan(self._tracer.start_span("clip", attributes=dict(attributes)))


class _OtelSpan:
    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def end(self, error: str = "", **attributes: str | int | float | bool) -> None:
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attributes(dict(attributes))
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


def set_up(environment: Mapping[str, str]) -> Tracing:
    """OpenTelemetry where the environment names a collector and the extra `otel` is installed. Spans go out in the
    background; a collector that does not answer costs no call anything."""
    if not environment.get(ENDPOINT_VARIABLE):
        return NoTracing()
    try:
        return OpenTelemetry(_provider())
    except ImportError as error:
        _log.warning(
            "%s is set, but OpenTelemetry cannot be imported (%s): no spans. Install it with "
            "`pip install 'soundctm-daw[otel]'`, or unset the variable.",
            ENDPOINT_VARIABLE,
            error,
        )
        return NoTracing()


def _provider() -> TracerProvider:
    """What `opentelemetry-instrument` chose, if it started this process; else one that exports by OTLP. Raises
    ImportError."""
    from opentelemetry import trace

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return trace.get_tracer_provider()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider as Provider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = Provider(resource=Resource.create({"service.name": "soundctm-daemon"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider
