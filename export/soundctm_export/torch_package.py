"""A bundle becomes packages of `torch.export`: programs that PyTorch runs without this project's code.

Each is loaded again and compared with the bundle's own networks, as graphs are. With `compiled`, AOTInductor's machine
code of each lies beside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram

from soundctm.bundle import MANIFEST, find_bundle, sha256_file
from soundctm.exports import Role
from soundctm_export.errors import ExportError, MissingPackageError, ParityError
from soundctm_export.export import Progress, aside
from soundctm_export.exporter import by_parameter, quiet, traced_inputs
from soundctm_export.graphs import GraphPlan, graph_plans
from soundctm_export.parity import measured_snr_db
from soundctm_export.parts import load_parts
from soundctm_export.precisions import tolerance_db
from soundctm_export.settings import Precision
from soundctm_export.torch_package_settings import TorchPackageSettings

PACKAGES = "packages.json"
FORMAT = 1

_ROLES = (Role.TEXT, Role.JUMP, Role.DECODER)
_COMPILERS = ("c++", "g++", "clang++", "cl")
_CHECKED_TOKENS = 7  # by how much the second length of a check exceeds the first

Run = Callable[..., Any]


@dataclass(frozen=True)
class PackageRecord:
    """`snr_db`: the worst output's, against the bundle's networks, in whole decibels."""

    role: Role
    file: str
    compiled: bool
    snr_db: int
    tolerance_db: int


def export_torch(settings: TorchPackageSettings, progress: Progress = lambda text: None) -> list[PackageRecord]:
    """Make the folder `settings.out`: the bundle unchanged, its packages, `packages.json`. Nothing is left on failure.

    Raises BundleError and its kinds, ExportError and its kinds.
    """
    bundle = find_bundle(settings.bundle)
    if settings.compiled and not any(map(shutil.which, _COMPILERS)):
        raise MissingPackageError(
            f"--compiled needs a C++ compiler, and there is none of: {', '.join(_COMPILERS)}. Install one, or leave "
            "the option out."
        )
    with aside(settings.out, bundle) as folder:
        progress(f"loading {bundle.spec.name}")
        parts = load_parts(bundle)
        for name in (MANIFEST, *bundle.files):
            shutil.copyfile(bundle.path / name, folder / name)
        patch = bundle.spec.network.patch_frames
        shortest = bundle.spec.latent_frames(bundle.spec.ranges.min_seconds)
        lengths = (shortest, shortest + _CHECKED_TOKENS * patch)
        with torch.inference_mode():
            plans = [plan for plan in graph_plans(parts) if plan.role in _ROLES]
        records = []
        for plan in plans:
            progress(f"{plan.role.value}: exporting")
            program = exported(plan)
            path = folder / f"{plan.role.value}.pt2"
            with quiet():
                torch.export.save(program, path)
                loaded = torch.export.load(path).module()
            progress(f"{plan.role.value}: comparing with the bundle's networks")
            records.append(_checked(plan, path, loaded, lengths, compiled=False))
            if settings.compiled:
                progress(f"{plan.role.value}: compiling; this takes minutes")
                path = path.with_suffix(".compiled.pt2")
                records.append(_checked(plan, path, _compiled(program, path), lengths, compiled=True))
        _write_list(folder, bundle.digest, records)
    return records


def exported(plan: GraphPlan) -> ExportedProgram:
    """With batch and length free, and nothing in it of where it was made. Raises ExportError."""
    free = [dict.fromkeys(port.axes, Dim.DYNAMIC) for port in plan.inputs]
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(
                plan.module.eval(), traced_inputs(plan), dynamic_shapes=by_parameter(plan.module, free)
            )
    except Exception as error:  # of many kinds, without a common root
        raise ExportError(
            f"{plan.role.value} cannot be exported by PyTorch {torch.__version__}: {_first_line(error)}. Nothing was "
            "written; report it with the bundle's bundle.json."
        ) from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def _compiled(program: ExportedProgram, path: Path) -> Run:
    try:
        with quiet():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
            run: Run = torch._inductor.aoti_load_package(str(path))
    except Exception as error:  # of many kinds, without a common root
        raise ExportError(
            f"{path.name} cannot be compiled by PyTorch {torch.__version__}: {_first_line(error)}. Nothing was "
            "written; try without --compiled."
        ) from error
    return run


def _checked(plan: GraphPlan, path: Path, run: Run, lengths: Sequence[int], *, compiled: bool) -> PackageRecord:
    snr_db = measured_snr_db(plan, path, lengths, _as_session(plan, run))
    wanted_db = tolerance_db(plan.role, Precision.FP32)
    if snr_db < wanted_db:
        raise ParityError(
            f"{path.name} lies {snr_db} dB from the bundle's networks; at least {wanted_db} dB are asked for. Nothing "
            "was written; report it with the bundle's bundle.json."
        )
    return PackageRecord(plan.role, path.name, compiled, snr_db, wanted_db)


def _as_session(plan: GraphPlan, run: Run) -> SimpleNamespace:
    """What `measured_snr_db` compares."""

    def answered(names: None, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        made = run(*(torch.from_numpy(np.array(arrays[port.name])) for port in plan.inputs))
        return [tensor.numpy() for tensor in ((made,) if isinstance(made, torch.Tensor) else made)]

    return SimpleNamespace(get_inputs=lambda: plan.inputs, get_outputs=lambda: plan.outputs, run=answered)


def _write_list(folder: Path, bundle_digest: str, records: Sequence[PackageRecord]) -> None:
    data = {
        "format": FORMAT,
        "bundle_digest": bundle_digest,
        "torch": torch.__version__,
        "packages": [asdict(record) for record in records],
        "files": {record.file: sha256_file(folder / record.file) for record in records},
    }
    (folder / PACKAGES).write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
