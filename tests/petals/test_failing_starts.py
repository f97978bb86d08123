"""Engines that cannot start say why: one failure with a remedy on the socket, one line in the log, a telling status."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from plumised.ipc.messages import Failure, Phase
from tests.devnet.model import drop_weights
from tests.petals.engine_process import ROOT, EngineProcess, session
from tests.petals.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PEER_ID = "QmNbcm8MePJt1UW113rd1Z6Ki1jn26zDFud1cAAFz5N91W"


class Ground:
    """What the cases find: a directory of their own, checkpoints, taken and closed ports, a hub."""

    def __init__(self, directory: Path, bloom: Path, served: EngineProcess, resources: ExitStack) -> None:
        self.directory = directory
        self.bloom = bloom
        self.served = served
        self._resources = resources

    def copy(self, name: str) -> Path:
        """A copy of the checkpoint, to be damaged."""
        return shutil.copytree(self.bloom, self.directory / name)

    def hub(self, directory: Path, *, broken: bool = False) -> str:
        """URL of a hub that has the directory as tiny/bloom."""
        return self._resources.enter_context(Hub({"tiny/bloom": directory}, broken=broken)).url

    def taken_port(self) -> int:
        """A port on which this process listens."""
        server = self._resources.enter_context(socket.create_server(("127.0.0.1", 0)))
        return int(server.getsockname()[1])

    def closed_port(self) -> int:
        """A port on which nobody listens."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            return int(server.getsockname()[1])


@dataclass(frozen=True)
class Case:
    """One start that fails.

    Attributes:
        code: of the failure.
        permanent: whether another start cannot help.
        job: makes what is different in the job; `model` is the model.
        says: what else the message holds.
    """

    code: str
    permanent: bool
    job: Callable[[Ground], dict[str, Any]]
    says: str = ""


def incomplete(ground: Ground) -> dict[str, Any]:
    model = ground.copy("incomplete")
    drop_weights(model, 1, "mlp.")
    return {"model": model}


def pickled(ground: Ground) -> dict[str, Any]:
    model = ground.copy("pickled")
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    return {"model": model}


def unforeseen(ground: Ground) -> dict[str, Any]:
    model = ground.copy("unforeseen")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"n_layer": "many"}))
    return {"model": model}


def without_weights(ground: Ground) -> dict[str, Any]:
    model = ground.copy("without-weights")
    (model / "model.safetensors").unlink()
    return on_hub(ground.hub(model))


def on_hub(url: str, **changes: object) -> dict[str, Any]:
    return {"model": "tiny/bloom", "offline": False, "hub_url": url, **changes}


def in_use(ground: Ground) -> dict[str, Any]:
    return {"identity_file": ground.served.job.identity_file, "initial_peers": ground.served.online().addresses}


def unreachable(ground: Ground) -> dict[str, Any]:
    peer = f"/ip4/127.0.0.1/tcp/{ground.closed_port()}/p2p/{PEER_ID}"
    return {"initial_peers": (peer,), "join_timeout_s": 10.0}


