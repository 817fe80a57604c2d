"""Make the Python stubs of `proto/soundgen/v1` beside their .proto files.

    python proto/generate.py           rewrite them
    python proto/generate.py --check   make them in a temporary folder, compare, and exit 1 when any differs
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc  # type: ignore[import-untyped]

PROTO_ROOT = Path(__file__).resolve().parent
PACKAGE = Path("soundgen/v1")
STUB_PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Write every stub under `out`, which must exist. Raises RuntimeError when protoc refuses a file."""
    sources = sorted(str(path.relative_to(PROTO_ROOT)) for path in (PROTO_ROOT / PACKAGE).glob("*.proto"))
    services = [source for source in sources if source.endswith("_service.proto")]
    _protoc([f"--python_out={out}", f"--mypy_out=quiet:{out}"], sources)
    _protoc([f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}"], services)


def _protoc(outputs: list[str], sources: list[str]) -> None:
    well_known = resources.files("grpc_tools") / "_proto"
    scripts = Path(sysconfig.get_path("scripts"))  # the plugins of this very environment, whatever PATH says
    plugins = [f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    status = protoc.main(
        ["protoc", f"--proto_path={PROTO_ROOT}", f"--proto_path={well_known}", *plugins, *outputs, *sources]
    )
    if status != 0:
        raise RuntimeError(f"protoc exited with {status}; its message is above. Nothing was compared.")


def stubs(root: Path) -> dict[str, bytes]:
    """Name -> bytes of every stub under `root`."""
    return {path.name: path.read_bytes() for pattern in STUB_PATTERNS for path in (root / PACKAGE).glob(pattern)}


def differing() -> list[str]:
    """Names of committed stubs that are not what the .proto files give, missing and left-over ones included."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, committed = stubs(Path(folder)), stubs(PROTO_ROOT)
    return sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    if not parser.parse_args().check:
        generate(PROTO_ROOT)
        return 0
    names = differing()
    for name in names:
        print(f"{PACKAGE / name} is not what the .proto files give; run `make stubs` and commit it.", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
