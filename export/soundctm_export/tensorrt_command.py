"""What `soundctm export tensorrt` does: export, tell the progress, and say in one sentence what went wrong."""

from __future__ import annotations

import sys

from soundctm.engines.tensorrt import NOT_RUN
from soundctm.errors import SoundCTMError
from soundctm_export.tensorrt_settings import TensorRTSettings


def run(settings: TensorRTSettings) -> int:
    """The exit code: 0, or 1 after an error of ours."""
    try:
        from soundctm_export.tensorrt import export_tensorrt
        from soundctm_export.tensorrt_toolkit import find_toolkit

        toolkit = None if settings.prepare else find_toolkit(settings.options.builder)
        entry = export_tensorrt(settings, toolkit, progress=lambda text: print(text, file=sys.stderr, flush=True))
    except SoundCTMError as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        return 1
    for role, record in sorted(entry.engines.items()):
        said = NOT_RUN if record.snr_db is None else f"{record.snr_db} dB against PyTorch"
        print(f"{role.value}: engine {record.key or 'to be built'}, {said}")
    for role, why in sorted(entry.left_out.items()):
        print(f"{role.value}: no engine: {why}")
    print(f"{settings.out}: {entry.status}")
    return 0
