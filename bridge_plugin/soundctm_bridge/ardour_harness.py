"""A real Ardour without a person in front of it: virtual screen, scratch home, dummy audio device.

Shared by the end-to-end test and `soundctm bridge demo`. Nothing here touches the caller's own Ardour settings:
everything Ardour reads or writes lies under one scratch folder.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from soundctm_bridge.ardour_home import write_scratch_home
from soundctm_bridge.errors import HarnessError
from soundctm_bridge.osc import send
from soundctm_bridge.processes import start_group, stop_group, udp_ports_of_group, wait_until
from soundctm_bridge.virtual_screen import VirtualScreen

# command -> the Debian package that holds it
_NEEDED = {
    "ardour": "ardour",
    "ardour7-lua": "ardour",
    "Xvfb": "xvfb",
    "dbus-run-session": "dbus-x11",
    "import": "imagemagick",
}
_ARDOUR_OSC_PORTS = range(3819, 3839)
_REDRAW_SECONDS = 30.0
_TOOL_SECONDS = 120.0


def missing_packages() -> list[str]:
    """Debian packages a live Ardour needs and this machine lacks; empty when all are there."""
    return sorted({package for command, package in _NEEDED.items() if shutil.which(command) is None})


def _environment(home: Path) -> dict[str, str]:
    """What every process of a scripted Ardour sees.

    ARDOUR_FPU_FLAGS=0 keeps Ardour 7.3 from its AVX-512 routines: on processors that have them, about one render in
    five crashed and one in twelve held full-scale garbage in every second block; without them none of thirty did.
    """
    users = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "DBUS_"))}
    return {**users, "HOME": str(home), "LC_ALL": "C.UTF-8", "ARDOUR_FPU_FLAGS": "0"}


def run_lua(script: str, *arguments: str, home: Path) -> str:
    """Runs one of our scripts under Ardour's own interpreter and returns what it printed.

    Raises HarnessError with what was printed when the script failed.
    """
    with resources.as_file(resources.files("soundctm_bridge") / "scripts" / "ardour" / script) as path:
        done = subprocess.run(
            ["ardour7-lua", str(path), *arguments],
            env=_environment(home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TOOL_SECONDS,
            check=False,
        )
    text = done.stdout + done.stderr
    if done.returncode != 0 or "done" not in text.splitlines():
        raise HarnessError(f"{script} failed with exit code {done.returncode}: {text.strip()}")
    return text


class ArdourSession:
    """A session folder of our own, the scratch home that goes with it, and the live Ardour that may have it open."""

    def __init__(self, folder: Path, *, rate_hz: int = 48_000, tempo_bpm: float = 120.0, name: str = "session") -> None:
        self.folder, self.name, self.rate_hz = folder, name, rate_hz
        self.home = folder / "home"
        self.path = folder / name
        self.file = self.path / f"{name}.ardour"
        self.config_folder = write_scratch_home(self.home, rate_hz)
        run_lua("create_session.lua", str(self.path), name, str(rate_hz), str(tempo_bpm), home=self.home)
        if not self.file.is_file():
            raise HarnessError(f"Ardour made no session file {self.file}")

    def keep_snapshot(self, name: str) -> str:
        """Copies the session file as saved now under another name, which `render` takes later."""
        shutil.copyfile(self.file, self.path / f"{name}.ardour")
        return name

    def render(self, folder: Path, end_samples: int, snapshot: str | None = None) -> Path:
        """Renders a saved session's master bus from 0 to `end_samples` into folder/mix.wav, without a screen.

        snapshot : a name given to `keep_snapshot`; None = the session as it was saved last.
        """
        folder.mkdir(parents=True, exist_ok=True)
        out = folder / "mix.wav"
        arguments = (str(self.path), snapshot or self.name, str(folder), str(end_samples))
        text = run_lua("render_session.lua", *arguments, home=self.home)
        if not out.is_file():
            raise HarnessError(f"Ardour rendered no {out}: {text.strip()}")
        return out


class LiveArdour:
    """A context: Ardour with its window on a virtual screen, the session open and OSC answering.

    extra_environment : what Ardour's own process sees beside the scratch HOME.
    """

    def __init__(
        self,
        session: ArdourSession,
        extra_environment: Mapping[str, str] | None = None,
        start_timeout_seconds: float = 120.0,
    ) -> None:
        self.session = session
        self._extra = dict(extra_environment or {})
        self._start_timeout_seconds = start_timeout_seconds
        self._screen = VirtualScreen(session.folder / "xvfb.log")
        self._stack = ExitStack()
        self._ardour: subprocess.Popen[bytes] | None = None
        self._osc_port = 0
        self.log_file = session.folder / "ardour.log"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._screen)
            self._start_ardour(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def quit(self, timeout_seconds: float = 60.0) -> None:
        """Saves and lets Ardour close the session by itself."""
        self.save()
        self.osc("/access_action", "Common/Quit")
        ardour = self._ardour
        if ardour is not None:
            wait_until("Ardour to quit", lambda: ardour.poll() is not None, timeout_seconds)

    def osc(self, address: str, *arguments: int | float | str) -> None:
        """Sends one message to Ardour's own OSC surface."""
        send(self._osc_port, address, arguments)

    def save(self, timeout_seconds: float = 60.0) -> None:
        """Has Ardour save the session and waits until the file on disk is new and whole."""
        before = self.session.file.stat().st_mtime_ns
        self.osc("/save_state")
        wait_until(
            "Ardour to save its session",
            lambda: self.session.file.is_file() and self.session.file.stat().st_mtime_ns != before,
            timeout_seconds,
        )

    def show_whole_session(self) -> None:
        """Zooms so that everything from the first to the last region fills the window."""
        before = self._screen.picture("ppm:-")
        self.osc("/access_action", "Editor/zoom-to-extents")
        wait_until("Ardour to zoom", lambda: self._screen.picture("ppm:-") != before, _REDRAW_SECONDS)

    def screenshot(self, out: Path) -> Path:
        """Writes a PNG of what is on the virtual screen, once nothing moves on it any more."""
        last = b""

        def still() -> bool:
            nonlocal last
            before, last = last, self._screen.picture("ppm:-")
            return last == before

        wait_until("Ardour to finish drawing", still, _REDRAW_SECONDS)
        out.write_bytes(self._screen.picture("png:-"))
        return out

    def _find_osc_port(self) -> int | None:
        """The UDP port on which Ardour's OSC surface listens: 3819 or, where that is taken, one of the next twenty."""
        if self._ardour is None:
            return None
        return next((port for port in udp_ports_of_group(self._ardour.pid) if port in _ARDOUR_OSC_PORTS), None)

    def _start_ardour(self, stack: ExitStack) -> None:
        session = self.session
        environment = {
            **_environment(session.home),
            "DISPLAY": self._screen.display,
            "ARDOUR_TRY_AUTOSTART_ENGINE": "1",
            **self._extra,
        }
        command = ["dbus-run-session", "--", "ardour", "-a", "-n", str(session.path)]
        with self.log_file.open("wb") as log_file:
            ardour = start_group(command, environment, log_file)
        self._ardour = ardour
        stack.callback(stop_group, ardour)

        def listening() -> int | None:
            if ardour.poll() is not None:
                raise HarnessError(f"Ardour ended with code {ardour.returncode}; see {self.log_file}")
            return self._find_osc_port()

        what = f"Ardour to open {session.path} (see {self.log_file})"
        self._osc_port = wait_until(what, listening, self._start_timeout_seconds)