CASES = {
    "model directory missing": Case("model-not-found", True, lambda ground: {"model": ground.directory / "missing"}),
    "tensors missing": Case("model-incomplete", True, incomplete),
    "pickle": Case("pickle-refused", True, pickled),
    "span outside": Case("span-outside-model", True, lambda _: {"last_block": 4}),
    "port taken": Case("port-taken", False, lambda ground: {"listen": (f"/ip4/127.0.0.1/tcp/{ground.taken_port()}",)}),
    "identity missing": Case(
        "identity-unreadable", True, lambda ground: {"identity_file": str(ground.directory / "missing" / "key")}
    ),
    "identity in use": Case("identity-taken", False, in_use),
    "no peer answers": Case("swarm-unreachable", False, unreachable),
    "float16 on a CPU": Case("dtype-unsupported", True, lambda _: {"device": "cpu", "dtype": "float16"}),
    "directory without prefix": Case("prefix-missing", True, lambda _: {"prefix": None}),
    "runtime directory too long": Case(
        "runtime-dir-too-long", True, lambda ground: {"runtime_dir": str(ground.directory / ("x" * 80))}
    ),
    "cache directory below a file": Case(
        "directory-not-writable", True, lambda ground: {"cache_dir": str(ground.bloom / "config.json" / "cache")}
    ),
    "wrong environment": Case("engine-environment", True, lambda _: {"python": ROOT / "build/env/dev/bin/python"}),
    "nothing understood": Case("engine-crashed", False, unforeseen),
    "hub unreachable": Case(
        "hub-unreachable", False, lambda ground: on_hub(f"http://127.0.0.1:{ground.closed_port()}"), "/config.json: "
    ),
    "hub broken": Case("hub-unreachable", False, lambda ground: on_hub(ground.hub(ground.bloom, broken=True)), "500"),
    "hub without the model": Case(
        "model-not-found", True, lambda ground: on_hub(ground.hub(ground.bloom), model="tiny/other"), "/tiny/other/"
    ),
    "hub without the revision": Case(
        "model-not-found", True, lambda ground: on_hub(ground.hub(ground.bloom), revision="v2"), "/v2/"
    ),
    "hub without weights": Case("model-not-found", True, without_weights),
    "offline without a cache": Case("model-not-found", True, lambda _: {"model": "tiny/bloom"}),
    "cache too small": Case(
        "disk-full", False, lambda ground: on_hub(ground.hub(ground.bloom), cache_limit_bytes=1000)
    ),
}


@dataclass(frozen=True)
class Outcome:
    """How a start ended."""

    status: int
    failures: list[Failure]
    last_phase: Phase
    log: str
    left: list[object]


def outcome_of(case: Case, ground: Ground) -> Outcome:
    job = case.job(ground)
    model = job.pop("model", ground.bloom)
    with EngineProcess(model, **({"first_block": 0, "last_block": 3} | job)) as engine:
        status = engine.ended()
        recorder = engine.recorder
        return Outcome(status, recorder.failures(), recorder.phases()[-1], engine.log, [*session(engine.pid)])


@pytest.fixture(scope="module")
def outcomes(bloom: Path, served: EngineProcess) -> Iterator[dict[str, Future[Outcome]]]:
    """The outcomes of all cases, two of which run at a time."""
    with ExitStack() as resources:
        directory = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="plm-")))
        ground = Ground(directory, bloom, served, resources)
        pool = resources.enter_context(ThreadPoolExecutor(2))
        yield {name: pool.submit(outcome_of, case, ground) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_start_that_fails_says_why(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    case, outcome = CASES[name], outcomes[name].result()
    (failure,) = outcome.failures
    assert (failure.code, failure.permanent) == (case.code, case.permanent), failure
    assert outcome.status == (78 if case.permanent else 70)
    assert outcome.last_phase is Phase.STOPPED
    assert failure.message
    assert case.says in failure.message
    assert failure.remedy.endswith(".")
    assert f"{failure.message} ({failure.code}). {failure.remedy}" in outcome.log
    assert ("Traceback" in outcome.log) == (case.code == "engine-crashed"), outcome.log
    assert outcome.left == []


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("", "the settings on standard input are wrong: not JSON"),
        ("hello\n", "the settings on standard input are wrong: not JSON"),
        ("[1]", "the settings on standard input are wrong: not an object"),
        ('{"protocol": 1}', "the settings on standard input are wrong: "),
        ('{"protocol": 99}', "the daemon speaks protocol 99, this engine 1: plumise-node and plumise-engine-petals"),
        ("{}", "the daemon speaks protocol None, this engine 1"),
    ],
)
def test_settings_that_are_not_understood_are_one_line_and_78(bloom: Path, settings: str, complaint: str) -> None:
    with EngineProcess(bloom, settings=settings) as engine:
        assert engine.ended() == 78
        (line,) = engine.log.splitlines()
        assert line.startswith(f"plumised.petals: {complaint}")
        assert engine.recorder.hellos() == []
