"""From inside of the engine's own process there is no way out, while what it needs works."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from plumised.ipc.messages import LayerName, Sandbox
from plumised.petals.sandbox.calls import SandboxError
from plumised.petals.sandbox.landlock import NEWEST_ABI, kernel_abi
from tests.petals.escapes import DONE, MARK
from tests.petals.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.petals.client import SwarmClient
    from tests.petals.engine_process import EngineProcess

    Start = Callable[..., EngineProcess]


def abi_here() -> int:
    """The kernel's ABI of Landlock; 0 for none."""
    try:
        return kernel_abi()
    except SandboxError:
        return 0


confined = pytest.mark.skipif(abi_here() == 0, reason="this kernel has no Landlock")
newest = pytest.mark.skipif(abi_here() < NEWEST_ABI, reason=f"this kernel has no Landlock of ABI {NEWEST_ABI}")


class Ground:
    """A place with secrets, and engines that try to get at them."""

    def __init__(self, directory: Path, start: Start, daemon: int) -> None:
        self._daemon = daemon
        self.secret = directory / "state/keystore.json"
        self.secret.parent.mkdir()
        self.secret.write_text("secret")
        self.outside = directory / "outside"
        self.outside.mkdir()
        self.directory = directory
        self._start = start

    def engine(
        self,
        plan: dict[str, Any] | None = None,
        changes: dict[str, Any] | None = None,
        model: Path | str = "any",
        **job: Any,
    ) -> EngineProcess:
        """An engine that goes by a plan (see `hostile_engine`).

        Args:
            plan: parts of it.
            changes: of its targets.
            model: to serve, if it does.
            job: changes of its job.
        """
        targets = {
            "secrets": [str(self.secret)],
            "directories": [str(self.secret.parent), str(self.outside)],
            "daemon": self._daemon,
            "abstract": f"plumised-test-{os.getpid()}",
            "own": str(self.directory / "engine/run"),
            **(changes or {}),
        }
        directory = self.directory / "engine"
        directory.mkdir(exist_ok=True)
        arguments = json.dumps({"targets": targets, **(plan or {})})
        return self._start(
            model, arguments=("-P", "-m", "tests.petals.hostile_engine", arguments), directory=directory, **job
        )

    def tried(
        self, plan: dict[str, Any] | None = None, changes: dict[str, Any] | None = None, **job: Any
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """What an engine tried and how that went, and what it was given."""
        engine = self.engine(plan, changes, **job)
        assert engine.ended() == 0, engine.log
        found = json.loads(engine.log.partition(MARK)[2].splitlines()[0])
        return found["attempts"], found["circumstances"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a name that is short enough for p2pd's sockets."""
    with tempfile.TemporaryDirectory(prefix="plm-") as directory:
        yield Path(directory)


@pytest.fixture
def ground(place: Path, start: Start) -> Iterator[Ground]:
    # Stands for the daemon: what an engine without a layer does to it must not be done to this process.
    daemon = subprocess.Popen(["/bin/sleep", "600"])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0plumised-test-{os.getpid()}")
        listening.listen()
        try:
            yield Ground(place, start, daemon.pid)
        finally:
            daemon.kill()
            daemon.wait()


def sandbox_of(engine: EngineProcess) -> Sandbox:
    """What the engine says confines it."""
    return engine.recorder.wait(
        lambda: next((each.message for each in engine.recorder.heard() if isinstance(each.message, Sandbox)), None),
        "the engine says what confines it",
        alive=engine.running,
    )


def active(sandbox: Sandbox) -> dict[str, bool]:
    """Which layers are in force."""
    return {str(layer.name): layer.active for layer in sandbox.layers}


@newest
def test_with_every_layer_nothing_gets_out(ground: Ground) -> None:
    tried, _ = ground.tried()
    done = {what for what, how in tried.items() if how == DONE}
    assert done == {"create in its own"}
    assert ground.secret.read_text() == "secret"


@confined
@pytest.mark.parametrize("abi", [abi for abi in (1, 2, 3, 5) if abi <= abi_here()])
def test_with_an_older_landlock_all_but_signals_and_abstract_sockets_is_closed(ground: Ground, abi: int) -> None:
    tried, _ = ground.tried({"abi": abi})
    done = {what for what, how in tried.items() if how == DONE}
    assert done == {
        "create in its own",
        "the daemon's signal",
        "the daemon's signal by descriptor",
        "an abstract socket",
    }
    assert ground.secret.read_text() == "secret"


def test_without_landlock_the_system_calls_stay_closed(ground: Ground) -> None:
    tried, _ = ground.tried({"abi": 0})
    assert {tried[call] for call in ("mount", "bpf", "unshare", "keyctl", "userfaultfd", "io_uring_setup")} == {"EPERM"}
    assert tried["the daemon's process_vm_readv"] == tried["the daemon's ptrace attach"] == "EPERM"
    assert tried["clone with a namespace"] == tried["the daemon's limits"] == "EPERM"
    assert tried["a packet socket"] == tried["a vsock socket"] == tried["a crypto socket"] == "EAFNOSUPPORT"


@confined
def test_without_seccomp_files_and_memory_stay_closed(ground: Ground) -> None:
    tried, _ = ground.tried({"seccomp": False})
    assert tried[f"read: {ground.secret}"] == "EACCES"
    assert tried["the daemon's memory"] == "EACCES"
    assert tried["the daemon's process_vm_readv"] == tried["the daemon's ptrace attach"] == "EPERM"


def test_it_is_given_its_own_variables_and_descriptors_and_no_core_file(ground: Ground) -> None:
    _, given = ground.tried()
    # What Python itself adds is LC_CTYPE; the rest is what EngineProcess gives, as the daemon does.
    assert set(given["variables"]) <= {"PATH", "HOME", "LANG", "LC_CTYPE"}
    assert given["core"] == [0, 0]
    assert (given["no_new_privileges"], given["seccomp"]) == ("1", "2")
    kinds = {target.partition(":")[0].partition("[")[0] for number, target in given["descriptors"] if number > 2}
    # Pipes that wake its threads, the daemon's socket; no file.
    assert kinds <= {"pipe", "socket", "anon_inode"}, given["descriptors"]


@pytest.mark.parametrize(
    ("plan", "missing"),
    [
        ({"abi": 0}, {LayerName.FILES, LayerName.SIGNALS}),
        ({"seccomp": False}, {LayerName.SYSTEM_CALLS}),
        pytest.param({"abi": 2}, {LayerName.SIGNALS}, marks=confined),
    ],
)
def test_it_says_what_it_lacks_and_goes_on(ground: Ground, plan: dict[str, Any], missing: set[LayerName]) -> None:
    engine = ground.engine(plan=plan)
    assert engine.ended() == 0
    sandbox = next(each.message for each in engine.recorder.heard() if isinstance(each.message, Sandbox))
    lacking = {layer.name for layer in sandbox.layers if not layer.active}
    assert lacking == missing | ({LayerName.FILES, LayerName.SIGNALS} if abi_here() == 0 else set())
    assert [layer.name for layer in sandbox.layers] == list(LayerName)
    assert all(layer.detail for layer in sandbox.layers)


@pytest.mark.parametrize("plan", [{"abi": 0}, {"seccomp": False}], ids=["no Landlock", "no seccomp"])
def test_where_it_is_required_nothing_is_served_without_it(ground: Ground, plan: dict[str, Any]) -> None:
    engine = ground.engine(plan=plan, sandbox="required")
    assert engine.ended() == 78
    (failure,) = engine.recorder.failures()
    assert (failure.code, failure.permanent) == ("sandbox-unavailable", True)
    assert "the kernel has no" in failure.message


@confined
def test_where_it_is_required_what_cannot_be_hidden_is_a_failure(ground: Ground) -> None:
    engine = ground.engine(sandbox="required", hidden=(str(ground.secret),), cache_dir=str(ground.secret.parent))
    assert engine.ended() == 78
    (failure,) = engine.recorder.failures()
    assert failure.code == "sandbox-unavailable"
    assert f"{ground.secret} lies in {ground.secret.parent}" in failure.message


@confined
def test_where_it_is_required_and_there_the_engine_goes_on(ground: Ground) -> None:
    tried, _ = ground.tried(sandbox="required", hidden=(str(ground.secret.parent),))
    assert tried[f"read: {ground.secret}"] == "EACCES"


def test_switched_off_it_confines_nothing_and_says_so(ground: Ground) -> None:
    engine = ground.engine({"serve": True}, model=ground.directory / "missing", sandbox="off")
    assert engine.ended() == 78
    assert next(each.message for each in engine.recorder.heard() if isinstance(each.message, Sandbox)) == Sandbox()
    assert engine.recorder.failures()[0].code == "model-not-found"


@confined
def test_every_process_of_an_engine_that_serves_is_confined(served: EngineProcess) -> None:
    sandbox = sandbox_of(served)
    assert active(sandbox) == {
        str(name): name is not LayerName.SIGNALS or abi_here() >= NEWEST_ABI for name in LayerName
    }
    processes = served.processes()
    assert {"plumise-engine", "plumise-dht", "p2pd"} <= {process.name for process in processes}
    for process in processes:
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "\nNoNewPrivs:\t1\n" in status, process
        assert "\nSeccomp:\t2\n" in status, process


@confined
def test_with_debian_12s_landlock_a_real_model_is_served(
    ground: Ground, bloom: Path, served: EngineProcess, client: SwarmClient
) -> None:
    engine = ground.engine(
        {"abi": 2, "serve": True}, model=bloom, prefix="older", initial_peers=served.online().addresses
    )
    engine.online()
    assert client.forward(prefix="older", batch=1, length=3) == [1, 3, 64]
    assert not active(sandbox_of(engine))["signals"]


@confined
def test_with_the_oldest_landlock_which_moves_nothing_between_directories_a_model_is_fetched(
    ground: Ground, llama: Path
) -> None:
    with Hub({"tiny/llama": llama}) as hub:
        engine = ground.engine(
            {"abi": 1, "serve": True}, model="tiny/llama", offline=False, hub_url=hub.url, prefix=None
        )
        assert engine.online().total_blocks == 3
    assert active(sandbox_of(engine))["files"]


@confined
def test_a_model_whose_files_are_links_to_another_place_is_served(
    place: Path, start: Start, bloom: Path, served: EngineProcess, client: SwarmClient
) -> None:
    blobs = shutil.copytree(bloom, place / "blobs")
    snapshot = place / "snapshot"
    snapshot.mkdir()
    for blob in blobs.iterdir():
        # As the hub's client makes them: relative.
        (snapshot / blob.name).symlink_to(Path("..", "blobs", blob.name))
    (place / "model").symlink_to(snapshot)
    engine = start(place / "model", prefix="linked", initial_peers=served.online().addresses)
    engine.online()
    assert client.forward(prefix="linked", batch=1, length=3) == [1, 3, 64]


@confined
def test_a_cache_that_is_a_link_to_another_place_is_written(place: Path, ground: Ground) -> None:
    elsewhere = place / "disk"
    elsewhere.mkdir()
    (place / "cache").symlink_to(elsewhere)
    tried, _ = ground.tried(changes={"own": str(elsewhere)}, cache_dir=str(place / "cache"))
    assert tried["create in its own"] == DONE


@confined
def test_an_identity_elsewhere_is_made_and_kept_closed_to_changes(place: Path, ground: Ground) -> None:
    identity = place / "keys/node.key"
    identity.parent.mkdir()
    tried, _ = ground.tried(changes={"directories": [str(identity.parent)]}, identity_file=str(identity))
    assert identity.stat().st_mode & 0o777 == 0o400
    assert tried[f"create in: {identity.parent}"] == "EACCES"
