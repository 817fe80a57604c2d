"""What `soundctm doctor` asks about the bridge: Ardour, its hook, the OSC port.

A bridge is not needed to make sounds: what is merely missing is worth knowing, what would not work is wrong.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from soundctm_bridge import ardour_install, settings
from soundctm_bridge.errors import InstallError
from soundctm_bridge.osc import LOOPBACK
from soundctm_bridge.osc_client import AnswerError, OscClient

_ANSWER_SECONDS = 3.0

Found = tuple[str, bool | None, str]  # the fields of soundctm.checks.Finding, which this room does not know


def checks() -> Iterator[Found]:
    yield _ardour()
    yield _hook()
    yield _port(settings.DEFAULT_OSC_PORT)


def _ardour() -> Found:
    try:
        return "Ardour", True, f"version {ardour_install.ardour_version()}"
    except InstallError as error:
        return "Ardour", None, f"{error}; only `soundctm bridge` needs it"


def _hook() -> Found:
    check, folder, spool = "Ardour hook", settings.ardour_config_folder(), settings.spool_folder()
    if not ardour_install.hook_is_installed(folder):
        return check, None, "not installed; `soundctm bridge install ardour` puts clips onto Ardour's timeline"
    if not ardour_install.hook_is_current(folder, spool):
        cure = "run `soundctm bridge install ardour --enable` with Ardour closed"
        return check, False, f"of another version, or for another folder than {spool}; {cure}"
    try:
        if ardour_install.hook_is_enabled(folder):
            return check, True, f"installed and on; it meets the bridge in {spool}"
    except InstallError as error:
        return check, False, f"{error}"
    return check, None, "installed, not switched on: `soundctm bridge install ardour --enable` with Ardour closed"


def _port(port: int) -> Found:
    check, elsewhere = "bridge", "give `soundctm bridge run` another --port"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return check, False, f"UDP port {port} cannot be opened ({error.strerror}); {elsewhere}"
        else:
            return check, None, f"not running; `soundctm bridge run` starts it on UDP port {port}"
    try:
        with OscClient(port) as client:
            daw = client.ask("status", timeout_seconds=_ANSWER_SECONDS).fields.get("daw_state", "silent")
    except AnswerError:
        return check, False, f"something else holds UDP port {port}; end it, or {elsewhere}"
    return check, True, f"answers on UDP port {port}; the DAW is {daw}"
