"""The models: what is installed, and in what state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from soundctm.errors import BundleError
from soundctm_daemon import wire
from soundctm_daemon.calls import Context, or_abort
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.requests import LONGEST_NAME
from soundctm_daemon.worker import EngineState
from soundgen.v1 import model_service_pb2, model_service_pb2_grpc


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, catalogue: Catalogue, state: Callable[[], EngineState]) -> None:
        self._catalogue, self._state = catalogue, state

    async def ListModels(  # noqa: N802
        self, request: model_service_pb2.ListModelsRequest, context: Context
    ) -> model_service_pb2.ListModelsResponse:
        return model_service_pb2.ListModelsResponse(models=await asyncio.to_thread(self._all))

    async def GetModel(  # noqa: N802
        self, request: model_service_pb2.GetModelRequest, context: Context
    ) -> model_service_pb2.GetModelResponse:
        model = await or_abort(context, lambda: self._one(request.name[:LONGEST_NAME]))
        return model_service_pb2.GetModelResponse(model=model)

    def _one(self, name: str) -> model_service_pb2.Model:
        name, bundle = self._catalogue.find(name)
        return wire.model_message(name, bundle, name == self._catalogue.default_name, self._state())

    def _all(self) -> list[model_service_pb2.Model]:
        models = []
        for name in self._catalogue.names():
            try:
                models.append(self._one(name))
            except BundleError as error:
                models.append(wire.unusable_model_message(name, name == self._catalogue.default_name, error))
        return models
