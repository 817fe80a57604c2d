"""What both commands do: export, tell the progress, and say in one sentence what went wrong."""

from __future__ import annotations

import sys

from soundctm.errors import SoundCTMError
from soundctm.exports import Role
from soundctm_export.settings import ExportSettings


def run(settings: ExportSettings) -> int:
    """The exit code: 0, or 1 after an error of ours."""
    try:
        from soundctm_export.export import export_onnx

        exports = export_onnx(settings, progress=lambda text: print(text, file=sys.stderr, flush=True))
    except SoundCTMError as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        return 1
    for role, graph in sorted(exports.graphs.items()):
        against = "jump and decoder" if role is Role.PREVIEW else "PyTorch"
        print(f"{role.value}: {graph.precision}, {graph.snr_db} dB against {against} (at least {graph.tolerance_db})")
    print(f"{settings.out}: {len(exports.graphs)} graphs of the bundle {exports.bundle_digest[:12]}")
    return 0
