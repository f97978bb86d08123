"""A node whose engine was taken over: what it tries on daemon, wallet and ledger, and what the node says of it."""

from __future__ import annotations

import asyncio
import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from plumised.ipc.messages import LayerName
from plumised.petals.sandbox.calls import SandboxError
from plumised.petals.sandbox.landlock import NEWEST_ABI, kernel_abi
from tests.devnet.client.process import ENGINE_PYTHON
from tests.devnet.model import make_bloom
from tests.devnet.node import DevNode, key

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]

NOBODY = "http://127.0.0.1:9"
PATIENCE_S = 90.0
RESULT = "cache/escapes.json"


def abi_here() -> int:
    """The kernel's ABI of Landlock; 0 for none."""
    try:
        return kernel_abi()
    except SandboxError:
        return 0


def python_of(place: Path, plan: dict[str, Any]) -> Path:
    """An interpreter that makes a hostile engine of every engine."""
    script = place / "python"
    arguments = ("-u", "-P", "-m", "tests.petals.hostile_engine", json.dumps(plan))
    script.write_text(f"#!/bin/sh\nexec {shlex.join([str(ENGINE_PYTHON), *arguments])}\n")
    script.chmod(0o755)
    return script


def node_at(place: Path, plan: dict[str, Any], extra: dict[str, dict[str, object]] | None = None) -> DevNode:
    """A node with a wallet and a hostile engine."""
    node = DevNode(
        place / "node",
        make_bloom(place / "model", blocks=1),
        "0:1",
        key(0xAA),
        NOBODY,
        NOBODY,
        python=python_of(place, plan),
        extra=extra or {},
    )
    node.prepare()
    return node


def plan_for(node_directory: Path) -> dict[str, Any]:
    """All that an engine could want of its node."""
    state = node_directory / "state"
    return {
        "targets": {
            "secrets": [
                str(state / "wallet/keystore.json"),
                str(node_directory / "password"),
                str(state / "ledger.sqlite"),
                str(state / "engine.json"),
                str(node_directory / "node.toml"),
            ],
            "directories": [str(state), str(state / "wallet"), str(node_directory / "run"), str(node_directory)],
            "control_socket": str(node_directory / "run/control.sock"),
            "own": str(node_directory / "run/engine"),
        },
        "result": str(node_directory / RESULT),
    }


async def told(node: DevNode) -> dict[str, Any]:
    """What a hostile engine tried and how that went (tests/petals/escapes.py), and what it was given."""
    result = node.directory / RESULT
    async with asyncio.timeout(PATIENCE_S):
        while not result.exists():
            await asyncio.sleep(0.05)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


async def sandbox_of(node: DevNode) -> dict[str, Any]:
    """The status's part on the sandbox, once the engine has said what confines it."""
    await node.wait_for_control()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            sandbox: dict[str, Any] | None = (await node.status())["engine"]["sandbox"]
            if sandbox is not None:
                return sandbox
            await asyncio.sleep(0.05)


@pytest.mark.skipif(abi_here() < NEWEST_ABI, reason=f"this kernel has no Landlock of ABI {NEWEST_ABI}")
async def test_an_engine_that_was_taken_over_gets_at_nothing_of_its_daemon(place: Path) -> None:
    node = node_at(place, plan_for(place / "node"))
    async with node:
        found = await told(node)
        assert "the engine's sandbox: files (Landlock ABI" in node.log_file.read_text()
        assert json.loads(await asyncio.to_thread(node.control.status))["node"]["pid"] == node.process.pid
        assert node.process.returncode is None
        assert await node.stop() == 0
    tried = found["attempts"]
    assert {what for what, how in tried.items() if how == "done"} == {"create in its own"}
    assert tried["ask the control socket"] in {"ECONNREFUSED", "ECONNRESET", "EPIPE"}
    assert len(tried) > 60
    assert "turned process" in node.log_file.read_text()

    given = found["circumstances"]
    # PWD is the shell's that stands for the interpreter here; LC_CTYPE is Python's own.
    assert set(given["variables"]) - {"PWD", "LC_CTYPE"} == {"PATH", "HOME", "TMPDIR", "LANG", "PLUMISED_INCARNATION"}
    assert given["core"] == [0, 0]


@pytest.mark.skipif(abi_here() == 0, reason="this kernel has no Landlock")
async def test_on_an_older_kernel_the_secrets_stay_closed(place: Path) -> None:
    node = node_at(place, {**plan_for(place / "node"), "abi": 2})
    async with node:
        found = await told(node)
        assert "the engine's sandbox lacks signals: takes Landlock ABI 6" in node.log_file.read_text()
        assert await node.stop() == 0
    done = {what for what, how in found["attempts"].items() if how == "done"}
    assert done == {"create in its own", "the daemon's signal", "the daemon's signal by descriptor"}


async def test_without_landlock_the_daemons_memory_and_its_control_socket_stay_closed(place: Path) -> None:
    # What it tries on files would succeed, so it is given one that is worth nothing.
    worthless = place / "worthless"
    worthless.write_text("x")
    plan = plan_for(place / "node")
    plan["targets"] |= {"secrets": [str(worthless)], "directories": []}
    node = node_at(place, {**plan, "abi": 0})
    async with node:
        tried = (await told(node))["attempts"]
        assert await node.stop() == 0
    assert tried["ask the control socket"] in {"ECONNREFUSED", "ECONNRESET", "EPIPE"}
    for what in ("memory", "environment", "map", "ptrace attach", "ptrace seize", "process_vm_readv", "limits"):
        assert tried[f"the daemon's {what}"] in {"EPERM", "EACCES"}, what


async def test_a_missing_layer_is_told_and_the_engine_goes_on(place: Path) -> None:
    node = node_at(
        place, {"targets": {}, "abi": 0, "serve": True}, {"oracle": {"enabled": False}, "chain": {"enabled": False}}
    )
    async with node:
        sandbox = await sandbox_of(node)
        status = await node.wait_for("serving")
        text = await asyncio.to_thread(node.control.status, "text")
    assert sandbox["mode"] == "auto"
    assert [layer["name"] for layer in sandbox["layers"]] == [str(name) for name in LayerName]
    assert sandbox["layers"][0] == {"name": "files", "active": False, "detail": "the kernel has no Landlock"}
    assert "engine-unconfined" in {problem["code"] for problem in status["problems"]}
    assert "no files (the kernel has no Landlock)" in text
    assert "the engine's sandbox lacks files: the kernel has no Landlock" in node.log_file.read_text()


async def test_where_it_is_required_the_node_says_what_to_do_instead_of_serving(place: Path) -> None:
    alone: dict[str, dict[str, object]] = {"oracle": {"enabled": False}, "chain": {"enabled": False}}
    node = node_at(place, {"targets": {}, "abi": 0}, {**alone, "engine": {"sandbox": "required"}})
    async with node:
        await node.wait_for_control()
        async with asyncio.timeout(PATIENCE_S):
            while (status := await node.status())["engine"]["state"] != "failed":
                await asyncio.sleep(0.1)
    failure = status["engine"]["failure"]
    assert failure["code"] == "sandbox-unavailable"
    assert '[engine] sandbox = "auto"' in failure["remedy"]
