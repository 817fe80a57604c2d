"""A bundle becomes a folder of graphs: written aside, each graph run and compared, moved into place whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from soundctm.bundle import MANIFEST, Bundle, find_bundle, open_bundle, sha256_file
from soundctm.exports import Exports, GraphRecord, Role, TextInputs, read_exports
from soundctm_export.errors import MissingPackageError, OutputFolderError, OutputSpaceError, ParityError
from soundctm_export.graphs import GraphPlan, graph_plans, tiling
from soundctm_export.parts import Parts, load_parts
from soundctm_export.settings import ExportSettings, Precision

try:
    from soundctm_export.calibration import Ranges, activation_ranges, trajectories
    from soundctm_export.exporter import data_file, refuse_baked, write_graph
    from soundctm_export.opsets import check_opset, check_precision
    from soundctm_export.parity import check_file, measured_snr_db
    from soundctm_export.precisions import activations, convert, precision_of, tolerance_db
    from soundctm_export.preview import preview_plan, write_preview
except ImportError as error:
    raise MissingPackageError(
        f"exporting needs the packages onnx, onnxscript and onnxruntime ({error}). "
        "Run `pip install 'soundctm-daw[export]'`."
    ) from error

Progress = Callable[[str], object]

_BYTES_PER_NUMBER = 4  # a bundle may store them in fewer
_CHECKED_TOKENS = 7    # by how much the second length of a check exceeds the first


def export_onnx(settings: ExportSettings, progress: Progress = lambda text: None) -> Exports:
    """Make the folder `settings.out`: the bundle unchanged, its graphs, and `exports.json`. Nothing is left on failure.

    Raises BundleError and its kinds, ExportError and its kinds.
    """
    bundle = find_bundle(settings.bundle)
    check_opset(settings.opset)
    check_precision(settings.precision)
    with aside(settings.out, bundle) as folder:
        progress(f"loading {bundle.spec.name}")
        parts = load_parts(bundle)
        for name in (MANIFEST, *bundle.files):
            shutil.copyfile(bundle.path / name, folder / name)
        with torch.inference_mode():
            plans = {plan.role: plan for plan in graph_plans(parts)}
        writer = _Writer(folder, parts, settings, progress)
        records = {role: writer.written(plan) for role, plan in plans.items()}
        if settings.preview:
            jump, decoder = (folder / records[role].file for role in (Role.JUMP, Role.DECODER))
            plan = preview_plan(plans[Role.JUMP], plans[Role.DECODER], jump, decoder)
            records[Role.PREVIEW] = writer.joined(plan, jump, decoder)
        tokenize = parts.text.tokenize
        Exports(
            folder, bundle.digest, records, checksums(folder, records),
            TextInputs(tokenize.max_tokens, tokenize.pad_id), tiling(parts),
        ).write()  # fmt: skip
    exports = read_exports(open_bundle(settings.out))
    assert exports is not None
    return exports


class _Writer:
    """Graphs of one bundle into one folder."""

    def __init__(self, folder: Path, parts: Parts, settings: ExportSettings, progress: Progress) -> None:
        self._folder, self._parts, self._settings, self._progress = folder, parts, settings, progress
        patch = parts.spec.network.patch_frames
        ranges = parts.spec.ranges
        shortest, longest = (parts.spec.latent_frames(limit) for limit in (ranges.min_seconds, ranges.max_seconds))
        self._lengths = (shortest, shortest + _CHECKED_TOKENS * patch)
        self._jump_lengths = (*self._lengths, longest)  # the more activations share a scale, the coarser it is

    def written(self, plan: GraphPlan) -> GraphRecord:
        precision = precision_of(plan.role, self._settings.precision)
        path = self._folder / f"{plan.role.value}.onnx"
        self._progress(f"{plan.role.value}: exporting in {precision.value}")
        if precision is Precision.FP32:
            write_graph(plan, path, self._settings.opset)
        else:
            first = path.with_name(f"{plan.role.value}.fp32.onnx")
            write_graph(plan, first, self._settings.opset)
            convert(first, path, precision, self._ranges(plan, first) if precision is Precision.W8A8 else None)
            for file in (first, first.with_name(data_file(first.name))):
                file.unlink(missing_ok=True)
            refuse_baked(plan, path)
        return self._checked(plan, path, precision)

    def _ranges(self, plan: GraphPlan, source: Path) -> Ranges:
        """Of a jump's activations."""
        self._progress(f"{plan.role.value}: calibrating")
        with torch.inference_mode():
            inputs = [tensors for frames in self._jump_lengths for tensors in trajectories(self._parts, frames)]
            return activation_ranges(source, plan, activations(source), inputs)

    def joined(self, plan: GraphPlan, jump: Path, decoder: Path) -> GraphRecord:
        """The preview: as precise as its jump."""
        path = self._folder / f"{plan.role.value}.onnx"
        self._progress(f"{plan.role.value}: joining {jump.name} and {decoder.name}")
        write_preview(jump, decoder, path)
        return self._checked(plan, path, precision_of(Role.JUMP, self._settings.precision))

    def _checked(self, plan: GraphPlan, path: Path, precision: Precision) -> GraphRecord:
        self._progress(f"{plan.role.value}: checking, and comparing with PyTorch")
        check_file(plan, path)
        lengths = self._jump_lengths if plan.role is Role.JUMP else self._lengths
        snr_db, wanted_db = measured_snr_db(plan, path, lengths), tolerance_db(plan.role, precision)
        if snr_db < wanted_db:
            raise ParityError(
                f"the {plan.role.value} graph in {precision.value} lies {snr_db} dB from PyTorch; at least {wanted_db} "
                "dB are asked for. Nothing was written; choose another precision."
            )
        return GraphRecord(plan.role, path.name, precision.value, self._settings.opset, snr_db, wanted_db)


def checksums(folder: Path, records: dict[Role, GraphRecord]) -> dict[str, str]:
    """Of every graph and its weights."""
    files = (path for record in records.values() for path in (folder / record.file, folder / data_file(record.file)))
    return {path.name: sha256_file(path) for path in sorted(files) if path.exists()}


@contextmanager
def aside(out: Path, bundle: Bundle) -> Iterator[Path]:
    """A folder beside `out` that becomes it at the end, or goes. Raises OutputFolderError, OutputSpaceError."""
    if out.exists() or out.is_symlink():
        raise OutputFolderError(f"{out} exists; remove it or choose another folder")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        _refuse_small_disk(partial, bundle)
        yield partial
        partial.rename(out)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputSpaceError(f"the disk of {out} is full; make room or choose another folder") from error
        raise OutputFolderError(f"{out} cannot be written: {error}. Choose another folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already when it became the folder


def _refuse_small_disk(folder: Path, bundle: Bundle) -> None:
    """The bundle, its numbers as float32, and once more the largest file while it is converted."""
    sizes = {name: (bundle.path / name).stat().st_size for name in bundle.files}
    needed = sum(sizes.values()) + 2 * _BYTES_PER_NUMBER * sum(
        size for name, size in sizes.items() if name.endswith(".safetensors")
    )
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputSpaceError(
            f"the graphs of {bundle.spec.name!r} need up to {needed / 1e9:.2f} GB in {folder.parent}; {free / 1e9:.2f} "
            "GB are free. Make room or choose another folder."
        )
