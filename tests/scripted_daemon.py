"""A server of the whole contract that is not the daemon: every call does what a test sets, and notes what was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from datetime import UTC, datetime
from typing import Any, Self

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from soundgen.v1 import clip_pb2, clip_service_pb2, generation_service_pb2, model_service_pb2

_MODULES = (generation_service_pb2, clip_service_pb2, model_service_pb2)
_THREADS = 8
MADE_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)

Answer = Callable[[Any, grpc.ServicerContext], Any]


class ScriptedDaemon:
    """`answers` by the name of the call: a function of request and context, for a stream one that yields.

    `asked` holds (name of the call, request) in the order they came; a stream of requests as a list.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, Any]] = []
        self._server: Any = None

    def __enter__(self) -> Self:
        self._server = grpc.server(futures.ThreadPoolExecutor(_THREADS))
        for module in _MODULES:
            for service in module.DESCRIPTOR.services_by_name.values():
                handlers = {method.name: self._handler(method) for method in service.methods}
                self._server.add_generic_rpc_handlers(
                    (grpc.method_handlers_generic_handler(service.full_name, handlers),)
                )
        self._server.add_insecure_port(self.address)
        self._server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.stop(None).wait()

    def requests(self, name: str) -> list[Any]:
        return [request for asked, request in self.asked if asked == name]

    def _handler(self, method: MethodDescriptor) -> Any:
        request, response = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        name = method.name

        def answer(asked: Any, context: grpc.ServicerContext) -> Any:
            if method.client_streaming:
                asked = list(asked)
            self.asked.append((name, asked))
            if name not in self.answers:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "no test has set this")
            return self.answers[name](asked, context)

        def stream(asked: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            yield from answer(asked, context)

        serialisation = {"request_deserializer": request.FromString, "response_serializer": response.SerializeToString}
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(answer, **serialisation)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, **serialisation)
        return grpc.unary_unary_rpc_method_handler(answer, **serialisation)


def clip(clip_id: str = "clip", **fields: Any) -> clip_pb2.Clip:
    made_at = Timestamp()
    made_at.FromDatetime(MADE_AT)
    recipe = clip_pb2.Recipe(model="tiny", prompt="rain", seed=7, steps=1, seconds=1.0)
    return clip_pb2.Clip(
        **{"id": clip_id, "recipe": recipe, "label": "rain", "created_at": made_at, "sample_rate_hz": 44100, **fields}
    )


def queued(clip_id: str = "clip", position: int = 0) -> generation_service_pb2.ClipEvent:
    recipe = clip_pb2.Recipe(model="tiny", prompt="rain", seed=7, steps=2)
    state = generation_service_pb2.Queued(position=position, recipe=recipe)
    return generation_service_pb2.ClipEvent(clip_id=clip_id, queued=state)


def started(clip_id: str = "clip") -> generation_service_pb2.ClipEvent:
    return generation_service_pb2.ClipEvent(clip_id=clip_id, started=generation_service_pb2.Started())


def jump(done: int, total: int, clip_id: str = "clip") -> generation_service_pb2.ClipEvent:
    return generation_service_pb2.ClipEvent(clip_id=clip_id, jump=generation_service_pb2.Jump(done=done, total=total))


def ready(clip_id: str = "clip") -> generation_service_pb2.ClipEvent:
    return generation_service_pb2.ClipEvent(
        clip_id=clip_id, clip_ready=generation_service_pb2.ClipReady(clip=clip(clip_id))
    )


def failed(clip_id: str, reason: str, message: str) -> generation_service_pb2.ClipEvent:
    failure = generation_service_pb2.Failed(reason=reason, message=message)
    return generation_service_pb2.ClipEvent(clip_id=clip_id, failed=failure)
