"""What an export prints: its progress, what came of it, or in one sentence what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from soundctm.engines.tensorrt import NOT_RUN
from soundctm.errors import SoundCTMError
from soundctm.exports import Role
from soundctm_export.settings import ExportSettings
from soundctm_export.tensorrt_settings import TensorRTSettings
from soundctm_export.torch_package_settings import TorchPackageSettings

Progress = Callable[[str], None]


def run(export: Callable[[Progress], Iterator[str]]) -> int:
    """Prints the lines of an export. The exit code: 0, or 1 after an error of ours."""
    try:
        for line in export(lambda text: print(text, file=sys.stderr, flush=True)):
            print(line)
    except SoundCTMError as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        return 1
    return 0


def run_onnx(settings: ExportSettings) -> int:
    """`soundctm export onnx` and `python export/to_onnx.py`."""

    def export(progress: Progress) -> Iterator[str]:
        from soundctm_export.export import export_onnx

        exports = export_onnx(settings, progress=progress)
        for role, graph in sorted(exports.graphs.items()):
            against = "jump and decoder" if role is Role.PREVIEW else "PyTorch"
            snr = f"{graph.snr_db} dB against {against} (at least {graph.tolerance_db})"
            yield f"{role.value}: {graph.precision}, {snr}"
        yield f"{settings.out}: {len(exports.graphs)} graphs of the bundle {exports.bundle_digest[:12]}"

    return run(export)


def run_tensorrt(settings: TensorRTSettings) -> int:
    """`soundctm export tensorrt`."""

    def export(progress: Progress) -> Iterator[str]:
        from soundctm_export.tensorrt import export_tensorrt
        from soundctm_export.tensorrt_toolkit import find_toolkit

        toolkit = None if settings.prepare else find_toolkit(settings.options.builder)
        entry = export_tensorrt(settings, toolkit, progress=progress)
        for role, record in sorted(entry.engines.items()):
            said = NOT_RUN if record.snr_db is None else f"{record.snr_db} dB against PyTorch"
            yield f"{role.value}: engine {record.key or 'to be built'}, {said}"
        for role, why in sorted(entry.left_out.items()):
            yield f"{role.value}: no engine: {why}"
        yield f"{settings.out}: {entry.status}"

    return run(export)


def run_torch_package(settings: TorchPackageSettings) -> int:
    """`soundctm export torch`."""

    def export(progress: Progress) -> Iterator[str]:
        from soundctm_export.torch_package import export_torch

        records = export_torch(settings, progress=progress)
        for record in records:
            snr = f"{record.snr_db} dB against the bundle's networks (at least {record.tolerance_db})"
            yield f"{record.file}: {snr}"
        yield f"{settings.out}: {len(records)} packages"

    return run(export)
