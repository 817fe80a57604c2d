"""Follows a clip through its events: how long it waited and took, what became of it, in metrics, span and log."""

from __future__ import annotations

import dataclasses
import logging
import time

from soundctm.errors import CancelledError
from soundctm_daemon import logs
from soundctm_daemon.jobs import Failed, Job, JobEvent, JumpDone, Queued, Ready, Started
from soundctm_daemon.metrics import Metrics
from soundctm_daemon.tracing import NoTracing, Span, Tracing

_log = logging.getLogger(__name__)


class ClipObserver:
    def __init__(self, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._metrics, self._tracing = metrics, tracing or NoTracing()

    def follow(self, job: Job) -> Job:
        """The job, whose events are seen here before they go where they went. Call it in the task of the call that
        asks for the clip, and have it queued there: the lines of its log and its span belong to that call."""
        return dataclasses.replace(job, emit=_Follower(job, self._metrics, self._tracing))


class _Follower:
    """`emit` of one job."""

    def __init__(self, job: Job, metrics: Metrics, tracing: Tracing) -> None:
        self._job, self._metrics = job, metrics
        self._request_id = logs.current_request_id()
        self._asked = self._started = time.perf_counter()
        self._jumps = 0
        self._tracing = tracing
        self._span: Span | None = None  # from the first event on: a clip that is refused has none

    def __call__(self, event: JobEvent) -> None:
        """The log's binding ends after the last event: what its taker writes still belongs to the clip."""
        now = time.perf_counter()
        span = self._span = self._span or self._begun_span()
        match event:
            case Queued():
                logs.begin_clip(self._job.clip_id, self._request_id)
            case Started():
                self._started = now
                self._metrics.clip_started(self._job.priority, now - self._asked)
            case JumpDone():  # counted, not read: a clip with a deadline begins again with every longer take
                self._metrics.clip_jumped()
                self._jumps += 1
            case Ready() | Failed():
                self._ended(event, now, span)
        try:
            self._job.emit(event)
        finally:
            if isinstance(event, Ready | Failed):
                logs.end_clip(self._job.clip_id)

    def _begun_span(self) -> Span:
        job = self._job
        return self._tracing.clip(
            {"clip_id": job.clip_id, "model": job.model, "steps": job.recipe.steps, "kind": job.priority.name.lower()}
        )

    def _ended(self, event: Ready | Failed, now: float, span: Span) -> None:
        if isinstance(event, Ready):
            waited, rendered = self._started - self._asked, now - self._started
            self._metrics.clip_ready(self._job.priority, rendered, now - self._asked)
            span.end(wait_seconds=waited, render_seconds=rendered, jumps=self._jumps)
            self._say(f"is ready: {self._jumps} jumps, waited {waited:.3f} s, made in {rendered:.3f} s")
            return
        cancelled = isinstance(event.error, CancelledError)
        self._metrics.clip_failed(self._job.priority, event.error)
        span.end("" if cancelled else event.error.reason, reason=event.error.reason, jumps=self._jumps)
        self._say(f"ended after {self._jumps} jumps: {event.error.reason}")

    def _say(self, what: str) -> None:
        _log.info("clip %s %s", self._job.clip_id, what, extra={"clip_id": self._job.clip_id})
