"""What `soundctm doctor` asks about the daemon: settings, stubs, folders, socket, token, library."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module, metadata
from pathlib import Path

from soundctm.bundle import find_bundle, installed_names
from soundctm.checks import Finding, folder_finding
from soundctm.engines.choosing import explained
from soundctm.engines.registry import ENGINES
from soundctm.errors import EngineUnavailableError, SoundCTMError
from soundctm_daemon.instance import holder, state_lock
from soundctm_daemon.settings import Settings, load_settings
from soundgen import paths

_STUBS = ("generation_service", "model_service", "clip_service")
_ANSWER_SECONDS = 5.0


def checks() -> Iterator[Finding]:
    yield _stubs()
    try:
        settings = load_settings()
    except SoundCTMError as error:
        yield Finding("daemon settings", False, str(error))
        return
    yield _model(settings)
    yield _device(settings)
    yield from _engines(settings)
    yield folder_finding("state folder", settings.state_dir, "SOUNDCTM_STATE")
    yield folder_finding("clips folder", settings.clips_dir, "SOUNDCTM_CLIPS")
    yield _token(settings.token_file)
    yield _library(settings.clips_dir / "library.sqlite")
    yield _daemon(settings)


def _stubs() -> Finding:
    """The generated stubs refuse to be imported beside older packages than they were made with."""
    try:
        for name in _STUBS:
            import_module(f"soundgen.v1.{name}_pb2_grpc")
    except Exception as error:  # ImportError, RuntimeError, protobuf's VersionError
        cure = "run `pip install --upgrade grpcio protobuf soundctm-daw`"
        return Finding("grpc stubs", False, f"cannot be imported ({error}); {cure}")
    return Finding("grpc stubs", True, f"grpcio {metadata.version('grpcio')}, protobuf {metadata.version('protobuf')}")


def _model(settings: Settings) -> Finding:
    try:
        bundle = find_bundle(settings.model)
    except SoundCTMError as error:
        return Finding("default model", False, f"{error} The setting `model` names it.")
    return Finding("default model", True, f"{settings.model}: {bundle.spec.description}")


def _device(settings: Settings) -> Finding:
    import torch

    kind = settings.device.split(":")[0]
    seen = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(kind)
    if seen is False:
        return Finding("device", False, f"`device` is {settings.device!r}, and torch finds none; set it to \"cpu\", or "
                                        "install the driver and torch's build for it")
    return Finding("device", seen, settings.device)


def _engines(settings: Settings) -> Iterator[Finding]:
    """Which engine each model would run on, and why not on the others."""
    for name in dict.fromkeys([settings.model, *installed_names()]):
        check = f"engine for {Path(name).name}"
        try:
            yield Finding(check, True, explained(find_bundle(name), settings.wanted, ENGINES))
        except EngineUnavailableError as error:
            yield Finding(check, False, f"{error} The setting `engine` names it.")
        except SoundCTMError:
            continue  # of the model itself, which other checks name


def _token(path: Path) -> Finding:
    try:
        mode, text = path.stat().st_mode, path.read_text().strip()
    except FileNotFoundError:
        return Finding("token", None, "none yet; the daemon makes it when it first starts")
    except (OSError, UnicodeDecodeError) as error:
        return Finding("token", False, f"{path} cannot be read ({error}); it must belong to you: `ls -l {path}`")
    if not text:
        return Finding("token", False, f"{path} is empty; remove it and start the daemon again")
    if mode & 0o077:
        return Finding("token", False, f"{path} can be read by others; run `chmod 600 {path}`")
    return Finding("token", True, f"{path} is there, for you alone")


def _library(path: Path) -> Finding:
    if not path.exists():
        return Finding("clip library", None, "none yet; the daemon makes it when it first starts")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        said = str(error)
    if said != "ok":
        return Finding("clip library", False, f"{path} is damaged ({said}); start the daemon again, and look at "
                                              f"{paths.log_path()}: the clips' own files hold what it held")
    return Finding("clip library", True, f"{path} is sound")


def _daemon(settings: Settings) -> Finding:
    process = holder(state_lock(settings))
    if paths.answers(settings.socket):
        return _answers()
    if process is not None:
        return Finding("daemon", False, f"process {process} holds {settings.state_dir} and does not answer: it starts, "
                                        f"or is stuck. Wait; then `kill {process}`, and look at {paths.log_path()}")
    if _lies_in_the_way(settings.socket):
        return Finding("daemon", False, f"{settings.socket} is no socket; move it away, or set SOUNDCTM_SOCKET")
    if settings.socket.exists():
        return Finding("daemon", None, f"not running; {settings.socket} was left by one that was killed, and the next "
                                       "start removes it")
    return Finding("daemon", None, "not running; `soundctm daemon start` starts it, as do the commands that need it")


def _answers() -> Finding:
    from soundgen.client import Client
    from soundgen.errors import SoundgenError

    try:
        with Client(timeout_seconds=_ANSWER_SECONDS) as client:
            model = client.model()
            serving = client.serving()
    except SoundgenError as error:
        return Finding("daemon", False, f"it listens and does not serve: {error} Restart it: `soundctm daemon stop`")
    if model.problem:
        return Finding("daemon", False, f"it runs; its model {model.name} is unusable: {model.problem}")
    about = "its model is loaded" if serving else "its model is being loaded"
    return Finding("daemon", True, f"runs as process {_pid()}, {about}")


def _pid() -> str:
    endpoint = paths.read_endpoint()
    return str(endpoint.pid) if endpoint else "unknown"


def _lies_in_the_way(path: Path) -> bool:
    return path.exists() and not stat.S_ISSOCK(os.lstat(path).st_mode)
