"""gRPC's health service, complete: the library's own lacks List, and its log tells every call of it as a defect."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health, health_pb2

from soundctm_daemon.calls import Context


class HealthService(health.aio.HealthServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, None] = {}  # in the order in which they were first set

    async def set(self, service: str, status: Any) -> None:
        self._names[service] = None
        await super().set(service, status)

    async def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, context: Context
    ) -> health_pb2.HealthListResponse:
        """Every service whose health was ever told."""
        asked = {name: health_pb2.HealthCheckRequest(service=name) for name in self._names}
        statuses = {name: await self.Check(check, context) for name, check in asked.items()}
        return health_pb2.HealthListResponse(statuses=statuses)
