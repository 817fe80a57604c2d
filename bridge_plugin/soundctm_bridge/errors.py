"""What can go wrong in the bridge.

BridgeError
├── OscRequestError      an OSC message we will not act on
├── PreparationError     a clip's audio could not be made ready for the session
├── AdapterError         the DAW refused or did not answer
│   ├── HookSilentError  nothing takes our jobs
│   └── JobFailedError   the DAW's hook answered with an error
├── InstallError         the hook could not be installed
└── HarnessError         a scripted Ardour (test, demo) did not do what was asked
"""

from soundgen.errors import SoundgenError


class BridgeError(SoundgenError):
    """Root of the bridge's errors.

    code : a short word a program can switch on; what_to_do : the next step, for a person.
    """

    code = "bridge"

    def __init__(self, message: str, what_to_do: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.what_to_do = what_to_do


class OscRequestError(BridgeError):
    """A message to /soundctm/... has a wrong shape or value."""

    code = "bad_request"


class PreparationError(BridgeError):
    """A clip's audio could not be read, converted or written."""

    code = "preparation"


class AdapterError(BridgeError):
    """The DAW refused a job."""

    code = "daw"


class HookSilentError(AdapterError):
    """The DAW's hook does not answer: the DAW is closed or the hook is off."""

    code = "daw_silent"


class JobFailedError(AdapterError):
    """The DAW's hook answered with an error of its own."""

    code = "daw_refused"

    def __init__(self, code: str, message: str, what_to_do: str = "") -> None:
        super().__init__(message, what_to_do)
        self.code = code


class InstallError(BridgeError):
    """The hook could not be installed or removed."""

    code = "install"


class HarnessError(BridgeError):
    """Ardour, its virtual screen or one of its tools did not do what was asked."""

    code = "harness"
