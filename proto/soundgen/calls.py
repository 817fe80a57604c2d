"""The calls that get one answer, written down once for the sync and the async client: what is sent, and what the
answer means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Unpack

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc

from soundgen import requests, types, wire
from soundgen.v1 import (
    clip_service_pb2,
    clip_service_pb2_grpc,
    generation_service_pb2,
    generation_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

Value = TypeVar("Value")
_SERVICES: tuple[tuple[Any, str, Any], ...] = (
    (generation_service_pb2, "GenerationService", generation_service_pb2_grpc.GenerationServiceStub),
    (clip_service_pb2, "ClipService", clip_service_pb2_grpc.ClipServiceStub),
    (model_service_pb2, "ModelService", model_service_pb2_grpc.ModelServiceStub),
    (health_pb2, "Health", health_pb2_grpc.HealthStub),
)


@dataclass(frozen=True)
class Call(Generic[Value]):
    """`decode` takes the answer. `method` is as `method_of` names it."""

    method: str
    request: Message | Iterator[Message]
    decode: Callable[[Any], Value]

    @property
    def repeatable(self) -> bool:
        """It may be sent again where nobody answered; an upload's parts are gone by then."""
        return isinstance(self.request, Message)

    @classmethod
    def of(cls, request: Message, decode: Callable[[Any], Value]) -> Call[Value]:
        return cls(method_of(request), request, decode)


def method_of(request: Message) -> str:
    """The full name of the request's type: the contract gives every call a type of its own."""
    return str(request.DESCRIPTOR.full_name)


def methods(channel: Any) -> dict[str, Any]:
    """What `method_of` names -> the call of this channel. Health's two calls share a type: of them, Check."""
    found = {}
    for module, name, stub in _SERVICES:
        calls = stub(channel)
        for method in reversed(module.DESCRIPTOR.services_by_name[name].methods):
            found[method.input_type.full_name] = getattr(calls, method.name)
    return found


def serving() -> Call[bool]:
    request = health_pb2.HealthCheckRequest()
    return Call.of(request, lambda response: bool(response.status == health_pb2.HealthCheckResponse.SERVING))


def cancel(clip_id: str) -> Call[None]:
    return Call.of(requests.filled(generation_service_pb2.CancelRequest(), clip_id=clip_id), lambda response: None)


def jobs(include_ended: bool) -> Call[tuple[types.Job, ...]]:
    request = requests.filled(generation_service_pb2.ListJobsRequest(), include_ended=include_ended)
    return Call.of(request, lambda response: tuple(wire.job(job) for job in response.jobs))


def clip(clip_id: str) -> Call[types.Clip]:
    return _clip(requests.filled(clip_service_pb2.GetClipRequest(), clip_id=clip_id))


def clips(page_size: int, page_token: str, **filters: Unpack[requests.ClipFilters]) -> Call[types.ClipPage]:
    return Call.of(requests.list_clips(page_size, page_token, **filters), wire.clip_page)


def update_clip(clip_id: str, **changes: Unpack[requests.ClipChanges]) -> Call[types.Clip]:
    return _clip(requests.update_clip(clip_id, **changes))


def delete_clip(clip_id: str) -> Call[types.Clip]:
    return _clip(requests.filled(clip_service_pb2.DeleteClipRequest(), clip_id=clip_id))


def undelete_clip(clip_id: str) -> Call[types.Clip]:
    return _clip(requests.filled(clip_service_pb2.UndeleteClipRequest(), clip_id=clip_id))


def search_clips(text: str | None, clip_id: str | None, limit: int) -> Call[tuple[types.SearchHit, ...]]:
    return Call.of(requests.search_clips(text, clip_id, limit), wire.search_hits)


def export_recipe(clip_id: str) -> Call[str]:
    request = requests.filled(clip_service_pb2.ExportRecipeRequest(), clip_id=clip_id)
    return Call.of(request, lambda response: str(response.recipe_json))


def import_clip(messages: Iterator[clip_service_pb2.ImportClipRequest]) -> Call[types.Clip]:
    method = clip_service_pb2.ImportClipRequest.DESCRIPTOR.full_name
    return Call(method, messages, lambda response: wire.clip(response.clip))


def models() -> Call[tuple[types.Model, ...]]:
    request = model_service_pb2.ListModelsRequest()
    return Call.of(request, lambda response: tuple(wire.model(model) for model in response.models))


def model(name: str) -> Call[types.Model]:
    return _model(requests.filled(model_service_pb2.GetModelRequest(), name=name))


def load_model(name: str) -> Call[types.Model]:
    return _model(requests.filled(model_service_pb2.LoadModelRequest(), name=name))


def unload_model(name: str) -> Call[types.Model]:
    return _model(requests.filled(model_service_pb2.UnloadModelRequest(), name=name))


def reload_model(name: str) -> Call[types.Model]:
    return _model(requests.filled(model_service_pb2.ReloadModelRequest(), name=name))


def accept_licence(name: str, licence: str) -> Call[types.Model]:
    return _model(requests.filled(model_service_pb2.AcceptLicenceRequest(), name=name, licence=licence))


def _clip(request: Message) -> Call[types.Clip]:
    return Call.of(request, lambda response: wire.clip(response.clip))


def _model(request: Message) -> Call[types.Model]:
    return Call.of(request, lambda response: wire.model(response.model))
