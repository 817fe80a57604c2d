"""A bundle becomes a folder of graphs and TensorRT engines: written aside, each run and compared, moved whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from soundctm.bundle import MANIFEST, Bundle, find_bundle, sha256_file
from soundctm.engines.tensorrt import (
    ENGINES_DIR,
    Builder,
    EngineRecord,
    TensorRTExports,
    cache_key,
    graph_digest,
    provider_options,
    timing_options,
    wrapper_file,
    write_entry,
)
from soundctm.exports import REQUIRED, Exports, GraphRecord, Role, read_exports
from soundctm_export.errors import ParityError
from soundctm_export.export import Progress, aside, checksums, export_onnx
from soundctm_export.exporter import data_file, refuse_baked
from soundctm_export.graphs import GraphPlan, graph_plans
from soundctm_export.parity import check_file, measured_snr_db
from soundctm_export.parts import Parts, load_parts
from soundctm_export.settings import ExportSettings
from soundctm_export.tensorrt_builder import EngineBuildError, Toolkit, build_plan, open_session, write_wrapper
from soundctm_export.tensorrt_precisions import convert, largest_inputs, made_in, tolerance_db, unoptimised
from soundctm_export.tensorrt_profiles import profile_of, spans, why_left_out
from soundctm_export.tensorrt_settings import TensorRTPrecision, TensorRTSettings

_FLOAT_DIR, _TIMING_DIR = ".float32", ".timing"  # while the folder is made
_CHECKED_TOKENS = 7  # by how much the second length of a check exceeds the first


def export_tensorrt(
    settings: TensorRTSettings, toolkit: Toolkit | None, progress: Progress = lambda text: None
) -> TensorRTExports:
    """Make the folder `settings.out`: bundle, graphs, engines. Nothing is left on failure.

    `toolkit` None: all but the engines. Raises BundleError and its kinds, ExportError and its kinds.
    """
    bundle = find_bundle(settings.source)
    with aside(settings.out, bundle) as folder:
        progress(f"loading {bundle.spec.name}")
        parts = load_parts(bundle)
        for name in (MANIFEST, *bundle.files):
            shutil.copyfile(bundle.path / name, folder / name)
        source = _float_graphs(bundle, folder, progress)
        with torch.inference_mode():
            plans = {plan.role: plan for plan in graph_plans(parts)}
            maker = _Maker(folder, parts, settings, progress)
            records = {role: maker.graph(plans[role], source) for role in REQUIRED}
            shutil.rmtree(folder / _FLOAT_DIR, ignore_errors=True)
            exports = Exports(
                folder, bundle.digest, records, checksums(folder, records), source.text, source.tiling
            )
            exports.write()
            entry = maker.entry(plans, exports, toolkit)
        write_entry(folder, entry)
    return entry


def _float_graphs(bundle: Bundle, folder: Path, progress: Progress) -> Exports:
    """Those of the source, verified, where it holds all of them in float32; else new ones."""
    exports = read_exports(bundle)
    if exports is None or any(
        role not in exports.graphs or exports.graphs[role].precision != TensorRTPrecision.FP32 for role in REQUIRED
    ):
        return export_onnx(ExportSettings(str(bundle.path), folder / _FLOAT_DIR, preview=False), progress)
    progress("verifying the graphs")
    exports.verify()
    return exports


class _Maker:
    """Graphs and engines of one bundle into one folder."""

    def __init__(self, folder: Path, parts: Parts, settings: TensorRTSettings, progress: Progress) -> None:
        self._folder, self._parts, self._settings, self._progress = folder, parts, settings, progress
        spec = parts.spec
        shortest = spec.latent_frames(spec.ranges.min_seconds)
        self._lengths = (shortest, shortest + _CHECKED_TOKENS * spec.network.patch_frames)

    def graph(self, plan: GraphPlan, source: Exports) -> GraphRecord:
        """The graph in the precision asked for, checked as far as a CPU can."""
        precision = made_in(plan.role, self._settings.precision)
        record, path = source.graphs[plan.role], source.graph_file(plan.role)
        target = self._folder / path.name
        if precision is TensorRTPrecision.FP32:
            for name in (path.name, data_file(path.name)):
                if name in source.files:
                    shutil.copyfile(path.with_name(name), self._folder / name)
            return record
        self._progress(f"{plan.role.value}: {precision.value}, compared with PyTorch")
        eighth = precision is TensorRTPrecision.FP8
        largest = largest_inputs(plan, path, self._lengths) if eighth else {}
        convert(path, target, precision, largest)
        check_file(plan, target)
        refuse_baked(plan, target)
        rounded = target.with_name(f"{path.stem}.rounded.onnx")
        convert(path, rounded, precision, largest, rounded=True)
        snr_db = measured_snr_db(plan, rounded, self._lengths, unoptimised(rounded))
        for name in (rounded.name, data_file(rounded.name)):
            (self._folder / name).unlink(missing_ok=True)
        wanted_db = tolerance_db(plan.role, precision)
        _require(plan.role, f"graph in {precision.value}", snr_db, wanted_db)
        return GraphRecord(plan.role, target.name, precision.value, record.opset, snr_db, wanted_db)

    def entry(self, plans: Mapping[Role, GraphPlan], exports: Exports, toolkit: Toolkit | None) -> TensorRTExports:
        settings, engines, left_out = self._settings, {}, {}
        for role in REQUIRED:
            path = exports.graph_file(role)
            why = why_left_out(path)
            if why:
                left_out[role] = why
                continue
            known = spans(self._parts.spec, exports.tiling, role, settings.max_rows)
            record = EngineRecord(profile_of(path, known), graph_digest(path.name, exports.files))
            engines[role] = record if toolkit is None else self._built(plans[role], path, record, toolkit)
        shutil.rmtree(self._folder / _TIMING_DIR, ignore_errors=True)
        machine = None if toolkit is None else toolkit.machine
        return TensorRTExports(settings.options, settings.max_rows, machine, engines, left_out)

    def _built(self, plan: GraphPlan, graph: Path, record: EngineRecord, toolkit: Toolkit) -> EngineRecord:
        role, options, profile = plan.role, self._settings.options, record.profile
        self._progress(f"{role.value}: building with {options.builder.value}; this takes minutes")
        key = cache_key(toolkit.machine, record.graph_digest, profile, options)
        own = self._folder / ENGINES_DIR / key
        own.mkdir(parents=True)
        timing = self._settings.timing_cache or self._folder / _TIMING_DIR
        timing.mkdir(parents=True, exist_ok=True)
        opened = graph
        if options.builder is Builder.TENSORRT:
            opened = self._planned(plan, graph, record, toolkit, own, timing)
        told = provider_options(role, profile, options, own) | timing_options(options, timing)
        session = open_session(toolkit, opened, told)
        self._progress(f"{role.value}: running the engine, and comparing with PyTorch")
        snr_db = measured_snr_db(plan, opened, self._lengths, session)
        _require(role, "engine", snr_db, tolerance_db(role, made_in(role, self._settings.precision)))
        files = {path.name: sha256_file(path) for path in sorted(own.iterdir()) if path.suffix in (".engine", ".onnx")}
        if not any(name.endswith(".engine") for name in files):
            raise EngineBuildError(f"ONNX Runtime kept no engine of {graph.name}: nothing of it runs on TensorRT.")
        return EngineRecord(profile, record.graph_digest, key, snr_db, files)

    def _planned(
        self, plan: GraphPlan, graph: Path, record: EngineRecord, toolkit: Toolkit, own: Path, timing: Path
    ) -> Path:
        """What ONNX Runtime opens of an engine that TensorRT itself built."""
        cache = timing / f"{toolkit.machine.compute_capability}-{toolkit.machine.tensorrt}.timing"
        known = cache.read_bytes() if cache.exists() else b""
        engine, learnt = build_plan(toolkit.tensorrt, graph, record.profile, self._settings.options, known)
        cache.write_bytes(learnt)
        (own / f"{plan.role.value}.engine").write_bytes(engine)
        wrapper = own / wrapper_file(plan.role)
        write_wrapper(graph, f"{plan.role.value}.engine", wrapper)
        return wrapper


def _require(role: Role, what: str, snr_db: int, wanted_db: int) -> None:
    if snr_db < wanted_db:
        raise ParityError(
            f"the {role.value} {what} lies {snr_db} dB from PyTorch; at least {wanted_db} dB are asked for. Nothing "
            "was written; choose another precision."
        )
