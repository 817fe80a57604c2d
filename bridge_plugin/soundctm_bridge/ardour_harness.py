"""A real Ardour without a person in front of it: virtual screen, scratch home, dummy audio device.

Shared by the end-to-end test and `soundctm bridge demo`. Nothing here touches the caller's own Ardour settings:
everything Ardour reads or writes lies under one scratch folder.
"""

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

from pythonosc.udp_client import SimpleUDPClient

from soundctm_bridge.ardour_home import write_scratch_home
from soundctm_bridge.errors import HarnessError

log = logging.getLogger(__name__)

# command -> the Debian package that holds it
_NEEDED = {
    "ardour": "ardour",
    "ardour7-lua": "ardour",
    "Xvfb": "xvfb",
    "dbus-run-session": "dbus-x11",
    "import": "imagemagick",
}
_POLL_SECONDS = 0.05
_ARDOUR_OSC_PORTS = range(3819, 3839)
_STOP_SECONDS = 10.0
_TOOL_SECONDS = 120.0
SCREEN_WIDTH, SCREEN_HEIGHT = 1280, 900
T = TypeVar("T")


def missing_packages() -> list[str]:
    """Debian packages a live Ardour needs and this machine lacks; empty when all are there."""
    return sorted({package for command, package in _NEEDED.items() if shutil.which(command) is None})


def wait_until(what: str, condition: Callable[[], T | None], timeout_seconds: float) -> T:
    """Polls until `condition` returns something true and returns that.

    Raises HarnessError naming `what` when `timeout_seconds` pass first.
    """
    end = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise HarnessError(f"waited {timeout_seconds:g} s for {what}: it did not happen")
        time.sleep(_POLL_SECONDS)


def start_group(command: list[str], environment: Mapping[str, str], log_file: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts `command` as the leader of its own process group, so that stopping it stops its children too."""
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log_file,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Asks a process group to end, then kills what is left of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("%s ignored signal %d", process.args, number)
    process.wait(_STOP_SECONDS)


def run_lua(script: str, *arguments: str, home: Path) -> str:
    """Runs one of our scripts under Ardour's own interpreter and returns what it printed.

    Raises HarnessError with that text when the script failed.
    """
    with resources.as_file(resources.files("soundctm_bridge") / "scripts" / "ardour" / script) as path:
        done = subprocess.run(
            ["ardour7-lua", str(path), *arguments],
            env={**os.environ, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TOOL_SECONDS,
            check=False,
        )
    text = done.stdout + done.stderr
    if done.returncode != 0 or "Error" in text:
        raise HarnessError(f"{script} failed with exit code {done.returncode}: {text.strip()}")
    return text


def udp_ports_of_group(group: int) -> set[int]:
    """The UDP ports on which any process of a process group listens (Linux: read from /proc)."""
    inodes = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == group:
                inodes |= {link.readlink().name for link in (folder / "fd").iterdir()}
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue  # it ended, or is not ours
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in inodes}


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

    def render(self, folder: Path, end_samples: int) -> Path:
        """Renders the saved session's master bus from 0 to `end_samples` into folder/mix.wav, without a screen."""
        folder.mkdir(parents=True, exist_ok=True)
        out = folder / "mix.wav"
        text = run_lua("render_session.lua", str(self.path), self.name, str(folder), str(end_samples), home=self.home)
        if not out.is_file():
            raise HarnessError(f"Ardour rendered no {out}: {text.strip()}")
        return out


class LiveArdour:
    """A context: Ardour with its window on a virtual screen, the session open and OSC answering.

    extra_environment : what Ardour's own process sees beside the scratch HOME (the bridge's spool folder).
    """

    def __init__(
        self,
        session: ArdourSession,
        extra_environment: Mapping[str, str] | None = None,
        start_timeout_seconds: float = 60.0,
    ) -> None:
        self.session = session
        self._extra = dict(extra_environment or {})
        self._start_timeout_seconds = start_timeout_seconds
        self._screen: subprocess.Popen[bytes] | None = None
        self._ardour: subprocess.Popen[bytes] | None = None
        self._display = ""
        self._osc_port = 0
        self.log_file = session.folder / "ardour.log"

    def __enter__(self) -> Self:
        try:
            self._start_screen()
            self._start_ardour()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends Ardour and its screen, whatever state they are in."""
        for process in (self._ardour, self._screen):
            if process is not None:
                stop_group(process)
        self._ardour = self._screen = None

    def quit(self, timeout_seconds: float = 30.0) -> None:
        """Saves and lets Ardour close the session by itself, then takes the screen away."""
        self.save()
        self.osc("/access_action", "Common/Quit")
        ardour = self._ardour
        if ardour is not None:
            wait_until("Ardour to quit", lambda: ardour.poll() is not None, timeout_seconds)
        self.stop()

    def osc(self, address: str, *arguments: int | float | str) -> None:
        """Sends one message to Ardour's own OSC surface."""
        SimpleUDPClient("127.0.0.1", self._osc_port).send_message(address, list(arguments))

    def save(self, timeout_seconds: float = 20.0) -> None:
        """Has Ardour save the session and waits until the file on disk is new and whole."""
        before = self.session.file.stat().st_mtime_ns
        self.osc("/save_state")
        wait_until(
            "Ardour to save its session",
            lambda: self.session.file.is_file() and self.session.file.stat().st_mtime_ns != before,
            timeout_seconds,
        )

    def screenshot(self, out: Path) -> Path:
        """Writes a PNG of the whole virtual screen."""
        done = subprocess.run(
            ["import", "-window", "root", str(out)],
            env={**os.environ, "DISPLAY": self._display},
            capture_output=True,
            text=True,
            timeout=_TOOL_SECONDS,
            check=False,
        )
        if done.returncode != 0 or not out.is_file():
            raise HarnessError(f"the screenshot failed: {done.stderr.strip()}")
        return out

    def _find_osc_port(self) -> int | None:
        """The UDP port on which Ardour's OSC surface listens: 3819 or, where that is taken, one of the next twenty."""
        if self._ardour is None:
            return None
        return next((port for port in udp_ports_of_group(self._ardour.pid) if port in _ARDOUR_OSC_PORTS), None)

    def _start_screen(self) -> None:
        read, write = os.pipe()
        with (self.session.folder / "xvfb.log").open("wb") as log_file:
            self._screen = subprocess.Popen(
                ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{SCREEN_WIDTH}x{SCREEN_HEIGHT}x24", "-nolisten", "tcp"],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                pass_fds=(write,),
                start_new_session=True,
            )
        os.close(write)
        with os.fdopen(read, "r") as lines:
            number = lines.readline().strip()
        if not number:
            raise HarnessError(f"Xvfb did not start; see {self.session.folder / 'xvfb.log'}")
        self._display = f":{number}"

    def _start_ardour(self) -> None:
        session = self.session
        environment = {
            **os.environ,
            "HOME": str(session.home),
            "DISPLAY": self._display,
            "ARDOUR_TRY_AUTOSTART_ENGINE": "1",
            "LC_ALL": "C.UTF-8",
            **self._extra,
        }
        for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"):
            environment.pop(name, None)
        with self.log_file.open("wb") as log_file:
            ardour = start_group(["dbus-run-session", "--", "ardour", "-a", "-n", str(session.path)], environment, log_file)
        self._ardour = ardour

        def listening() -> int | None:
            if ardour.poll() is not None:
                raise HarnessError(f"Ardour ended with code {ardour.returncode}; see {self.log_file}")
            return self._find_osc_port()

        what = f"Ardour to open {session.path} (see {self.log_file})"
        self._osc_port = wait_until(what, listening, self._start_timeout_seconds)
