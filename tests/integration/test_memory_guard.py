"""The daemon closes its memory before it opens anything secret."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.devnet.client.process import ROOT
from tests.devnet.model import make_bloom
from tests.devnet.node import DevNode, key
from tests.integration.conftest import short_directory

NOWHERE = "http://127.0.0.1:9"
ENDED_WITHIN_S = 60.0


async def opens(node: DevNode, record: Path) -> list[tuple[str, str]]:
    """Run a daemon until it knows its agent; what it opened: whether it was dumpable then, and the path."""
    agent = node.prepare()
    with node.log_file.open("ab") as log:
        daemon = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.opens_noted", str(record)),
            *("run", "--config", str(node.config_file)),
            stdout=log,
            stderr=log,
            cwd=ROOT,
        )
    try:
        async with asyncio.timeout(ENDED_WITHIN_S):
            while f"agent {agent}" not in node.log_tail():
                assert daemon.returncode is None, node.log_tail()
                await asyncio.sleep(0.05)
    finally:
        if daemon.returncode is None:
            daemon.terminate()
        async with asyncio.timeout(ENDED_WITHIN_S):
            await daemon.wait()
    lines = record.read_text().splitlines()
    return [(dumpable, path) for dumpable, _, path in (line.partition(" ") for line in lines)]


async def test_neither_keystore_nor_password_is_opened_while_the_memory_can_be_read() -> None:
    with short_directory() as place:
        model = make_bloom(place / "model", blocks=1)
        node = DevNode(place / "node", model, "0:1", key(0xAB), NOWHERE, NOWHERE)
        seen = await opens(node, place / "opens")

    for secret in ("keystore.json", "password"):
        assert {dumpable for dumpable, path in seen if Path(path).name == secret} == {"0"}
    # The configuration is read before: the record tells the two states apart.
    assert ("1", str(node.config_file)) in seen
