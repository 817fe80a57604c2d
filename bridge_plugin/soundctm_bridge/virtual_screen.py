"""A screen nobody looks at: Xvfb on a display number of its own choosing."""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from soundctm_bridge.errors import HarnessError
from soundctm_bridge.processes import stop_group

_SIZE = "1360x768x24"  # Ardour's window needs 1350 x 713
_PICTURE_SECONDS = 60.0


class VirtualScreen:
    """A context. display : what goes into DISPLAY. Raises HarnessError when Xvfb does not start."""

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self.display = ""

    def __enter__(self) -> Self:
        read, write = os.pipe()
        with self._log_path.open("wb") as log_file:
            self._process = subprocess.Popen(
                ["Xvfb", "-displayfd", str(write), "-screen", "0", _SIZE, "-nolisten", "tcp"],
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                pass_fds=(write,),
                start_new_session=True,
            )
        os.close(write)
        with os.fdopen(read, "r") as lines:
            number = lines.readline().strip()  # empty when Xvfb ends without one
        if not number:
            stop_group(self._process)
            raise HarnessError(f"Xvfb did not start; see {self._log_path}")
        self.display = f":{number}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            stop_group(self._process)

    def picture(self, form: str) -> bytes:
        """What is on the screen, in one of ImageMagick's forms ("png:-")."""
        done = subprocess.run(
            ["import", "-window", "root", form],
            env={**os.environ, "DISPLAY": self.display},
            capture_output=True,
            timeout=_PICTURE_SECONDS,
            check=False,
        )
        if done.returncode != 0 or not done.stdout:
            raise HarnessError(f"the screenshot failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout
