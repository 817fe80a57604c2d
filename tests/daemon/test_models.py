"""Models side by side in memory: loaded, unloaded, reloaded; a bad one harms no other; licences are asked for once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from running_daemon import PATIENCE_SECONDS, Gate, RunningDaemon, SteeredEngine, steered
from soundctm.bundle import CODEC_FILE, Bundle, open_bundle, write_manifest
from soundctm.engines.choosing import Wanted
from soundctm.engines.protocol import Engine
from soundctm.errors import DigestMismatchError
from soundctm.models_cli import models as shell
from soundctm_daemon import memory
from soundctm_daemon.cli import app
from soundctm_daemon.engines import EnginePool, LoadEngine, Phase, engine_loader
from soundctm_daemon.errors import ModelInUseError, ModelLoadError, ModelMemoryBusyError, ModelTooBigError
from soundgen import types
from soundgen.client import Client
from soundgen.errors import InvalidRequestError, NotFoundError, PreconditionError
from tiny import write_tiny_bundle

MB = 1_000_000
runner = CliRunner()


@pytest.fixture
def bundles(tmp_path: Path) -> list[Bundle]:
    """Three, of other weights each."""
    return [write_tiny_bundle(tmp_path / "models" / name, seed) for seed, name in enumerate(("tiny", "two", "three"))]


def sized(size_bytes: int, fails: Callable[[Bundle], None] = lambda bundle: None) -> LoadEngine:
    """Engines that say they take this much."""

    def load(bundle: Bundle) -> Engine:
        fails(bundle)
        engine = SteeredEngine(bundle, lambda: None)
        engine.memory_bytes = size_bytes
        return engine

    return load


def loaded(pool: EnginePool) -> set[str]:
    return {digest for digest, state in pool.states().items() if state.phase is Phase.LOADED}


def test_the_least_lately_used_engine_makes_room(bundles: list[Bundle]) -> None:
    one, two, three = bundles
    pool = EnginePool(sized(4 * MB), lambda: 10 * MB)
    first, _ = pool.get(one), pool.get(two)
    assert pool.get(one) is first
    pool.get(three)
    assert loaded(pool) == {one.digest, three.digest}
    assert pool.measured_bytes(two.digest) == 4 * MB  # known still
    pool.get(two)
    assert loaded(pool) == {two.digest, three.digest}


def test_engines_in_use_stay_and_who_needs_their_room_is_told_to_wait(bundles: list[Bundle]) -> None:
    one, two, three = bundles
    pool = EnginePool(sized(4 * MB), lambda: 8 * MB)
    for bundle in (one, two):
        pool.pin(bundle.digest)
        pool.get(bundle)
    with pytest.raises(ModelMemoryBusyError, match="Ask again when those clips are done"):
        pool.get(three)
    assert loaded(pool) == {one.digest, two.digest} == pool.states().keys()
    pool.unpin(one.digest)
    pool.get(three)
    assert loaded(pool) == {two.digest, three.digest}


def test_a_model_bigger_than_the_budget_is_refused_and_nothing_leaves_for_it(bundles: list[Bundle]) -> None:
    one, two, _ = bundles
    pool = EnginePool(lambda bundle: sized(3 * MB if bundle is two else MB)(bundle), lambda: 2 * MB)
    pool.get(two)  # more than its files told; that is known from now on
    pool.unload(two.digest)
    pool.get(one)
    with pytest.raises(ModelTooBigError, match="Set model_memory_mb to at least 4"):
        pool.get(two)
    assert loaded(pool) == {one.digest}
    assert pool.states()[two.digest].phase is Phase.FAILED


def test_a_damaged_model_drives_no_good_one_out(bundles: list[Bundle]) -> None:
    one, two, _ = bundles
    pool = EnginePool(sized(4 * MB), lambda: 4 * MB)
    pool.get(one)
    (two.path / CODEC_FILE).write_bytes(b"no weights")
    with pytest.raises(DigestMismatchError):
        pool.get(two)
    assert loaded(pool) == {one.digest}
    assert CODEC_FILE in pool.states()[two.digest].problem


@pytest.mark.parametrize("defect", [ValueError("surprise"), MemoryError()])
def test_a_defect_at_load_is_told_and_tried_again(bundles: list[Bundle], defect: Exception) -> None:
    one, two, _ = bundles
    defects = [defect]

    def fails(bundle: Bundle) -> None:
        if bundle is two and defects:
            raise defects.pop()

    pool = EnginePool(sized(MB, fails), lambda: 10 * MB)
    pool.get(one)
    with pytest.raises(ModelLoadError, match=type(defect).__name__):
        pool.get(two)
    assert loaded(pool) == {one.digest}
    pool.get(two)
    assert pool.states()[two.digest].problem == ""


def test_unloading_waits_for_nobody_and_is_refused_in_use(bundles: list[Bundle]) -> None:
    one, *_ = bundles
    pool = EnginePool(sized(MB), lambda: 10 * MB)
    pool.unload(one.digest)  # not there: nothing to do
    pool.pin(one.digest)
    pool.get(one)
    with pytest.raises(ModelInUseError, match="1 clips"):
        pool.unload(one.digest)
    pool.unpin(one.digest)
    pool.unload(one.digest)
    assert not pool.states()


def test_unloading_what_is_being_loaded_leaves_the_load_alone(bundles: list[Bundle]) -> None:
    one, *_ = bundles
    begun, go_on = threading.Event(), threading.Event()

    def slow(bundle: Bundle) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)

    pool = EnginePool(sized(MB, slow), lambda: 10 * MB)
    with ThreadPoolExecutor(1) as loading:
        load = loading.submit(pool.get, one)
        assert begun.wait(PATIENCE_SECONDS)
        assert pool.is_loading
        pool.unload(one.digest)
        assert pool.states()[one.digest].phase is Phase.LOADING
        go_on.set()
        load.result(PATIENCE_SECONDS)
    assert loaded(pool) == {one.digest}
    assert not pool.is_loading


def test_many_threads_get_one_engine_loaded_once(bundles: list[Bundle]) -> None:
    loads: list[str] = []
    pool = EnginePool(sized(MB, lambda bundle: loads.append(bundle.digest)), lambda: 10 * MB)
    with ThreadPoolExecutor(8) as threads:
        engines = list(threads.map(lambda turn: pool.get(bundles[turn % 3]), range(60)))
    assert len(set(map(id, engines))) == 3 and sorted(loads) == sorted(bundle.digest for bundle in bundles)


def test_an_engine_in_memory_is_had_while_another_is_loading(bundles: list[Bundle]) -> None:
    one, two, _ = bundles
    loading, go_on = threading.Event(), threading.Event()

    def slow(bundle: Bundle) -> None:
        if bundle is two:
            loading.set()
            assert go_on.wait(PATIENCE_SECONDS)

    pool = EnginePool(sized(MB, slow), lambda: 10 * MB)
    pool.get(one)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(pool.get, two)
        assert loading.wait(PATIENCE_SECONDS)
        assert pool.get(one).digest == one.digest
        assert pool.states()[two.digest].phase is Phase.LOADING
        go_on.set()
        assert coming.result(PATIENCE_SECONDS).digest == two.digest


def test_memory_is_that_of_the_tensors_and_known_before_the_load(bundles: list[Bundle]) -> None:
    pool = EnginePool(engine_loader(Wanted()), lambda: 10**12)
    engine = pool.get(bundles[0])
    measured = pool.states()[bundles[0].digest].memory_bytes
    assert measured == engine.memory_bytes > 100_000
    just_enough, too_small = int(measured * 1.02), int(measured * 0.9)
    EnginePool(engine_loader(Wanted()), lambda: just_enough).get(bundles[0])
    with pytest.raises(ModelTooBigError):
        EnginePool(engine_loader(Wanted()), lambda: too_small).get(bundles[0])


def test_the_budget_is_what_is_set_or_a_share_of_what_is_free(tmp_path: Path) -> None:
    assert memory.memory_budget(300, "cpu")() == 300 * MB
    assert 0 < memory.memory_budget(0, "cpu")() == pytest.approx(0.7 * memory.free_bytes("cpu"), rel=0.5)
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   64 kB\n")
    assert memory._free_in_machine(tmp_path / "meminfo") == 64 * 1024
    assert memory._free_in_machine(tmp_path / "nowhere") > 10 * MB
    assert memory._free_in_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700\n")
    assert memory._free_in_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._free_in_container(tmp_path) == 300
    (tmp_path / "memory.max").write_text("600\n")
    assert memory._free_in_container(tmp_path) == 0


# ---- through the daemon ----


@pytest.fixture
def gate() -> Gate:
    return Gate()


def clip_of(client: Client, model: str) -> types.Clip:
    (ready,) = [event for event in client.generate("rain", model=model) if isinstance(event, types.ClipReady)]
    return ready.clip


def test_models_are_loaded_and_unloaded_by_call(bundles: list[Bundle]) -> None:
    with RunningDaemon() as daemon, Client() as client:
        two = client.load_model("two")
        assert two.state is types.ModelState.LOADED and two.memory_bytes > 0
        assert client.load_model("").is_default
        assert {m.name for m in client.models() if m.state is types.ModelState.LOADED} == {"tiny", "two"}
        assert serving(daemon, "two")
        gone = client.unload_model("two")
        assert gone.state is types.ModelState.INSTALLED and gone.memory_bytes == two.memory_bytes
        assert clip_of(client, "two").recipe.bundle_digest == bundles[1].digest  # loaded again by the request
        for call in (client.load_model, client.unload_model, client.reload_model):
            with pytest.raises(NotFoundError, match="tiny"):
                call("nobody")
            with pytest.raises(NotFoundError):
                call("../tiny")


def test_a_damaged_model_is_told_and_the_running_one_goes_on(bundles: list[Bundle]) -> None:
    (bundles[1].path / CODEC_FILE).write_bytes(b"no weights")
    with RunningDaemon(), Client() as client:
        clip_of(client, "tiny")
        with pytest.raises(PreconditionError, match=CODEC_FILE) as caught:
            client.load_model("two")
        assert caught.value.reason == "DIGEST_MISMATCH"
        assert client.model("two").state is types.ModelState.UNUSABLE
        assert CODEC_FILE in client.model("two").problem
        assert client.model("tiny").state is types.ModelState.LOADED
        clip_of(client, "tiny")
        write_tiny_bundle(bundles[1].path, seed=1)
        assert client.load_model("two").state is types.ModelState.LOADED


def test_a_model_in_use_is_not_unloaded_and_a_clip_in_flight_keeps_its_weights(
    bundles: list[Bundle], gate: Gate
) -> None:
    with RunningDaemon(steered(gate.wait)), Client() as client, ThreadPoolExecutor(1) as thread:
        making = thread.submit(clip_of, client, "tiny")
        gate.wait_until_reached()
        with pytest.raises(PreconditionError, match="being made") as caught:
            client.unload_model("tiny")
        assert caught.value.reason == "MODEL_IN_USE"
        new = replace_bundle(bundles[0], seed=7)
        assert client.model("tiny").digest == bundles[0].digest  # in service until it is reloaded
        assert client.reload_model("tiny").digest == new.digest
        gate.let_through(1000)
        assert making.result(PATIENCE_SECONDS).recipe.bundle_digest == bundles[0].digest
        assert clip_of(client, "tiny").recipe.bundle_digest == new.digest


def test_when_the_new_weights_fail_the_old_ones_go_on(bundles: list[Bundle]) -> None:
    with RunningDaemon(), Client() as client:
        before = clip_of(client, "tiny")
        new = replace_bundle(bundles[0], seed=7)
        (new.path / CODEC_FILE).write_bytes(b"no weights")
        with pytest.raises(PreconditionError, match=CODEC_FILE):
            client.reload_model("tiny")
        assert client.model("tiny").state is types.ModelState.LOADED
        assert clip_of(client, "tiny").recipe.bundle_digest == before.recipe.bundle_digest
        (new.path / "bundle.json").write_text("{")
        with pytest.raises(PreconditionError, match="not a valid manifest"):
            client.reload_model("tiny")
        assert clip_of(client, "tiny").recipe.bundle_digest == before.recipe.bundle_digest


def test_reloading_what_has_not_changed_verifies_it(bundles: list[Bundle]) -> None:
    with RunningDaemon(), Client() as client:
        assert client.reload_model("tiny").state is types.ModelState.LOADED
        replace_file(bundles[0].path / CODEC_FILE, b"no weights")
        with pytest.raises(PreconditionError, match=CODEC_FILE):
            client.reload_model("tiny")
        assert client.model("tiny").state is types.ModelState.LOADED


def test_a_restricted_model_makes_clips_once_its_licence_is_accepted(bundles: list[Bundle]) -> None:
    bundle = restrict(bundles[1])
    with RunningDaemon(), Client() as client:
        model = client.model("two")
        assert model.licence == "CC-BY-NC-4.0" and model.licence_restricted and not model.licence_accepted
        assert model.provenance == "made for a test"
        assert not client.model("tiny").licence_restricted
        with pytest.raises(PreconditionError, match="soundctm models accept two") as caught:
            clip_of(client, "two")
        assert caught.value.reason == "LICENCE_NOT_ACCEPTED"
        for wrong in ("", "Apache-2.0", "x" * 5000):
            with pytest.raises(InvalidRequestError, match="licence"):
                client.accept_licence("two", wrong)
        assert client.accept_licence("two", "CC-BY-NC-4.0").licence_accepted
        clip_of(client, "two")
    with RunningDaemon(), Client() as client:
        clip_of(client, "two")  # once is enough
        write_manifest(bundle.path, replace(bundle.spec, licence="CC-BY-ND-4.0"))
        with pytest.raises(PreconditionError, match="CC-BY-ND"):
            client.unload_model("two")
            clip_of(client, "two")


def test_what_the_shell_accepts_the_daemon_knows_at_once(bundles: list[Bundle]) -> None:
    restrict(bundles[1])
    with RunningDaemon(), Client() as client:
        with pytest.raises(PreconditionError):
            clip_of(client, "two")
        assert runner.invoke(shell, ["accept", "two", "--yes"]).exit_code == 0
        clip_of(client, "two")


def test_a_default_model_with_a_restricted_licence_waits_for_it(bundles: list[Bundle]) -> None:
    restrict(bundles[0])
    with RunningDaemon(), Client() as client:
        with pytest.raises(PreconditionError, match="was not accepted"):
            clip_of(client, "")
        client.accept_licence("", "CC-BY-NC-4.0")
        clip_of(client, "")


def test_the_command_shows_and_changes_what_the_daemon_holds(bundles: list[Bundle]) -> None:
    restrict(bundles[1])
    assert daemon_models("list").exit_code == 3  # no daemon runs
    with RunningDaemon():
        assert "loaded" in daemon_models("load", "two").stdout
        listed = daemon_models("list").stdout
        assert "two" in listed and "CC-BY-NC-4.0 (not accepted)" in listed
        assert daemon_models("accept", "two", answers="n\n").exit_code == 1
        accepted = daemon_models("accept", "two", answers="y\n")
        assert accepted.exit_code == 0 and "made for a test" in accepted.stdout
        assert "loaded" in daemon_models("reload", "two").stdout
        assert "installed" in daemon_models("unload", "two").stdout
        states = {model["name"]: model for model in json.loads(daemon_models("list", "--json").stdout)}
        assert states["two"]["licence_accepted"] and states["two"]["state"] == "installed"
        refused = daemon_models("load", "nobody")
        assert refused.exit_code == 1 and "MODEL_NOT_FOUND" in refused.stderr


def daemon_models(*words: str, answers: str = "") -> Any:
    return runner.invoke(app, ["models", *words], input=answers)


def restrict(bundle: Bundle) -> Bundle:
    return write_manifest(bundle.path, replace(bundle.spec, licence="CC-BY-NC-4.0", provenance="made for a test"))


def replace_bundle(bundle: Bundle, seed: int) -> Bundle:
    """Other weights in its folder, put there as a whole: the old files stay what they are for who maps them."""
    aside = write_tiny_bundle(bundle.path.with_name("aside"), seed).path
    bundle.path.rename(bundle.path.with_name("former"))
    return open_bundle(aside.rename(bundle.path))


def replace_file(path: Path, data: bytes) -> None:
    aside = path.with_name("aside")
    aside.write_bytes(data)
    aside.replace(path)


def serving(daemon: RunningDaemon, model: str) -> bool:
    with grpc.insecure_channel(f"unix:{daemon.listening.socket}") as channel:
        request = health_pb2.HealthCheckRequest(service=f"soundgen.v1.model/{model}")
        status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE_SECONDS).status
    return bool(status == health_pb2.HealthCheckResponse.SERVING)
