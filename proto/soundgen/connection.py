"""What the sync and the async client share: address, channel options, metadata, the settings a call takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypedDict

from soundgen import paths

UNARY_TIMEOUT_SECONDS = 10.0
GENERATE_TIMEOUT_SECONDS = 600.0  # a queue of refinements on a slow machine; the daemon cancels what it outlives

# A call that never reached the daemon is sent again: 4 tries, 0.1 s to 1 s apart.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.enable_http_proxy", 0),     # a proxy of the environment cannot reach a socket of this machine
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class GenerateSettings(TypedDict, total=False):
    """Absent or None takes the model's default. Units and ranges as in GenerateRequest."""

    negative_prompt: str | None
    seed: int | None
    seconds: float | None
    steps: int | None
    gamma: float | None
    omega: float | None
    nu: float | None
    model: str | None
    label: str | None


class RefineSettings(TypedDict, total=False):
    """Absent or None: 16 jumps, and the clip's own gamma."""

    steps: int | None
    gamma: float | None


@dataclass(frozen=True)
class Connection:
    """`target` is what gRPC dials: `unix:/path` or `host:port`."""

    target: str
    token: str

    @classmethod
    def resolve(cls, address: str | None, token: str | None) -> Connection:
        """None takes this machine's daemon and its token file. Raises UnauthenticatedError when that is missing."""
        return cls(address or paths.default_address(), paths.read_token() if token is None else token)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)
