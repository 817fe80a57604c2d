"""The committed stubs are exactly what the .proto files give, and the contract keeps its shape."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor

from soundgen.v1 import clip_service_pb2, generation_service_pb2, model_service_pb2

PROTO = Path(__file__).parents[2] / "proto"
GENERATE = PROTO / "generate.py"
FILES = (generation_service_pb2, model_service_pb2, clip_service_pb2)


def services() -> list[ServiceDescriptor]:
    descriptors: list[FileDescriptor] = [module.DESCRIPTOR for module in FILES]
    return [service for file in descriptors for service in file.services_by_name.values()]


def test_one_command_makes_the_committed_stubs_again() -> None:
    environment = {**os.environ, "PATH": os.defpath}  # the plugins come from the environment, not from PATH
    checked = subprocess.run(
        [sys.executable, str(GENERATE), "--check"], capture_output=True, text=True, check=False, env=environment
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_call_has_its_own_request_and_response() -> None:
    methods = [method for service in services() for method in service.methods]
    requests = [method.input_type.full_name for method in methods]
    responses = [method.output_type.full_name for method in methods]
    assert len(set(requests)) == len(set(responses)) == len(methods)
    for method in methods:
        assert method.input_type.name == f"{method.name}Request"
        assert method.output_type.name == f"{method.name}Response"


def test_the_services_are_the_ones_of_the_contract() -> None:
    streaming = {
        f"{service.name}.{method.name}": method.server_streaming
        for service in services()
        for method in service.methods
    }
    assert streaming == {
        "GenerationService.Generate": True,
        "GenerationService.GenerateVariations": True,
        "GenerationService.Refine": True,
        "GenerationService.RefineProgressively": True,
        "GenerationService.Rerender": True,
        "GenerationService.Watch": True,
        "GenerationService.Cancel": False,
        "GenerationService.ListJobs": False,
        "ModelService.ListModels": False,
        "ModelService.GetModel": False,
        "ModelService.LoadModel": False,
        "ModelService.UnloadModel": False,
        "ModelService.ReloadModel": False,
        "ModelService.AcceptLicence": False,
        "ClipService.GetClip": False,
        "ClipService.ListClips": False,
        "ClipService.Download": True,
        "ClipService.UpdateClip": False,
        "ClipService.DeleteClip": False,
        "ClipService.UndeleteClip": False,
        "ClipService.ImportClip": False,
        "ClipService.SearchClips": False,
        "ClipService.ExportRecipe": False,
    }
    assert {service.file.package for service in services()} == {"soundgen.v1"}


def test_the_contract_imports_nothing_of_google_rpc() -> None:
    imported = {dependency.name for module in FILES for dependency in module.DESCRIPTOR.dependencies}
    assert not [name for name in imported if name.startswith("google/rpc")]


@pytest.mark.parametrize("field", ["negative_prompt", "seed", "seconds", "steps", "gamma", "omega", "nu", "model"])
def test_zero_is_told_from_absent(field: str) -> None:
    request = generation_service_pb2.GenerateRequest()
    assert not request.HasField(field)  # type: ignore[arg-type]
    setattr(request, field, getattr(request, field))
    assert request.HasField(field)  # type: ignore[arg-type]


def buf(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = Path(sysconfig.get_path("scripts")) / "buf"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, cwd=PROTO)


def test_clients_of_the_last_release_go_on_working(tmp_path: Path) -> None:
    compatible = buf("breaking", ".", "--against", PROTO / "released.binpb")
    assert (compatible.returncode, compatible.stdout) == (0, "")
    changed = shutil.copytree(PROTO, tmp_path / "proto", ignore=shutil.ignore_patterns("*.py*"))
    contract = changed / "soundgen" / "v1" / "clip.proto"
    contract.write_text(contract.read_text().replace("uint32 seed = 5;", "uint64 seed = 5;"))
    broken = buf("breaking", changed, "--against", PROTO / "released.binpb")
    assert broken.returncode == 100
    assert 'Field "5" with name "seed" on message "Recipe" changed type' in broken.stdout
