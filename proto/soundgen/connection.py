"""What the sync and the async client share: address, channel options, metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from soundgen import paths
from soundgen.errors import TlsError
from soundgen.tls import Tls, is_loopback, read_authorities, read_identity

UNARY_TIMEOUT_SECONDS = 10.0
GENERATE_TIMEOUT_SECONDS = 600.0  # a queue of refinements on a slow machine; the daemon cancels what it outlives

_LARGEST_ANSWER_BYTES = 64 << 20  # a thousand jobs with the longest prompts are more than gRPC's own 4 MiB

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    # gRPC 1.85's own retries leave calls hanging, deadline or not, when a daemon is killed: see soundgen.patience
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),     # a proxy of the environment cannot reach a socket of this machine
    ("grpc.max_receive_message_length", _LARGEST_ANSWER_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 1000),  # a daemon that was restarted is found again at once
)


@dataclass(frozen=True)
class Connection:
    """`target` is what gRPC dials: `unix:/path` or `host:port`."""

    target: str
    token: str
    tls: Tls | None = None

    @classmethod
    def resolve(
        cls, address: str | None, token: str | None, tls: Tls | None = None, *, plain_text: bool = False
    ) -> Connection:
        """None takes what the environment names, else this machine's daemon and its token file.

        `plain_text` lets the token cross a network unencrypted. Raises UnauthenticatedError when there is no token,
        TlsError when it would cross one without being told, or when the Unix socket is to speak TLS.
        """
        if address is None:
            address, tls = paths.default_address(), tls or paths.default_tls()
        local = address.startswith("unix:")
        if local and tls is not None:
            raise TlsError(f"{address} is a Unix socket, which speaks no TLS. Leave TLS away, or name host:port.")
        if not (local or tls or plain_text or is_loopback(_host(address))):
            raise TlsError(
                f"{address} is on another machine; without TLS the token and all prompts would cross the network "
                "in the clear. Name the authority that signed the daemon's certificate (SOUNDCTM_CA), or forward the "
                "port through SSH."
            )
        return cls(address, paths.read_token() if token is None else token, tls)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    def channel(self) -> grpc.Channel:
        """Raises TlsError."""
        if self.tls is None:
            return grpc.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        return grpc.secure_channel(self.target, credentials(self.tls), options=CHANNEL_OPTIONS)

    def aio_channel(self) -> grpc.aio.Channel:
        """Raises TlsError."""
        if self.tls is None:
            return grpc.aio.insecure_channel(self.target, options=CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self.target, credentials(self.tls), options=CHANNEL_OPTIONS)


def credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Raises TlsError naming the file at fault."""
    if (tls.cert is None) != (tls.key is None):
        raise TlsError("a client's certificate and its key go together: name both (SOUNDCTM_CLIENT_CERT and _KEY).")
    authorities = None if tls.ca is None else read_authorities(tls.ca)
    if tls.cert is None or tls.key is None:
        return grpc.ssl_channel_credentials(authorities)
    identity = read_identity(tls.cert, tls.key, of_client=True)
    return grpc.ssl_channel_credentials(authorities, identity.key, identity.chain)


def _host(address: str) -> str:
    """Of `host:port`, `[::1]:port`, and both behind `dns:///`, `ipv4:` or `ipv6:`."""
    for scheme in ("dns:///", "dns:", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme)
    return address.rpartition(":")[0].strip("[]")
