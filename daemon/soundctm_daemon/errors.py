"""What can go wrong in the daemon, beside the model library's own errors.

SoundCTMError
├── SettingsError              the daemon cannot start as it was told to
│   ├── AlreadyRunningError        another daemon holds the state folder or the socket
│   └── TokenNameError             a token's name is taken, not there, or no name
├── RetryLaterError            the same request may succeed in a while
│   ├── QueueFullError             as many clips wait as may wait
│   ├── TooManyJobsError           one client has as many clips in flight as it may
│   ├── RateLimitError             one client calls more often than it may
│   ├── TooManyAtOnceError         one client has as many calls under way as it may
│   ├── DaemonStoppingError        the daemon is draining and takes no new clips
│   └── ModelMemoryBusyError       a model would fit if it were not for those that clips are being made with
├── NotInFlightError           no clip of that id is queued or being made
├── ModelNotFoundError         no installed model has this name
├── ModelLoadError             the engine cannot be brought up, for a reason the bundle does not name
├── ModelTooBigError           a model does not fit the memory models may take, even alone
├── ModelInUseError            clips are being made with a model that is to be unloaded
├── ModelChangedError          a clip was made by other weights than are installed under that name now
├── InternalError              a defect: the traceback is in the daemon's log
├── UnauthenticatedError       the token is missing or wrong
├── SoundUnusableError         a file from outside is no sound that can be stored
├── OffsetError                a download is to begin beyond the end
├── NoRecipeError              a clip was brought in from outside: nothing says how to make it again
└── LibraryError               the clip library cannot be used
    ├── ClipNotFoundError          no such clip
    ├── ClipDamagedError           its file is missing or is not the one that was stored
    ├── DiskFullError              nothing more can be written
    ├── LibraryLockedError         another program holds the database; passes by itself
    └── ClipFolderNotWritableError the folder is read-only or belongs to somebody else
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from soundctm.errors import SoundCTMError


class SettingsError(SoundCTMError):
    reason = "SETTINGS"


class AlreadyRunningError(SettingsError):
    reason = "ALREADY_RUNNING"


class RetryLaterError(SoundCTMError):
    """`retry_seconds` from now; who knows better sets it."""

    reason = "RETRY_LATER"
    retry_seconds = 1.0


class TokenNameError(SettingsError):
    reason = "TOKEN_NAME"


class QueueFullError(RetryLaterError):
    reason = "QUEUE_FULL"


class TooManyJobsError(RetryLaterError):
    reason = "TOO_MANY_JOBS"


class RateLimitError(RetryLaterError):
    reason = "TOO_MANY_CALLS"

    def __init__(self, wait_seconds: float) -> None:
        milliseconds = math.ceil(wait_seconds * 1000)
        self.retry_seconds = milliseconds / 1000
        super().__init__(
            f"this client calls more often than it may; try again in {milliseconds} ms. The owner may raise "
            "client_requests_per_second and client_burst in daemon.toml."
        )


class TooManyAtOnceError(RetryLaterError):
    reason = "TOO_MANY_CALLS_AT_ONCE"

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} calls of this client are under way, which is as many as it may have. End some, streams that "
            "nobody reads perhaps, or let the owner raise client_calls in daemon.toml."
        )


class DaemonStoppingError(RetryLaterError):
    reason = "DAEMON_STOPPING"


class NotInFlightError(SoundCTMError):
    reason = "NOT_IN_FLIGHT"


class ModelNotFoundError(SoundCTMError):
    reason = "MODEL_NOT_FOUND"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(
            f"model {name!r} is not installed; known models: {', '.join(self.known)}. List them with `soundctm models "
            "list`; to use a bundle folder, start the daemon with `soundctm daemon start --model FOLDER`."
        )


class ModelLoadError(SoundCTMError):
    reason = "MODEL_NOT_LOADED"


class ModelTooBigError(SoundCTMError):
    reason = "MODEL_TOO_BIG"


class ModelMemoryBusyError(RetryLaterError):
    reason = "MODEL_MEMORY_BUSY"


class ModelInUseError(SoundCTMError):
    reason = "MODEL_IN_USE"


class ModelChangedError(SoundCTMError):
    reason = "MODEL_CHANGED"


class InternalError(SoundCTMError):
    reason = "INTERNAL"


class UnauthenticatedError(SoundCTMError):
    reason = "UNAUTHENTICATED"


class SoundUnusableError(SoundCTMError):
    reason = "SOUND_UNUSABLE"


class OffsetError(SoundCTMError):
    reason = "OFFSET_OUT_OF_RANGE"


class NoRecipeError(SoundCTMError):
    reason = "NO_RECIPE"


class LibraryError(SoundCTMError):
    reason = "LIBRARY_UNUSABLE"


class ClipNotFoundError(LibraryError):
    reason = "CLIP_NOT_FOUND"


class ClipDamagedError(LibraryError):
    reason = "CLIP_DAMAGED"


class DiskFullError(LibraryError, RetryLaterError):
    reason = "DISK_FULL"
    retry_seconds = 60.0  # somebody must make room


class ClipFolderNotWritableError(LibraryError):
    reason = "CLIP_FOLDER_NOT_WRITABLE"


class LibraryLockedError(LibraryError, RetryLaterError):
    reason = "LIBRARY_LOCKED"
