"""The written form in which the bridge and a DAW's script meet: a spool folder with one job at a time.

state            the hook writes it: what the session looks like; rewritten at least once a second
job              the bridge links it into place, whole; the hook renames it away when it takes it
result.<job id>  the hook writes it, the bridge reads and removes it

Each is text, one `key=value` per line, with % and control characters as %XX. A job that nobody takes is withdrawn
before its time-out is reported, so it can never be done later; one left behind by a killed bridge expires.
"""

import os
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soundctm_bridge.errors import AdapterError, HookSilentError, JobFailedError

_POLL_SECONDS = 0.02
_ESCAPED = re.compile(r"[%\x00-\x1f\x7f]")
_WORD = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class SpoolTimes:
    """How long to wait, in seconds.

    state_age : an older state means that the hook no longer runs.
    take : until the hook takes a job; answer : from then until its result is there (an import of a long file).
    """

    state_age_seconds: float = 10.0
    take_seconds: float = 10.0
    answer_seconds: float = 60.0


def write_fields(fields: Mapping[str, str]) -> str:
    """Fields as text. Raises ValueError for a key that is not a plain word."""
    for key in fields:
        if not _WORD.fullmatch(key):
            raise ValueError(f"{key!r} is no key: letters, digits and _ only")
    return "".join(f"{key}={_ESCAPED.sub(_escape, value)}\n" for key, value in fields.items())


def read_fields(text: str) -> dict[str, str]:
    """The inverse of write_fields; a line without `=` is an error."""
    pairs = (line.split("=", 1) for line in text.splitlines() if line)
    return {key: re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), value) for key, value in pairs}


class Spool:
    """The bridge's end of a spool folder.

    hook : what the person knows the other end as, for the error texts ("Ardour").
    """

    def __init__(self, folder: Path, hook: str, times: SpoolTimes = SpoolTimes()) -> None:
        self._folder, self._hook, self._times = folder, hook, times
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._unwritable(error) from error

    def state(self) -> dict[str, str]:
        """The session's fields as the hook last wrote them. Raises HookSilentError when that is too long ago."""
        file = self._folder / "state"
        try:
            age_seconds = time.time() - file.stat().st_mtime
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise self._silent("it has never written its state") from None
        if age_seconds > self._times.state_age_seconds:
            raise self._silent(f"its state is {age_seconds:.0f} s old")
        return read_fields(text)

    def run(self, verb: str, fields: Mapping[str, str]) -> dict[str, str]:
        """Has the hook do one job and returns its result.

        Raises HookSilentError when nobody takes or answers it, JobFailedError with the hook's own words when it fails.
        """
        job_id = uuid.uuid4().hex
        expires = int(time.time() + self._times.take_seconds) + 1
        job = {"id": job_id, "verb": verb, "expires_unix_seconds": str(expires), **fields}
        try:
            self._offer(job_id, write_fields(job))
        except OSError as error:
            raise self._unwritable(error) from error
        self._wait_until_taken()
        result = self._wait_for_result(job_id)
        if result.get("ok") != "1":
            message = result.get("message", f"{self._hook} gave no reason")
            raise JobFailedError(message, result.get("what_to_do", ""), reason=result.get("code", "unknown").upper())
        return result

    def _offer(self, job_id: str, text: str) -> None:
        part, job = self._folder / f"job.{job_id}.part", self._folder / "job"
        part.write_text(text, encoding="utf-8")
        end = time.monotonic() + self._times.take_seconds
        try:
            while True:
                try:
                    os.link(part, job)  # fails where a job is waiting already, so two bridges cannot overwrite one
                    return
                except FileExistsError:
                    if time.monotonic() > end:
                        self._remove_stale_job(job)
                        raise self._silent("an earlier job still waits for it") from None
                time.sleep(_POLL_SECONDS)
        finally:
            part.unlink(missing_ok=True)

    def _remove_stale_job(self, job: Path) -> None:
        """A job whose bridge was killed is nobody's; the hook would refuse it as expired anyway."""
        try:
            if int(read_fields(job.read_text(encoding="utf-8"))["expires_unix_seconds"]) < time.time():
                job.unlink()
        except FileNotFoundError:
            return  # taken in this moment

    def _wait_until_taken(self) -> None:
        job = self._folder / "job"
        end = time.monotonic() + self._times.take_seconds
        while job.exists():
            if time.monotonic() > end:
                withdrawn = self._folder / "job.withdrawn"
                try:
                    job.rename(withdrawn)
                except FileNotFoundError:
                    return  # taken in this moment
                withdrawn.unlink()
                raise self._silent(f"it took no job within {self._times.take_seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def _wait_for_result(self, job_id: str) -> dict[str, str]:
        file = self._folder / f"result.{job_id}"
        end = time.monotonic() + self._times.answer_seconds
        while True:
            try:
                text = file.read_text(encoding="utf-8")
            except FileNotFoundError:
                if time.monotonic() > end:
                    raise HookSilentError(
                        f"{self._hook} took the job but did not finish it within {self._times.answer_seconds:g} s",
                        f"look whether {self._hook} shows a dialog, and whether the clip is on the timeline",
                    ) from None
                time.sleep(_POLL_SECONDS)
                continue
            file.unlink()
            return read_fields(text)

    def _unwritable(self, error: OSError) -> AdapterError:
        return AdapterError(
            f"the spool folder {self._folder} cannot be written: {error}",
            "look at its free space and permissions, or name another with SOUNDCTM_BRIDGE_SPOOL",
        )

    def _silent(self, why: str) -> HookSilentError:
        return HookSilentError(
            f"the SoundCTM hook in {self._hook} does not answer ({why}; spool folder {self._folder})",
            f"is {self._hook} open with a session and the SoundCTM hook enabled? `soundctm bridge status` tells",
        )


def _escape(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"
