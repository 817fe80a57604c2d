"""Wild messages for every call of the contract: hypothesis strategies, made from the descriptors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import strategies as st

from soundgen.v1 import clip_service_pb2, generation_service_pb2, model_service_pb2

SERVICES = (
    generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"],
    clip_service_pb2.DESCRIPTOR.services_by_name["ClipService"],
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)
_ENDLESS = {"grpc.health.v1.Health.Watch"}
METHODS: Mapping[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for service in SERVICES
    for method in service.methods
    if method.full_name not in _ENDLESS
}

_NASTY = (
    "", "\0", "'; DROP TABLE clips; --", "../../etc/passwd", "/", "%s%n", "\u202e", "é" * 1000, "a" * 5000, "{}", "[",
    '{"format": 1}', "nan", "-1", "1e999", "rain", "~", "\N{GRINNING FACE}" * 300, "\r\n", "__proto__",
)  # fmt: skip
_TAME_DOUBLES: Mapping[str, Sequence[float]] = {
    "seconds": (0.5, 0.6, 1.0), "gamma": (0.0, 0.5, 1.0), "omega": (1.0, 3.0), "nu": (1.0, 1.5),
    "within_seconds": (0.1, 0.3),
}  # fmt: skip
_DOUBLES = (0.0, -0.0, 0.5, 1.0, 3.0, 10.0, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"))
_BITS = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}


@dataclass(frozen=True)
class Known:
    """What means something to the daemon: `values` of string fields by name, ids, models, tokens of pages, recipes."""

    values: Mapping[str, Sequence[str]]

    @property
    def words(self) -> list[str]:
        return sorted({word for words in self.values.values() for word in words})


def bodies(method: MethodDescriptor, known: Known) -> st.SearchStrategy[list[bytes]]:
    """What is sent by one call: messages of its type, as they are or damaged; or any bytes; more or fewer of them than
    the call takes."""
    valid = messages(method.input_type, known).map(lambda message: message.SerializeToString())
    damaged = st.builds(_damaged, valid, st.integers(0, 10**6), st.binary(max_size=3))
    one = st.one_of(valid, valid, valid, damaged, st.binary(max_size=200))
    if method.client_streaming:
        return st.lists(one, max_size=4)
    return st.one_of(*[st.lists(one, min_size=1, max_size=1)] * 8, st.lists(one, max_size=3))


@st.composite
def messages(draw: Any, descriptor: Descriptor, known: Known) -> Message:
    """Any of its fields, with any values of their types; or, half of the time, most of them with values that the daemon
    may take."""
    return _message(draw, descriptor, known, tame=draw(st.booleans()))


def _message(draw: Any, descriptor: Descriptor, known: Known, *, tame: bool) -> Message:
    message: Any = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if not draw(st.integers(0, 3)) if tame else draw(st.booleans()):
            continue
        value = partial(_value, draw, field, known, tame=tame)
        if field.is_repeated:
            getattr(message, field.name).extend(value() for _ in range(draw(st.integers(0, 4))))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            getattr(message, field.name).CopyFrom(value())
        else:
            setattr(message, field.name, value())
    return message


def _value(draw: Any, field: FieldDescriptor, known: Known, *, tame: bool) -> Any:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return _message(draw, field.message_type, known, tame=tame)
    return draw(_tame(field, known) if tame else _wild(field, known))


def _tame(field: FieldDescriptor, known: Known) -> st.SearchStrategy[Any]:
    if field.type in _BITS:
        return st.integers(1, 8)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.sampled_from(_TAME_DOUBLES[field.name])
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.sampled_from(known.values.get(field.name) or known.words)
    return _wild(field, known)


def _wild(field: FieldDescriptor, known: Known) -> st.SearchStrategy[Any]:
    if field.type in _BITS:
        low, high = _BITS[field.type]
        return st.one_of(st.integers(max(low, 0), 20), st.sampled_from((low, high)), st.integers(low, high))
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.one_of(st.sampled_from(_DOUBLES), st.floats())
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=300)
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.one_of(st.sampled_from(known.words), st.sampled_from(_NASTY), st.text(max_size=40))
    raise NotImplementedError(f"{field.full_name} is of a type that no call had so far")


def _damaged(body: bytes, position: int, other: bytes) -> bytes:
    """Some bytes exchanged for others, inserted or taken out."""
    at = position % (len(body) + 1)
    return body[:at] + other + body[at + position % 4 :]
