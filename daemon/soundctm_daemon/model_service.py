"""The models: what is installed, in what state, under which licence; loading, unloading and reloading them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from soundctm.errors import BundleError, FieldViolation, InvalidRequestError
from soundctm_daemon import wire
from soundctm_daemon.calls import Context, answered, or_abort
from soundctm_daemon.catalogue import Catalogue
from soundctm_daemon.engines import EnginePool
from soundctm_daemon.requests import LONGEST_NAME
from soundgen.v1 import model_service_pb2, model_service_pb2_grpc

_LONGEST_LICENCE = 1000  # characters


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Models are loaded on a thread of their own, one after another: clips of those in memory go on meanwhile."""

    def __init__(self, catalogue: Catalogue, pool: EnginePool) -> None:
        self._catalogue, self._pool = catalogue, pool
        self._changes = ThreadPoolExecutor(1, "models")

    async def ListModels(  # noqa: N802
        self, request: model_service_pb2.ListModelsRequest, context: Context
    ) -> model_service_pb2.ListModelsResponse:
        return model_service_pb2.ListModelsResponse(models=await asyncio.to_thread(self._all))

    async def GetModel(  # noqa: N802
        self, request: model_service_pb2.GetModelRequest, context: Context
    ) -> model_service_pb2.GetModelResponse:
        model = await or_abort(context, lambda: self._one(request.name[:LONGEST_NAME]))
        return model_service_pb2.GetModelResponse(model=model)

    async def LoadModel(  # noqa: N802
        self, request: model_service_pb2.LoadModelRequest, context: Context
    ) -> model_service_pb2.LoadModelResponse:
        return model_service_pb2.LoadModelResponse(model=await self._changed(context, self._load, request.name))

    async def UnloadModel(  # noqa: N802
        self, request: model_service_pb2.UnloadModelRequest, context: Context
    ) -> model_service_pb2.UnloadModelResponse:
        return model_service_pb2.UnloadModelResponse(model=await self._changed(context, self._unload, request.name))

    async def ReloadModel(  # noqa: N802
        self, request: model_service_pb2.ReloadModelRequest, context: Context
    ) -> model_service_pb2.ReloadModelResponse:
        return model_service_pb2.ReloadModelResponse(model=await self._changed(context, self._reload, request.name))

    async def AcceptLicence(  # noqa: N802
        self, request: model_service_pb2.AcceptLicenceRequest, context: Context
    ) -> model_service_pb2.AcceptLicenceResponse:
        model = await or_abort(context, lambda: self._accept(request.name[:LONGEST_NAME], request.licence))
        return model_service_pb2.AcceptLicenceResponse(model=model)

    async def _changed(self, context: Context, change: Callable[[str], None], name: str) -> model_service_pb2.Model:
        """The model after the change. A caller who leaves before it began takes it back."""
        name = name[:LONGEST_NAME]
        await answered(context, asyncio.get_running_loop().run_in_executor(self._changes, change, name))
        return await or_abort(context, lambda: self._one(name))

    def _load(self, name: str) -> None:
        self._pool.get(self._catalogue.look_up(name)[1])

    def _unload(self, name: str) -> None:
        self._pool.unload(self._catalogue.look_up(name)[1].digest)

    def _reload(self, name: str) -> None:
        """The new weights beside the old ones, which stay in service until the new ones are warm."""
        name, old = self._catalogue.look_up(name)
        new = self._catalogue.read(name)
        if new.digest == old.digest:
            new.verify()
        self._pool.pin(old.digest)
        try:
            self._pool.get(new)
        finally:
            self._pool.unpin(old.digest)
        self._catalogue.put_in_service(name, new)

    def _accept(self, name: str, licence: str) -> model_service_pb2.Model:
        name, bundle = self._catalogue.look_up(name)
        if licence != bundle.spec.licence:
            seen = repr(licence) if len(licence) <= _LONGEST_LICENCE else f"{len(licence)} characters long"
            raise InvalidRequestError([FieldViolation("licence", seen, f"{bundle.spec.licence!r}, as the model says")])
        self._catalogue.accepted.accept(bundle.digest, licence, name)
        return self._one(name)

    def _one(self, name: str) -> model_service_pb2.Model:
        name, bundle = self._catalogue.look_up(name)
        return wire.model_message(
            name,
            bundle,
            is_default=name == self._catalogue.default_name,
            state=self._pool.states().get(bundle.digest),
            memory_bytes=self._pool.measured_bytes(bundle.digest),
            licence_accepted=(bundle.digest, bundle.spec.licence) in self._catalogue.accepted,
        )

    def _all(self) -> list[model_service_pb2.Model]:
        models = []
        for name in self._catalogue.names():
            try:
                models.append(self._one(name))
            except BundleError as error:
                models.append(wire.unusable_model_message(name, name == self._catalogue.default_name, error))
        return models
