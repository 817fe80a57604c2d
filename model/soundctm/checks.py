"""What `soundctm doctor` looks at in this room: packages, processors, bundles, folders. Each check says what to do.

Other rooms add theirs by the entry point group `soundctm.checks`: a function without arguments that gives Findings, or
tuples of the same three values where the room does not know this one.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from soundctm import __version__
from soundctm.bundle import find_bundle, installed_names
from soundctm.errors import SoundCTMError
from soundctm.settings import models_dir

DISTRIBUTION = "soundctm-daw"
DISK_NEEDED_BYTES = 1 << 30
_AUDIO_PACKAGES = ("soundfile", "soxr", "pedalboard")
_SYSTEM_LIBRARIES = {"libatomic.so.1": "libatomic1", "libstdc++.so.6": "libstdc++6"}  # small images lack them
_GB = 1e9


class Finding(NamedTuple):
    """`ok` None means worth knowing, neither good nor bad. Where it is False, `detail` says what to do."""

    check: str
    ok: bool | None
    detail: str


Check = Callable[[], Iterator[Finding]]


def onnxruntime_conflict() -> str | None:
    """Both ONNX Runtime wheels own the import name `onnxruntime`; the last one installed wins, silently."""
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    if len(both) < 2:
        return None
    return (
        "onnxruntime and onnxruntime-gpu are both installed and overwrite one another's files. "
        "Run `pip uninstall -y onnxruntime onnxruntime-gpu`, then install the extra you need: "
        "`pip install 'soundctm-daw[cpu]'` or `'soundctm-daw[gpu]'`."
    )


def folder_finding(check: str, folder: Path, move_it: str) -> Finding:
    """Whether files can be made in a folder, or it can be made itself, and whether its disk has room. `move_it` names
    the variable that names another."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free_bytes = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(
            check, False, f"nothing can be written in {existing} ({error.strerror}); make it writable, or set {move_it}"
        )
    if free_bytes < DISK_NEEDED_BYTES:
        return Finding(
            check, False, f"only {free_bytes / _GB:.2f} GB free beside {folder}; make room for 1 GB, or set {move_it}"
        )
    return Finding(check, True, f"{folder} can be written, {free_bytes / _GB:.1f} GB free")


def system() -> Iterator[Finding]:
    about = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} logical cores"
    try:
        wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        yield Finding("python", None, about)
        return
    right = SpecifierSet(wanted).contains(platform.python_version(), prereleases=True)
    yield Finding("python", right, about if right else f"{about}; {DISTRIBUTION} needs {wanted}: install such a Python")


def requirements() -> Iterator[Finding]:
    """Every package that pyproject.toml asks for, in the version it asks for; those of extras only where they are
    installed."""
    try:
        installed, asked = metadata.version(DISTRIBUTION), metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding("packages", False, f"{DISTRIBUTION} is not installed; run `pip install {DISTRIBUTION}`")
        return
    if installed != __version__:
        yield Finding(
            "packages", False, f"the code is version {__version__}, installed was {installed}; run `pip install` again"
        )
    wrong = dict.fromkeys(problem for text in asked if (problem := _unmet(Requirement(text))))
    for problem in wrong:
        yield Finding("packages", False, problem)
    if not wrong:
        yield Finding("packages", True, f"{DISTRIBUTION} {installed} and what it asks for")


def pytorch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", False, _not_imported(error, "torch"))
        return
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    limit = os.environ.get("OMP_NUM_THREADS")
    yield Finding("torch", True, f"{torch.__version__}, {threads}" + (f" (OMP_NUM_THREADS={limit})" if limit else ""))
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            yield Finding("gpu", True, f"cuda:{index}, {device.name}, {device.total_memory / _GB:.0f} GB")
    elif torch.version.cuda or torch.version.hip:
        yield Finding(
            "gpu", None, "torch was built for one and finds none: everything runs on the CPU. If there is one, install "
            "its driver (`nvidia-smi` or `rocm-smi` must show it)"
        )
    else:
        yield Finding("gpu", None, "torch was built for the CPU alone; for a GPU install its CUDA or ROCm build")


def onnxruntime() -> Iterator[Finding]:
    conflict = onnxruntime_conflict()
    if conflict:
        yield Finding("onnxruntime", False, conflict)
        return
    present = next((name for name in ("onnxruntime-gpu", "onnxruntime") if _version(name)), None)
    if present is None:
        yield Finding("onnxruntime", None, "not installed; only exported bundles need it: extras `cpu` or `gpu`")
        return
    yield _importable("onnxruntime", f"{present} {_version(present)}", present)


def audio() -> Iterator[Finding]:
    for name in _AUDIO_PACKAGES:
        yield _importable(name, f"{_version(name)}", name)


def bundles() -> Iterator[Finding]:
    """Each file of each installed model against its checksum."""
    for name in installed_names():
        try:
            bundle = find_bundle(name)
            bundle.verify()
        except SoundCTMError as error:
            yield Finding(f"model {name}", False, str(error))
        else:
            about = f"{bundle.digest[:12]}, {len(bundle.files)} files match their checksums"
            yield Finding(f"model {name}", True, about)


def folders() -> Iterator[Finding]:
    yield folder_finding("models folder", models_dir(), "SOUNDCTM_MODELS")


CHECKS: tuple[Check, ...] = (system, requirements, pytorch, onnxruntime, audio, bundles, folders)


def _unmet(requirement: Requirement) -> str:
    """What is wrong with a required package; empty where nothing is."""
    in_base = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    found = _version(requirement.name)
    cure = f"run `pip install '{requirement.name}{requirement.specifier}'`"
    if found is None:
        return f"{requirement.name} is missing; {cure}" if in_base else ""
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return f"{requirement.name} is {found}, asked for is {requirement.specifier}; {cure}"


def _importable(name: str, about: str, distribution: str) -> Finding:
    try:
        importlib.import_module(name)
    except (ImportError, OSError) as error:
        return Finding(name, False, _not_imported(error, distribution))
    return Finding(name, True, about)


def _not_imported(error: Exception, distribution: str) -> str:
    cure = f"run `pip install --force-reinstall {distribution}`"
    for library, package in _SYSTEM_LIBRARIES.items():
        if library in str(error):
            cure = f"it is a library of the system: on Debian and Ubuntu run `apt-get install {package}`"
    return f"cannot be imported ({error}); {cure}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
