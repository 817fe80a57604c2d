"""The whole product on a scratch folder: a daemon, the bridge, and a live Ardour on a virtual screen with the hook on.

The end-to-end test and the demo both stand on it. What it starts, it ends.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from soundctm_bridge import ardour_install
from soundctm_bridge.adapters.ardour import ArdourAdapter
from soundctm_bridge.adapters.base import SessionState
from soundctm_bridge.ardour_harness import ArdourSession, LiveArdour
from soundctm_bridge.errors import HarnessError, HookSilentError
from soundctm_bridge.osc import LOOPBACK
from soundctm_bridge.osc_client import AnswerError, OscClient
from soundctm_bridge.processes import start_group, stop_group, wait_until
from soundctm_bridge.settings import SPOOL_VARIABLE
from soundgen.paths import answers

_START_SECONDS = 120.0


class Rig:
    """A context in which everything runs.

    extra_hooks : name -> Lua text of further Ardour hooks to switch on.
    environment : added to what the daemon and the bridge see; ardour_environment : to what Ardour sees.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rate_hz: int = 48_000,
        tempo_bpm: float = 120.0,
        extra_hooks: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        ardour_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.session = ArdourSession(folder, rate_hz=rate_hz, tempo_bpm=tempo_bpm)
        self.live = LiveArdour(self.session, ardour_environment)
        self.adapter = ArdourAdapter(self.spool)
        self._extra_hooks = dict(extra_hooks or {})
        self._environment = {
            **os.environ,
            "SOUNDCTM_STATE": str(folder / "state"),
            "XDG_STATE_HOME": str(folder / "xdg_state"),
            SPOOL_VARIABLE: str(self.spool),
            **(environment or {}),
        }
        self._stack = ExitStack()
        self.osc_port = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._enable_hooks()
            daemon = self._start(stack, "daemon", "-m", "soundctm_daemon", "start", "--foreground")
            self.osc_port = _free_udp_port()
            bridge = self._start(stack, "bridge", "-m", "soundctm_bridge", "run", "--port", str(self.osc_port))
            stack.enter_context(self.live)
            self._wait_for("the daemon", daemon, lambda: answers(self.folder / "state" / "daemon.sock"))
            self._wait_for("the hook's state", bridge, lambda: self.state() is not None)
            self._wait_for("the bridge", bridge, self._bridge_answers)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def state(self) -> SessionState | None:
        """The session as the hook sees it; None while it does not answer."""
        try:
            return self.adapter.state()
        except HookSilentError:
            return None

    def locate(self, position_samples: int) -> None:
        """Puts the playhead there and waits until the hook sees it."""
        self.live.osc("/locate", position_samples, 0)

        def there() -> bool:
            state = self.state()
            return state is not None and state.position_samples == position_samples

        wait_until(f"the playhead to stand at sample {position_samples}", there, _START_SECONDS)

    def client(self) -> OscClient:
        """A client of the bridge; close it."""
        return OscClient(self.osc_port)

    def log_of(self, process: str) -> str:
        """What "daemon" or "bridge" has written so far."""
        return (self.folder / f"{process}.log").read_text(errors="replace")

    def _enable_hooks(self) -> None:
        version = ardour_install.ardour_version()
        config_folder = self.session.config_folder
        ardour_install.install_hook(config_folder, self.spool)
        ardour_install.enable_hook(config_folder, ardour_install.hook_source(self.spool), version)
        for name, source in self._extra_hooks.items():
            ardour_install.enable_hook(config_folder, source, version, name)

    def _start(self, stack: ExitStack, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log_file:
            process = start_group([sys.executable, *arguments], self._environment, log_file)
        stack.callback(stop_group, process)
        return process

    def _wait_for(self, what: str, process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
        def met() -> bool:
            if process.poll() is not None:
                code = process.returncode
                raise HarnessError(f"waiting for {what}: its process ended with code {code}; logs in {self.folder}")
            return condition()

        wait_until(f"{what} (logs in {self.folder})", met, _START_SECONDS)

    def _bridge_answers(self) -> bool:
        with self.client() as client:
            try:
                return client.ask("status", timeout_seconds=1.0).fields["daemon"] == "serving"
            except AnswerError:
                return False


def _free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
