"""What `soundctm export torch` does: export, tell the progress, and say in one sentence what went wrong."""

from __future__ import annotations

import sys

from soundctm.errors import SoundCTMError
from soundctm_export.torch_package_settings import TorchPackageSettings


def run(settings: TorchPackageSettings) -> int:
    """The exit code: 0, or 1 after an error of ours."""
    try:
        from soundctm_export.torch_package import export_torch

        records = export_torch(settings, progress=lambda text: print(text, file=sys.stderr, flush=True))
    except SoundCTMError as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        return 1
    for record in records:
        print(f"{record.file}: {record.snr_db} dB against the bundle's networks (at least {record.tolerance_db})")
    print(f"{settings.out}: {len(records)} packages")
    return 0
