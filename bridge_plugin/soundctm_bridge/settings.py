"""Where the bridge keeps its files, which port it listens on: the only place that reads the environment for it."""

import os
from pathlib import Path

from platformdirs import user_state_path

DEFAULT_OSC_PORT = 9129
SPOOL_VARIABLE = "SOUNDCTM_BRIDGE_SPOOL"


def state_folder() -> Path:
    """The bridge's own folder in the user's state directory."""
    return user_state_path("soundctm") / "bridge"


def default_spool_folder() -> Path:
    """The folder in which the bridge and the Ardour hook meet when the environment names no other."""
    return state_folder() / "ardour"


def spool_folder() -> Path:
    """SOUNDCTM_BRIDGE_SPOOL, or the default."""
    named = os.environ.get(SPOOL_VARIABLE)
    return Path(named) if named else default_spool_folder()


def prepared_folder() -> Path:
    """Where clips lie that were prepared for a session, until the DAW has copied them."""
    return state_folder() / "prepared"


def ardour_config_folder() -> Path:
    """Where Ardour 7 keeps this user's settings and scripts."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "ardour7"
