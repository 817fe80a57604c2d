"""`soundctm doctor`: is this installation able to make sound? Each check says what to do when it is not."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata

import typer
from rich.console import Console
from rich.table import Table

from soundctm import __version__
from soundctm.bundle import find_bundle
from soundctm.errors import SoundCTMError
from soundctm.settings import STARTER, models_dir

_DISK_NEEDED_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """`ok` None means worth knowing, neither good nor bad."""

    check: str
    ok: bool | None
    detail: str


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


def doctor(as_json: bool = typer.Option(False, "--json", help="One JSON array instead of a table.")) -> None:
    """Check this installation. Exits 1 when something would keep it from making sound."""
    findings = [finding for check in _CHECKS for finding in check()]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        table = Table("check", "", "detail", title=f"soundctm-daw {__version__}")
        marks = {True: "[green]ok[/]", False: "[red]no[/]", None: "-"}
        for finding in findings:
            table.add_row(finding.check, marks[finding.ok], finding.detail)
        Console().print(table)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _system() -> Iterator[Finding]:
    yield Finding("python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.system()}, "
                                                         f"{os.cpu_count()} logical cores")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("torch", False, f"cannot be imported ({error}); run `pip install torch`")
        return
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"
    yield Finding("torch", True, f"{torch.__version__}, {device}")


def _onnxruntime() -> Iterator[Finding]:
    conflict = onnxruntime_conflict()
    if conflict:
        yield Finding("onnxruntime", False, conflict)
        return
    present = next((f"{n} {_version(n)}" for n in ("onnxruntime-gpu", "onnxruntime") if _version(n)), None)
    yield Finding("onnxruntime", None, present or "not installed; only exported bundles need it: extras `cpu` or `gpu`")


def _starter() -> Iterator[Finding]:
    try:
        bundle = find_bundle(STARTER)
        bundle.verify()
    except SoundCTMError as error:
        yield Finding("starter bundle", False, str(error))
        return
    yield Finding("starter bundle", True, f"{bundle.digest[:12]}, {len(bundle.files)} files match their checksums")


def _disk() -> Iterator[Finding]:
    folder = models_dir()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    yield Finding("disk", free_bytes > _DISK_NEEDED_BYTES, f"{free_bytes / 2**30:.1f} GiB free beside {folder}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_system, _torch, _onnxruntime, _starter, _disk)
