"""`soundctm daemon`: start, stop, status, health, config; token and service in modules of their own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time

import typer

from soundctm.checks import onnxruntime_conflict
from soundctm.engines.choosing import AUTO
from soundctm.engines.registry import ENGINE_NAMES
from soundctm.errors import SoundCTMError
from soundctm_daemon import logs, tracing
from soundctm_daemon.allocator import share_arenas
from soundctm_daemon.errors import AlreadyRunningError, LibraryError
from soundctm_daemon.instance import NOT_SIGNED_YET, holder, sole_instance, state_lock
from soundctm_daemon.models_cli import models
from soundctm_daemon.service_cli import install_service, uninstall_service
from soundctm_daemon.service_units import STOP_MARGIN_SECONDS
from soundctm_daemon.settings import KEYS, Settings, load_settings
from soundctm_daemon.settings_text import markdown_table, sample_toml
from soundctm_daemon.token_cli import token
from soundgen import paths
from soundgen.errors import SoundgenError

app = typer.Typer(
    help="The generation daemon: run it, look at it, say who may call it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(models, name="models")
app.add_typer(token, name="token")
app.command()(install_service)
app.command()(uninstall_service)
_log = logging.getLogger("soundctm_daemon")

_BAD_SETTINGS_EXIT_CODE = 2
_NOT_RUNNING_EXIT_CODE = 3
_LIBRARY_EXIT_CODE = 4
_POLL_SECONDS = 0.05


@app.command()
def start(
    foreground: bool = typer.Option(False, "--foreground", help="Stay in this terminal and log to it."),
    host: str | None = typer.Option(None, help="Loopback address to listen at; default 127.0.0.1."),
    port: int | None = typer.Option(None, help="TCP port; 0 takes any free one; default 50717 where it is free."),
    model: str | None = typer.Option(None, help="Default model: a name of `soundctm models list`, or a bundle folder."),
    device: str | None = typer.Option(None, help="Where it computes, as PyTorch names it; default cpu."),
    engine: str | None = typer.Option(None, help=f"What runs models: {', '.join(ENGINE_NAMES)}; default {AUTO}."),
) -> None:
    """Start the daemon. It serves a Unix socket and loopback TCP until it is stopped."""
    options = {"host": host, "port": port, "model": model, "device": device, "engine": engine}
    try:
        settings = load_settings(options)
        if foreground:
            _run(settings)
            return
        arguments = [f"--{name}={value}" for name, value in options.items() if value is not None]
        if not paths.ensure_daemon(arguments):
            typer.echo("A daemon runs already; its settings were not changed.")
    except AlreadyRunningError as error:
        raise _fail(error, paths.ALREADY_RUNNING_EXIT_CODE) from error
    except LibraryError as error:
        raise _fail(error, _LIBRARY_EXIT_CODE) from error
    except SoundCTMError as error:
        raise _fail(error, _BAD_SETTINGS_EXIT_CODE) from error
    except SoundgenError as error:
        raise _fail(error, _NOT_RUNNING_EXIT_CODE) from error
    endpoint = paths.read_endpoint()
    typer.echo(f"The daemon listens at {settings.socket}" + (f" and {endpoint.address}." if endpoint else "."))


@app.command()
def stop() -> None:
    """Stop the daemon: it finishes what is in flight; what takes longer than drain_seconds fails."""
    settings = _settings()
    while (process := holder(state_lock(settings))) == NOT_SIGNED_YET:
        time.sleep(_POLL_SECONDS)
    if process is None:
        typer.echo("No daemon runs.")
        return
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + settings.drain_seconds + STOP_MARGIN_SECONDS
    while holder(state_lock(settings)) is not None:
        if time.monotonic() > deadline:
            typer.echo(f"The daemon (process {process}) is still stopping; look at {paths.log_path()}.", err=True)
            raise typer.Exit(1)
        time.sleep(_POLL_SECONDS)
    typer.echo("The daemon has stopped.")


@app.command()
def status(as_json: bool = typer.Option(False, "--json", help="One JSON object.")) -> None:
    """Whether the daemon runs and its model is loaded. Exits 3 when it does not run."""
    from soundgen.client import Client  # gRPC is loaded only where it is needed

    settings = _settings()
    facts: dict[str, object] = {
        "running": paths.answers(settings.socket),
        "socket": str(settings.socket),
        "log": str(paths.log_path()),
    }
    if facts["running"]:
        try:
            with Client(paths.socket_target(settings.socket)) as client:
                model = client.model()
                facts |= {"serving": client.serving(), "model": model.name, "model_state": model.state.value}
                facts |= {"problem": model.problem}
        except SoundgenError as error:
            facts |= {"problem": str(error)}
        endpoint = paths.read_endpoint()
        facts |= {"pid": endpoint.pid, "address": endpoint.address} if endpoint else {}
    for name, value in facts.items() if not as_json else ():
        typer.echo(f"{name:12} {value}")
    if as_json:
        typer.echo(json.dumps(facts))
    if not facts["running"]:
        raise typer.Exit(_NOT_RUNNING_EXIT_CODE)


@app.command()
def health() -> None:
    """Exit 0 when the daemon answers and has a model in memory, 1 when not: for whatever restarts services."""
    from soundgen.client import Client

    try:
        with Client(paths.socket_target(paths.socket_path()), token="") as client:  # health asks for none
            serving = client.serving()
    except SoundgenError as error:
        raise _fail(error, 1) from error
    typer.echo("serving" if serving else "not serving: no model is loaded")
    if not serving:
        raise typer.Exit(1)


@app.command()
def config(
    markdown: bool = typer.Option(False, "--markdown", help="The same as a table, as in the documents."),
) -> None:
    """Print a sample daemon.toml: every setting, what it means, its default."""
    typer.echo((markdown_table if markdown else sample_toml)(KEYS), nl=False)


def _run(settings: Settings) -> None:
    """Be the daemon until a signal ends it. Raises SettingsError, LibraryError."""
    from soundctm_daemon.auth import load_or_create_token
    from soundctm_daemon.engines import engine_loader
    from soundctm_daemon.library import open_library
    from soundctm_daemon.server import serve

    share_arenas()
    logs.set_up(paths.log_path(), settings.log_format, settings.log_level)
    conflict = onnxruntime_conflict()
    if conflict:
        _log.warning("%s", conflict)
    with sole_instance(settings):
        token = load_or_create_token(settings.token_file)
        library = open_library(settings.clips_dir, trash_days=settings.trash_days)
        load = engine_loader(settings.wanted)
        worker_ended = asyncio.run(serve(settings, token, library, load, tracing.set_up(os.environ)))
    if not worker_ended:
        # A model half loaded cannot be interrupted, and tearing Python down under it would crash.
        _log.warning("the engine was busy and is left behind")
        logging.shutdown()
        os._exit(0)


def _settings() -> Settings:
    try:
        return load_settings()
    except SoundCTMError as error:
        raise _fail(error, _BAD_SETTINGS_EXIT_CODE) from error


def _fail(error: Exception, code: int) -> typer.Exit:
    typer.echo(f"{getattr(error, 'reason', 'ERROR')}: {error}", err=True)
    return typer.Exit(code)
