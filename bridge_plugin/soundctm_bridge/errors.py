"""What can go wrong in the bridge.

BridgeError
├── OscRequestError      a message to /soundctm/... that cannot be acted on
├── BusyError            too much is under way already
├── PreparationError     a clip's audio could not be made ready for the session
├── AdapterError         the DAW refused a job
│   ├── HookSilentError      the DAW is closed or its hook is off
│   └── JobFailedError       the DAW's hook answered with an error of its own
├── InstallError         the hook could not be installed or removed
├── PortError            the OSC port cannot be listened on
└── HarnessError         a scripted Ardour (test, demo) did not do what was asked
"""

from soundgen.errors import SoundgenError


class BridgeError(SoundgenError):
    """Root of the bridge's errors. `what_to_do` is the next step, as a sentence; empty where the message says it."""

    reason = "BRIDGE_ERROR"

    def __init__(self, message: str, what_to_do: str = "", *, reason: str | None = None) -> None:
        super().__init__(message, reason=reason)
        self.what_to_do = what_to_do

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}. {self.what_to_do}" if self.what_to_do else message

    @property
    def message(self) -> str:
        """What went wrong, without what to do about it."""
        return super().__str__()


class OscRequestError(BridgeError):
    reason = "BAD_OSC_REQUEST"


class BusyError(BridgeError):
    reason = "BRIDGE_BUSY"


class PreparationError(BridgeError):
    reason = "PREPARATION_FAILED"


class AdapterError(BridgeError):
    reason = "DAW_ERROR"


class HookSilentError(AdapterError):
    reason = "DAW_SILENT"


class JobFailedError(AdapterError):
    """`reason` is the hook's own word, upper case: NO_REGION, IMPORT, TAKE_TOO_SHORT, ..."""

    reason = "DAW_REFUSED"


class InstallError(BridgeError):
    reason = "INSTALL_FAILED"


class PortError(BridgeError):
    reason = "OSC_PORT"


class HarnessError(BridgeError):
    reason = "HARNESS"
