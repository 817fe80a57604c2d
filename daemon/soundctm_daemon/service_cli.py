"""`soundctm daemon install-service` and `uninstall-service`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from soundctm.errors import SoundCTMError
from soundctm_daemon.errors import SettingsError
from soundctm_daemon.service_units import Service, Unit, launchd_unit, systemd_unit
from soundctm_daemon.settings import load_settings
from soundgen import paths

_REFUSED_EXIT_CODE = 2
_NOT_THE_DAEMONS = {"SOUNDCTM_ADDRESS", "SOUNDCTM_CA", "SOUNDCTM_CLIENT_CERT", "SOUNDCTM_CLIENT_KEY"}


def install_service(
    replace: bool = typer.Option(False, "--replace", help="Also where another file is in its place."),
) -> None:
    """Write a service file of this user (systemd, launchd), so that the daemon runs from login on.

    The SOUNDCTM_ variables set now go into it; daemon.toml is read at every start.
    """
    try:
        unit = _unit()
        _write(unit, replace)
    except SoundCTMError as error:
        raise _fail(error) from error
    typer.echo(f"{unit.path} is written. Start the daemon, now and at every login, by:")
    for line in unit.start:
        typer.echo(f"  {line}")


def uninstall_service() -> None:
    """Remove the service file; clips, settings and tokens stay."""
    try:
        unit = _unit()
        unit.path.unlink()
    except FileNotFoundError:
        typer.echo("No service is installed.")
        return
    except OSError as error:
        raise _fail(SettingsError(f"{unit.path} cannot be removed ({error.strerror}).")) from error
    except SoundCTMError as error:
        raise _fail(error) from error
    typer.echo(f"{unit.path} is removed. Should the service still run, stop it by:")
    for line in unit.stop:
        typer.echo(f"  {line}")


def _unit() -> Unit:
    """Raises SettingsError where the settings are wrong or the system has no services we know."""
    service = Service(
        command=(sys.executable, "-m", "soundctm_daemon", "start", "--foreground"),
        environment={
            name: value
            for name, value in os.environ.items()
            if name.startswith("SOUNDCTM_") and name not in _NOT_THE_DAEMONS
        },
        drain_seconds=load_settings().drain_seconds,
        log=paths.log_path(),
    )
    if sys.platform == "darwin":
        return launchd_unit(service, Path.home(), os.getuid())
    if sys.platform.startswith("linux"):
        return systemd_unit(service, Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"))
    raise SettingsError(f"no service file can be written for {sys.platform}; docs/daemon.md says what to do instead.")


def _write(unit: Unit, replace: bool) -> None:
    try:
        if not replace and unit.path.exists() and unit.path.read_bytes() != unit.content:
            raise SettingsError(
                f"{unit.path} is there and is another. Look at it; `soundctm daemon install-service --replace` puts "
                "this one in its place."
            )
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        partial = unit.path.with_name(f".{unit.path.name}.partial")
        partial.write_bytes(unit.content)
        partial.replace(unit.path)
    except OSError as error:
        raise SettingsError(f"{unit.path} cannot be written ({error.strerror}); nothing was installed.") from error


def _fail(error: SoundCTMError) -> typer.Exit:
    typer.echo(f"{error.reason}: {error}", err=True)
    return typer.Exit(_REFUSED_EXIT_CODE)
