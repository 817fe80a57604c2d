"""Values -> the messages of the contract. Settings that are None or absent stay absent: the daemon fills them in.

Every function raises InvalidRequestError where a value does not fit its field's type; ranges are the daemon's to judge.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, TypeVar, Unpack

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from soundgen.errors import FieldViolation, InvalidRequestError
from soundgen.v1 import clip_service_pb2, generation_service_pb2

_Request = TypeVar("_Request", bound=Message)
_ALLOWED = {
    FieldDescriptor.TYPE_BOOL: "True or False",
    FieldDescriptor.TYPE_UINT32: "a whole number from 0 to 4294967295",
    FieldDescriptor.TYPE_UINT64: "a whole number from 0 to 18446744073709551615",
    FieldDescriptor.TYPE_DOUBLE: "a number",
    FieldDescriptor.TYPE_STRING: "text in Unicode",
    FieldDescriptor.TYPE_MESSAGE: "a datetime",
}
_LISTS_ALLOWED = {
    FieldDescriptor.TYPE_UINT32: "whole numbers from 0 to 4294967295",
    FieldDescriptor.TYPE_STRING: "several texts, not one",
}


class CallSettings(TypedDict, total=False):
    """keep : the clip goes on when the iteration ends early or the program leaves; follow it again with `watch`.

    request_id : names the request, so that sending it again makes no second clip. Made up when absent.
    """

    keep: bool
    request_id: str | None


class RefineSettings(CallSettings, total=False):
    """Absent or None: 16 jumps, and the clip's own gamma. batch : it goes after everything else."""

    steps: int | None
    gamma: float | None
    batch: bool


class ProgressiveSettings(CallSettings, total=False):
    """steps : numbers of jumps, rising. Absent: 1, 2, 4, 8 and 16, less those the clip has already."""

    steps: Iterable[int] | None
    gamma: float | None


class VariationSettings(CallSettings, total=False):
    """Absent or None takes the model's default. Units and ranges as in GenerateRequest.

    batch : it goes after everything else.
    """

    negative_prompt: str | None
    seed: int | None
    seconds: float | None
    steps: int | None
    gamma: float | None
    omega: float | None
    nu: float | None
    model: str | None
    label: str | None
    batch: bool


class GenerateSettings(VariationSettings, total=False):
    """within_seconds : the best take that can be had in so much time, instead of one of `steps` jumps."""

    within_seconds: float | None


class ClipFilters(TypedDict, total=False):
    """All must hold. text : words that the prompt, the name or the notes hold. tags : all of them.

    created_after, created_before : without a time zone, this machine's. deleted : only deleted clips, else none.
    """

    text: str | None
    tags: Sequence[str] | None
    favourites_only: bool
    created_after: datetime | None
    created_before: datetime | None
    deleted: bool


class ClipChanges(TypedDict, total=False):
    """Absent or None stays as it is. tags : replace all there are; an empty list removes them."""

    label: str | None
    favourite: bool | None
    notes: str | None
    tags: Iterable[str] | None


def generate(prompt: str, **settings: Unpack[GenerateSettings]) -> generation_service_pb2.GenerateRequest:
    return filled(generation_service_pb2.GenerateRequest(), prompt=prompt, **_named(settings))


def variations(
    prompt: str, count: int, seeds: Iterable[int] | None, **settings: Unpack[VariationSettings]
) -> generation_service_pb2.GenerateVariationsRequest:
    """`seeds` are taken as they are; without them `count` seeds follow one another."""
    request = generation_service_pb2.GenerateVariationsRequest(request=generate(prompt, **settings))
    return filled(request, count=count, seeds=seeds)


def refine(clip_id: str, **settings: Unpack[RefineSettings]) -> generation_service_pb2.RefineRequest:
    return filled(generation_service_pb2.RefineRequest(), clip_id=clip_id, **_named(settings))


def refine_progressively(
    clip_id: str, **settings: Unpack[ProgressiveSettings]
) -> generation_service_pb2.RefineProgressivelyRequest:
    return filled(generation_service_pb2.RefineProgressivelyRequest(), clip_id=clip_id, **_named(settings))


def rerender(
    recipe_json: str, allow_other_weights: bool, **settings: Unpack[CallSettings]
) -> generation_service_pb2.RerenderRequest:
    request = generation_service_pb2.RerenderRequest()
    return filled(request, recipe_json=recipe_json, allow_other_weights=allow_other_weights, **_named(settings))


def watch(clip_id: str) -> generation_service_pb2.WatchRequest:
    return filled(generation_service_pb2.WatchRequest(), clip_id=clip_id)


def list_clips(
    page_size: int, page_token: str, **filters: Unpack[ClipFilters]
) -> clip_service_pb2.ListClipsRequest:
    return filled(clip_service_pb2.ListClipsRequest(), page_size=page_size, page_token=page_token, **filters)


def update_clip(clip_id: str, **changes: Unpack[ClipChanges]) -> clip_service_pb2.UpdateClipRequest:
    tags = changes.pop("tags", None)
    request = filled(clip_service_pb2.UpdateClipRequest(), clip_id=clip_id, **changes)
    if tags is not None:
        request.tags.SetInParent()  # an empty list is sent too
        filled(request.tags, tags=tags)
    return request


def search_clips(text: str | None, clip_id: str | None, limit: int) -> clip_service_pb2.SearchClipsRequest:
    if (text is None) == (clip_id is None):
        seen = f"text is {text!r} and clip_id is {clip_id!r}; allowed: exactly one of them"
        raise InvalidRequestError(seen, violations=[FieldViolation("like", seen)])
    return filled(clip_service_pb2.SearchClipsRequest(), text=text, clip_id=clip_id, limit=limit)


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of settings; a request that names itself can be sent again."""
    fields = {name: value for name, value in settings.items() if name != "keep"}
    fields["request_id"] = settings.get("request_id") or str(uuid.uuid4())
    fields["detached"] = settings.get("keep", False)
    return fields


def filled(request: _Request, **fields: Any) -> _Request:
    """The request itself, with those of the fields that are not None."""
    violations = []
    for name, value in fields.items():
        if value is None:
            continue
        field = request.DESCRIPTOR.fields_by_name[name]
        try:
            _set(request, field, value)
        except (TypeError, ValueError, OverflowError):
            allowed = (_LISTS_ALLOWED if field.is_repeated else _ALLOWED)[field.type]
            violations.append(FieldViolation(name, f"{name} is {value!r}; allowed: {allowed}"))
    if violations:
        raise InvalidRequestError("; ".join(v.description for v in violations), violations=violations)
    return request


def _set(request: Message, field: Any, value: Any) -> None:
    if field.is_repeated:
        if isinstance(value, str):
            raise TypeError("a text would become its letters")
        getattr(request, field.name).extend(value)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        if not isinstance(value, datetime):
            raise TypeError("no point in time")
        moment = Timestamp()
        moment.FromDatetime(value.astimezone())
        getattr(request, field.name).CopyFrom(moment)
    else:
        setattr(request, field.name, value)
