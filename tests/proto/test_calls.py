"""Every call of the contract: what each client sends for it, and the value that comes back."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from scripted_daemon import MADE_AT, ScriptedDaemon, clip, ready
from soundgen import errors, types, upload
from soundgen.client import AsyncClient, Client
from soundgen.v1 import clip_pb2, clip_service_pb2, generation_service_pb2, model_service_pb2

MODEL = model_service_pb2.Model(
    name="tiny", licence="CC BY-NC", state=model_service_pb2.MODEL_STATE_LOADED, provenance="made here",
    licence_restricted=True, licence_accepted=True, memory_bytes=5,
)  # fmt: skip
A_MODEL = types.Model(
    "tiny", "", "", "CC BY-NC", False, types.ModelState.LOADED, "", 0, None, "made here", True, True, 5
)
MOMENT = Timestamp(seconds=int(MADE_AT.timestamp()))
Clips, Generation, Models = clip_service_pb2, generation_service_pb2, model_service_pb2


@dataclass(frozen=True)
class Case:
    call: Callable[[Any], Any]
    request: Message
    response: Message
    value: Callable[[Any], Any]
    expected: Any


CASES = {
    "Cancel": Case(
        lambda client: client.cancel("c"), Generation.CancelRequest(clip_id="c"), Generation.CancelResponse(),
        lambda value: value, None,
    ),
    "ListJobs": Case(
        lambda client: client.jobs(include_ended=True), Generation.ListJobsRequest(include_ended=True),
        Generation.ListJobsResponse(
            jobs=[
                Generation.Job(
                    clip_id="c", state=Generation.JOB_STATE_RUNNING, recipe=clip().recipe, label="rain", parent_id="p",
                    request_id="r", client="laptop", created_at=MOMENT, position=1, jumps_done=2, jumps_total=4,
                    reason="WHY", message="why",
                )
            ]
        ),
        lambda jobs: [
            (
                job.clip_id, job.state, job.recipe.seed, job.label, job.parent_id, job.request_id, job.client,
                job.created_at, job.position, job.jumps_done, job.jumps_total, job.reason, job.message,
            )
            for job in jobs
        ],
        [("c", types.JobState.RUNNING, 7, "rain", "p", "r", "laptop", MADE_AT, 1, 2, 4, "WHY", "why")],
    ),
    "GetClip": Case(
        lambda client: client.clip("c"), Clips.GetClipRequest(clip_id="c"),
        Clips.GetClipResponse(
            clip=clip(
                "c", tags=["a", "b"], favourite=True, notes="n", origin=clip_pb2.CLIP_ORIGIN_IMPORTED,
                deleted_at=MOMENT, findings=[clip_pb2.AUDIO_FINDING_DC_OFFSET, clip_pb2.AUDIO_FINDING_SHORT, 99],
            )
        ),
        lambda clip: (clip.tags, clip.favourite, clip.notes, clip.origin, clip.deleted_at, clip.findings, clip.title),
        (
            ("a", "b"), True, "n", types.ClipOrigin.IMPORTED, MADE_AT,
            (types.AudioFinding.DC_OFFSET, types.AudioFinding.SHORT), "rain",
        ),
    ),
    "ListClips": Case(
        lambda client: client.clips(
            7, "page", text="tin roof", tags=("a", "b"), favourites_only=True, created_after=MADE_AT,
            created_before=MADE_AT.astimezone(None).replace(tzinfo=None), deleted=True,
        ),
        Clips.ListClipsRequest(
            page_size=7, page_token="page", text="tin roof", tags=["a", "b"], favourites_only=True,
            created_after=MOMENT, created_before=MOMENT, deleted=True,
        ),
        Clips.ListClipsResponse(clips=[clip("c")], next_page_token="next"),
        lambda page: ([clip.id for clip in page.clips], page.next_page_token), (["c"], "next"),
    ),
    "UpdateClip": Case(
        lambda client: client.update_clip("c", label="l", favourite=False, notes="", tags=()),
        Clips.UpdateClipRequest(clip_id="c", label="l", favourite=False, notes="", tags=Clips.Tags()),
        Clips.UpdateClipResponse(clip=clip("c", label="l")), lambda clip: clip.label, "l",
    ),
    "DeleteClip": Case(
        lambda client: client.delete_clip("c"), Clips.DeleteClipRequest(clip_id="c"),
        Clips.DeleteClipResponse(clip=clip("c", deleted_at=MOMENT)), lambda clip: clip.deleted_at, MADE_AT,
    ),
    "UndeleteClip": Case(
        lambda client: client.undelete_clip("c"), Clips.UndeleteClipRequest(clip_id="c"),
        Clips.UndeleteClipResponse(clip=clip("c")), lambda clip: clip.deleted_at, None,
    ),
    "SearchClips": Case(
        lambda client: client.search_clips("rain", limit=3), Clips.SearchClipsRequest(text="rain", limit=3),
        Clips.SearchClipsResponse(hits=[Clips.SearchHit(clip=clip("c"), similarity=0.5)]),
        lambda hits: [(hit.clip.id, hit.similarity) for hit in hits], [("c", 0.5)],
    ),
    "ExportRecipe": Case(
        lambda client: client.export_recipe("c"), Clips.ExportRecipeRequest(clip_id="c"),
        Clips.ExportRecipeResponse(recipe_json="{}"), lambda recipe: recipe, "{}",
    ),
    "ListModels": Case(
        lambda client: client.models(), Models.ListModelsRequest(), Models.ListModelsResponse(models=[MODEL]),
        lambda models: models, (A_MODEL,),
    ),
    "GetModel": Case(
        lambda client: client.model("m"), Models.GetModelRequest(name="m"), Models.GetModelResponse(model=MODEL),
        lambda model: model, A_MODEL,
    ),
    "LoadModel": Case(
        lambda client: client.load_model("m"), Models.LoadModelRequest(name="m"), Models.LoadModelResponse(model=MODEL),
        lambda model: model, A_MODEL,
    ),
    "UnloadModel": Case(
        lambda client: client.unload_model("m"), Models.UnloadModelRequest(name="m"),
        Models.UnloadModelResponse(model=MODEL), lambda model: model, A_MODEL,
    ),
    "ReloadModel": Case(
        lambda client: client.reload_model("m"), Models.ReloadModelRequest(name="m"),
        Models.ReloadModelResponse(model=MODEL), lambda model: model, A_MODEL,
    ),
    "AcceptLicence": Case(
        lambda client: client.accept_licence("m", "CC BY-NC"),
        Models.AcceptLicenceRequest(name="m", licence="CC BY-NC"), Models.AcceptLicenceResponse(model=MODEL),
        lambda model: model, A_MODEL,
    ),
}  # fmt: skip

SHARED = {"request_id": "id", "detached": True}
STREAMS: dict[str, tuple[Callable[[Any], Any], Message]] = {
    "Generate": (
        lambda client: client.generate(
            "rain", seed=0, seconds=2.0, negative_prompt="wind", omega=3.0, nu=1.0, gamma=0.0, model="tiny", label="l",
            steps=4, within_seconds=1.5, batch=True, keep=True, request_id="id",
        ),
        Generation.GenerateRequest(
            prompt="rain", seed=0, seconds=2.0, negative_prompt="wind", omega=3.0, nu=1.0, gamma=0.0, model="tiny",
            label="l", steps=4, within_seconds=1.5, batch=True, **SHARED,
        ),
    ),
    "GenerateVariations": (
        lambda client: client.generate_variations("rain", 3, seeds=(1, 9), steps=None, keep=True, request_id="id"),
        Generation.GenerateVariationsRequest(
            request=Generation.GenerateRequest(prompt="rain", batch=False, **SHARED), count=3, seeds=[1, 9]
        ),
    ),
    "Refine": (
        lambda client: client.refine("c", steps=4, gamma=0.5, batch=True, keep=True, request_id="id"),
        Generation.RefineRequest(clip_id="c", steps=4, gamma=0.5, batch=True, **SHARED),
    ),
    "RefineProgressively": (
        lambda client: client.refine_progressively("c", steps=(2, 4), gamma=0.5, keep=True, request_id="id"),
        Generation.RefineProgressivelyRequest(clip_id="c", steps=[2, 4], gamma=0.5, **SHARED),
    ),
    "Rerender": (
        lambda client: client.rerender("{}", allow_other_weights=True, keep=True, request_id="id"),
        Generation.RerenderRequest(recipe_json="{}", allow_other_weights=True, **SHARED),
    ),
    "Watch": (lambda client: client.watch("c"), Generation.WatchRequest(clip_id="c")),
}  # fmt: skip


def asked_async(scripted: ScriptedDaemon, call: Callable[[AsyncClient], Any]) -> Any:
    async def ask() -> Any:
        async with AsyncClient(scripted.address, token="x") as client:
            return await call(client)

    return asyncio.run(ask())


@pytest.mark.parametrize("name", CASES)
def test_a_call_sends_what_it_was_given_and_gives_a_value(scripted: ScriptedDaemon, client: Client, name: str) -> None:
    case = CASES[name]
    scripted.answers[name] = lambda request, context: case.response
    assert case.value(case.call(client)) == case.expected
    assert case.value(asked_async(scripted, case.call)) == case.expected
    assert scripted.requests(name) == [case.request, case.request]


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_sends_what_it_was_given_and_ends_with_a_clip(
    scripted: ScriptedDaemon, client: Client, name: str
) -> None:
    call, request = STREAMS[name]
    response = getattr(generation_service_pb2, f"{name}Response")
    scripted.answers[name] = lambda asked, context: [response(event=ready("made"))]
    assert call(client).clip().id == "made"
    assert asked_async(scripted, lambda client: call(client).clip()).id == "made"
    assert scripted.requests(name) == [request, request]


def test_every_call_of_the_contract_is_tested_here() -> None:
    modules = (generation_service_pb2, clip_service_pb2, model_service_pb2)
    services = (service for module in modules for service in module.DESCRIPTOR.services_by_name.values())
    names = {method.name for service in services for method in service.methods}
    assert names == {*CASES, *STREAMS, "Download", "ImportClip"}


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)


def test_every_request_gets_a_name_of_its_own(scripted: ScriptedDaemon, client: Client) -> None:
    scripted.answers["Refine"] = lambda asked, context: [generation_service_pb2.RefineResponse(event=ready())]
    for _ in range(2):
        client.refine("c").clip()
    first, second = (request.request_id for request in scripted.requests("Refine"))
    assert uuid.UUID(first) != uuid.UUID(second)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_all_pages_are_listed_with_the_same_filters(
    scripted: ScriptedDaemon, client: Client, asynchronous: bool
) -> None:
    following = {"": "2", "2": "3", "3": ""}
    scripted.answers["ListClips"] = lambda request, context: clip_service_pb2.ListClipsResponse(
        clips=[clip(f"clip{request.page_token or 1}")], next_page_token=following[request.page_token]
    )

    async def listed(client: AsyncClient) -> list[str]:
        return [found.id async for found in client.all_clips(text="rain", tags=["a"])]

    if asynchronous:
        ids = asked_async(scripted, listed)
    else:
        ids = [found.id for found in client.all_clips(text="rain", tags=["a"])]
    assert ids == ["clip1", "clip2", "clip3"]
    assert [(request.text, list(request.tags)) for request in scripted.requests("ListClips")] == [("rain", ["a"])] * 3


@pytest.mark.parametrize("size_bytes", [0, 1, upload.CHUNK_BYTES, upload.CHUNK_BYTES + 1])
def test_a_file_is_imported_in_chunks_behind_a_header(
    scripted: ScriptedDaemon, client: Client, tmp_path: Path, size_bytes: int
) -> None:
    file = tmp_path / f"{'x' * 220}.wav"
    data = bytes(range(251)) * (size_bytes // 251 + 1)
    file.write_bytes(data[:size_bytes])
    scripted.answers["ImportClip"] = lambda request, context: clip_service_pb2.ImportClipResponse(clip=clip("new"))
    assert client.import_clip(file).id == "new"
    assert asked_async(scripted, lambda client: client.import_clip(file, label="door", tags=["a"])).id == "new"
    for (header, *chunks), label, tags in zip(
        scripted.requests("ImportClip"), ("x" * 200, "door"), ([], ["a"]), strict=True
    ):
        assert header.header == clip_service_pb2.ImportClipHeader(
            label=label, size_bytes=size_bytes, sha256=hashlib.sha256(file.read_bytes()).hexdigest(), tags=tags
        )
        assert b"".join(message.chunk for message in chunks) == file.read_bytes()
        assert all(0 < len(message.chunk) <= upload.CHUNK_BYTES for message in chunks)


def test_a_file_that_cannot_be_read_is_an_os_error_and_nothing_is_sent(
    scripted: ScriptedDaemon, client: Client, tmp_path: Path
) -> None:
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(OSError, match=str(path)):
            client.import_clip(path)
    assert scripted.asked == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda client: client.generate("rain", steps="four"), "steps is 'four'; allowed: a whole number"),
        (lambda client: client.generate("rain", seed=-1), "seed is -1; allowed: a whole number from 0"),
        (lambda client: client.generate("rain", seed=2**32), "seed is 4294967296; allowed: a whole number from 0"),
        (lambda client: client.generate("rain", seconds="long"), "seconds is 'long'; allowed: a number"),
        (lambda client: client.generate("rain", batch="yes"), "batch is 'yes'; allowed: True or False"),
        (lambda client: client.generate(b"\xff"), "allowed: text in Unicode"),
        (lambda client: client.generate("\ud800"), "allowed: text in Unicode"),
        (lambda client: client.generate_variations("rain", seeds=[-1]), r"seeds is \[-1\]; allowed: whole numbers"),
        (lambda client: client.generate_variations("rain", 2**32), "count is 4294967296; allowed: a whole number"),
        (lambda client: client.refine_progressively("c", steps=2), "steps is 2; allowed: whole numbers"),
        (lambda client: client.rerender({"prompt": "rain"}), "recipe_json is {.*}; allowed: text in Unicode"),
        (lambda client: client.clips(tags="rain"), "tags is 'rain'; allowed: several texts, not one"),
        (lambda client: client.clips(created_after="today"), "created_after is 'today'; allowed: a datetime"),
        (lambda client: client.clips(page_size=-1), "page_size is -1; allowed: a whole number"),
        (lambda client: client.update_clip("c", tags="rain"), "tags is 'rain'; allowed: several texts, not one"),
        (lambda client: client.search_clips(), "text is None and clip_id is None; allowed: exactly one"),
        (lambda client: client.search_clips("rain", clip_id="c"), "allowed: exactly one of them"),
    ],
)
def test_a_value_that_fits_no_field_is_refused_with_what_does(
    scripted: ScriptedDaemon, client: Client, call: Callable[[Client], Any], said: str
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=said) as caught:
        call(client)
    assert caught.value.violations
    assert scripted.asked == []


def test_times_are_told_in_any_zone(scripted: ScriptedDaemon, client: Client) -> None:
    scripted.answers["ListClips"] = lambda request, context: clip_service_pb2.ListClipsResponse()
    moment = datetime(2026, 3, 1, 13, tzinfo=UTC) + timedelta(microseconds=5)
    client.clips(created_after=moment)
    (request,) = scripted.requests("ListClips")
    assert request.created_after.ToDatetime(tzinfo=UTC) == moment
