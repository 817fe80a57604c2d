"""What a request asks for becomes jobs: their deadlines, their turn, and bad values named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from raw_calls import api_of, first, kind, open_api, read, refusal
from running_daemon import RunningDaemon, steered
from soundctm.errors import InvalidRequestError
from soundctm.licences import AcceptedLicences
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.jobs import Priority
from soundctm_daemon.library import Library, open_library
from soundctm_daemon.requests import Asker, JobMaker
from soundgen.v1 import generation_service_pb2 as contract

pytestmark = pytest.mark.usefixtures("models")
ASKER = Asker(client="panel", request_id="an-id", seed=77)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    library = open_library(tmp_path / "clips")
    yield library
    library.close()


@pytest.fixture
def maker(library: Library, tmp_path: Path) -> JobMaker:
    catalogue = Catalogue("tiny", AcceptedLicences(tmp_path / "licences"))
    return JobMaker(catalogue, library, lambda clip_id: lambda event: None, preview_steps=4, most_jobs=64)


def generate_request(**fields: Any) -> contract.GenerateRequest:
    return contract.GenerateRequest(prompt="rain", **fields)


@pytest.mark.parametrize(
    ("fields", "priority"),
    [
        ({}, Priority.PREVIEW),
        ({"steps": 4}, Priority.PREVIEW),
        ({"steps": 5}, Priority.REFINEMENT),
        ({"steps": 1, "batch": True}, Priority.BATCH),
        ({"steps": 16, "batch": True}, Priority.BATCH),
        ({"within_seconds": 2.0}, Priority.REFINEMENT),
    ],
)
def test_previews_go_before_refinements_and_these_before_work_nobody_waits_at(
    maker: JobMaker, fields: dict[str, Any], priority: Priority
) -> None:
    (job,) = maker.generate(generate_request(**fields), ASKER)
    assert job.priority is priority


def test_a_job_says_whose_it_is_and_takes_the_seed_drawn_for_it(maker: JobMaker) -> None:
    (job,) = maker.generate(generate_request(), ASKER)
    assert (job.client, job.request_id, job.recipe.seed, job.deadline_seconds) == ("panel", "an-id", 77, None)
    varied = maker.variations(contract.GenerateVariationsRequest(request=generate_request(), count=3), ASKER)
    assert [job.recipe.seed for job in varied] == [77, 78, 79]
    assert len({job.clip_id for job in varied}) == 3


def test_a_time_given_becomes_a_deadline_and_as_many_jumps_as_a_refine_has(maker: JobMaker) -> None:
    before = time.monotonic()
    (job,) = maker.generate(generate_request(within_seconds=2.5), ASKER)
    assert job.deadline_seconds is not None
    assert before + 2.5 <= job.deadline_seconds <= time.monotonic() + 2.5
    assert job.recipe.steps == 16
    (job,) = maker.generate(generate_request(within_seconds=3600.0, steps=64), ASKER)
    assert job.recipe.steps == 64


@pytest.mark.parametrize("within", [0.0, 0.09, 3600.1, -1.0, float("nan"), float("inf")])
def test_a_time_out_of_range_is_named_with_everything_else(maker: JobMaker, within: float) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        maker.generate(generate_request(within_seconds=within, steps=0, label="x" * 201), ASKER)
    assert [violation.field for violation in caught.value.violations] == ["steps", "within_seconds", "label"]
    assert "0.1 to 3600" in str(caught.value)


def test_the_first_event_names_what_will_be_made_at_most() -> None:
    with open_api() as api:
        call = api.generate(within_seconds=600.0, steps=3)
        told = first(call)
        assert (kind(told), told.queued.recipe.steps) == ("queued", 3)
        events, code = read(call)
        assert (kind(events[-1]), code) == ("clip_ready", grpc.StatusCode.OK)


@pytest.mark.parametrize("fields", [{"steps": 1}, {"steps": 65}, {"gamma": 2.0}, {"gamma": float("nan")}])
def test_what_a_refine_cannot_be_is_named(fields: dict[str, Any]) -> None:
    with open_api() as api:
        preview = api.make()
        code, info, _ = refusal(api.refine(preview.id, **fields))
        assert (code, [info.metadata["field"]]) == (grpc.StatusCode.INVALID_ARGUMENT, list(fields))


def test_ids_of_clips_too_long_to_be_any_are_named() -> None:
    with RunningDaemon(steered()) as daemon, api_of(daemon) as api:
        for call in (api.refine("x" * 201), api.progressively("x" * 100_000)):
            code, info, _ = refusal(call)
            assert (code, info.metadata["field"]) == (grpc.StatusCode.INVALID_ARGUMENT, "clip_id")
