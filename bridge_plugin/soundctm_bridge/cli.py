"""`soundctm bridge`: run the bridge, install the Ardour hook, look how things stand, show the whole path."""

import logging
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from soundctm_bridge import ardour_install, settings
from soundctm_bridge.adapters.ardour import ArdourAdapter
from soundctm_bridge.errors import AdapterError
from soundgen.errors import SoundgenError

app = typer.Typer(help="Bring clips onto a DAW's timeline.", no_args_is_help=True)
_console = Console(soft_wrap=True, highlight=False)
_errors = Console(stderr=True, soft_wrap=True, highlight=False)
_FAILED = 1


class Daw(StrEnum):
    """DAWs the bridge has an adapter for."""

    ARDOUR = "ardour"


PortOption = Annotated[int, typer.Option(min=1, max=65535, help="UDP port on 127.0.0.1 to listen on.")]
SpoolOption = Annotated[
    Path | None, typer.Option(help=f"Folder shared with the hook [default: ${settings.SPOOL_VARIABLE} or the user's].")
]


@app.command()
def run(port: PortOption = settings.DEFAULT_OSC_PORT, spool: SpoolOption = None) -> None:
    """Listen for OSC and serve an open Ardour, until Ctrl-C."""
    from soundctm_bridge.runner import run_bridge  # gRPC and soxr, which the other commands do without

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _guarded(lambda: run_bridge(port, spool or settings.spool_folder(), settings.prepared_folder()))


@app.command()
def install(
    daw: Daw,
    enable: Annotated[bool, typer.Option(help="Also switch the hook on, as the Script Manager would.")] = False,
    spool: SpoolOption = None,
) -> None:
    """Put the hook where the DAW finds it."""
    _guarded(lambda: _install(enable, spool or settings.spool_folder()))


def _install(enable: bool, spool: Path) -> None:
    config_folder = settings.ardour_config_folder()
    if enable:
        ardour_install.refuse_while_ardour_runs()
    _console.print(f"hook:  {ardour_install.install_hook(config_folder, spool)}")
    _console.print(f"spool: {spool}")
    if enable:
        source = ardour_install.hook_source(spool)
        file = ardour_install.enable_hook(config_folder, source, ardour_install.ardour_version())
        _console.print(f"on:    {file}; it runs from Ardour's next start")
    else:
        _console.print(
            "Switch it on in Ardour, once: Edit > Lua Scripts > Script Manager, tab Action Hooks, New Hook, "
            f"choose '{ardour_install.HOOK_NAME}', Add. Or close Ardour and run this again with --enable."
        )


@app.command()
def uninstall(daw: Daw) -> None:
    """Take the hook away again."""
    _guarded(_uninstall)


def _uninstall() -> None:
    config_folder = settings.ardour_config_folder()
    if ardour_install.hook_is_enabled(config_folder):
        ardour_install.refuse_while_ardour_runs()
    changed = ardour_install.uninstall_hook(config_folder)
    for file in changed:
        _console.print(f"removed from {file}" if file.exists() else f"removed {file}")
    if not changed:
        _console.print("the hook was not installed")


@app.command()
def status(spool: SpoolOption = None) -> None:
    """Say whether the hook is installed, switched on, and answering. Exit code 1 while it does not answer."""
    _guarded(lambda: _status(spool or settings.spool_folder()))


def _status(spool: Path) -> None:
    config_folder = settings.ardour_config_folder()
    _console.print(f"hook file:   {'installed' if ardour_install.hook_is_installed(config_folder) else 'missing'}")
    _console.print(f"hook:        {'on' if ardour_install.hook_is_enabled(config_folder) else 'off'}")
    _console.print(f"spool:       {spool}")
    try:
        state = ArdourAdapter(spool).state()
    except AdapterError as error:
        _console.print(f"Ardour:      does not answer: {error}")
        raise typer.Exit(_FAILED) from error
    rolling = "rolling" if state.rolling else "stopped"
    _console.print(
        f"Ardour:      session {state.session}, {state.rate_hz} Hz, {state.tempo_bpm:g} bpm, {state.meter}, "
        f"{rolling} at {state.bar_beat_tick} (sample {state.position_samples})"
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Each run puts session, mix and screenshot into a new folder in here.")],
    prompt: Annotated[str, typer.Option(help="What to make.")] = "heavy rain on a tin roof",
) -> None:
    """Take a prompt all the way into a real Ardour on a virtual screen, and refine it there."""
    from soundctm_bridge.demo_ardour import run_demo  # the harness, which only this command needs

    _guarded(lambda: run_demo(out, prompt, _console.print))


def _guarded(work: Callable[[], None]) -> None:
    """Runs a command; an error of ours becomes its text and exit code 1."""
    try:
        work()
    except SoundgenError as error:
        _errors.print(f"[bold red]error:[/] {error}")
        raise typer.Exit(_FAILED) from error
