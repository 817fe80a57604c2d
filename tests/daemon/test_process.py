"""The daemon as a process of its own: started by its command, killed, stopped, restarted."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from running_daemon import PATIENCE_SECONDS
from soundctm_daemon.files import PARTIAL_PATTERN
from soundgen import paths, types
from soundgen.client import Client
from soundgen.errors import DaemonUnreachableError

COMMAND = [sys.executable, "-m", "soundctm_daemon"]


@contextmanager
def daemon_process(model: str) -> Iterator[subprocess.Popen[str]]:
    """A daemon that answers. A model that is not installed keeps it from loading PyTorch, which takes seconds."""
    arguments = [*COMMAND, "start", "--foreground", "--port=0", f"--model={model}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            wait_until(lambda: paths.answers(paths.socket_path()) or process.poll() is not None)
            assert process.poll() is None, process.communicate()[1]
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def last_event(prompt: str, steps: int, queued: threading.Barrier) -> types.Event | DaemonUnreachableError:
    """Of a clip that a client of its own asks for; waits at the barrier once the daemon has it."""
    with Client(reconnect_seconds=0.0) as client:
        events = client.generate(prompt, seconds=1.0, steps=steps)
        last = next(events)
        queued.wait(PATIENCE_SECONDS)
        try:
            for event in events:
                last = event
        except DaemonUnreachableError as error:
            return error
        return last


def require_whole(clip: types.Clip) -> None:
    assert hashlib.sha256(clip.path.read_bytes()).hexdigest() == clip.sha256


def test_a_killed_daemon_is_followed_by_the_next_and_a_second_is_refused() -> None:
    with daemon_process("none") as killed:
        killed.kill()
        killed.wait()
    assert paths.socket_path().exists()  # stale
    assert run("status").returncode == 3
    with daemon_process("none") as process:
        second = run("start", "--foreground")
        assert second.returncode == paths.ALREADY_RUNNING_EXIT_CODE
        assert f"another daemon (process {process.pid}) holds" in second.stderr
        assert "soundctm daemon stop" in second.stderr
        with Client() as client:
            assert [model.name for model in client.models()] == ["none", "starter"]
        stopped = run("stop")
        assert (stopped.returncode, stopped.stdout) == (0, "The daemon has stopped.\n")
        assert process.wait(PATIENCE_SECONDS) == 0
    assert not paths.socket_path().exists()
    assert not paths.endpoint_path().exists()


@pytest.mark.usefixtures("models")
def test_sigterm_lets_the_clip_in_flight_be_finished() -> None:
    with daemon_process("tiny") as process, Client() as client:
        events = []
        for event in client.generate("rain", seconds=1.0, steps=32):
            events.append(event)
            if isinstance(event, types.JumpDone) and event.done == 1:
                process.send_signal(signal.SIGTERM)
        assert isinstance(events[-1], types.ClipReady)
        assert events[-1].clip.path.stat().st_size == events[-1].clip.size_bytes
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stderr is not None
        assert "finishing what is in flight" in process.stderr.read()


@pytest.mark.usefixtures("models")
def test_a_drain_loses_no_clip_that_was_asked_for() -> None:
    with daemon_process("tiny") as process, ThreadPoolExecutor(8) as pool:
        queued = threading.Barrier(9)
        clips = [pool.submit(last_event, f"rain {number}", 16, queued) for number in range(8)]
        queued.wait(PATIENCE_SECONDS)
        process.send_signal(signal.SIGTERM)
        for clip in clips:
            last = clip.result(PATIENCE_SECONDS)
            assert isinstance(last, types.ClipReady)
            require_whole(last.clip)
        assert process.wait(PATIENCE_SECONDS) == 0


@pytest.mark.usefixtures("models")
def test_a_second_sigterm_ends_what_the_first_let_go_on(tmp_path: Path) -> None:
    with daemon_process("tiny") as process, ThreadPoolExecutor(32) as pool:
        queued = threading.Barrier(33)
        clips = [pool.submit(last_event, f"rain {number}", 32, queued) for number in range(32)]
        queued.wait(PATIENCE_SECONDS)
        assert process.stderr is not None
        process.send_signal(signal.SIGTERM)
        while "finishing what is in flight" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        for clip in clips:  # each one is ready and whole, or its caller was told
            last = clip.result(PATIENCE_SECONDS)
            if isinstance(last, types.ClipReady):
                require_whole(last.clip)
            else:
                assert isinstance(last, DaemonUnreachableError) and last.reason == "DAEMON_STOPPING"
        assert process.wait(PATIENCE_SECONDS) == 0
        assert "told to stop again" in process.stderr.read()
        assert not list((tmp_path / "state" / "clips").glob(PARTIAL_PATTERN))


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "state" / "clips" / "library.sqlite").mkdir(parents=True)
    started = run("start")
    assert started.returncode == 3
    assert "CLIP_FOLDER_NOT_WRITABLE" in started.stderr
    assert "SOUNDCTM_CLIPS" in started.stderr
    exposed = run("start", "--host=0.0.0.0")
    assert exposed.returncode == 2
    assert "without TLS" in exposed.stderr


def test_a_full_disk_stops_the_start_with_a_sentence() -> None:
    """A process that may not make any file longer meets what one on a full disk meets, at its first write."""
    started = subprocess.run(
        [*COMMAND, "start", "--foreground"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert started.returncode == 2
    assert "daemon.lock cannot be written (File too large). Free some space" in started.stderr
    assert "Traceback" not in started.stderr


def test_the_server_is_up_before_anything_heavy_is_imported() -> None:
    """Cold start to the first answer: PyTorch alone takes longer than it may."""
    code = (
        "import sys, soundctm_daemon.cli, soundctm_daemon.server, soundctm_daemon.library, soundctm_daemon.auth;"
        "print([name for name in ('torch', 'soundfile', 'scipy', 'transformers') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
