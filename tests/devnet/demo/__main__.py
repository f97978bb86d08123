"""`make demo`: two plumised nodes, each with half of a real model, on a devnet of their own.

Shows the answer to a prompt, compares it with what one process says, and shows what each node was credited with.
Leaves nothing running. Writes build/demo/summary.json. Exit status 0 if everything held.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eth_account import Account

from tests.devnet.chain import Admin
from tests.devnet.client import LanguageModelClient, Request
from tests.devnet.client.process import ROOT
from tests.devnet.demo.screen import AnswerStream, Screen
from tests.devnet.demo.summary import NodeSummary, Summary
from tests.devnet.model import make_smollm2
from tests.devnet.node import DevNode, key
from tests.devnet.oracle import OracleControl
from tests.devnet.programs import Devnet, running_devnet

if TYPE_CHECKING:
    from collections.abc import Sequence

BUILD = ROOT / "build" / "demo"
MODEL_NAME = "SmolLM2-135M-Instruct"
PREFIX = "smollm2-demo"
BLOCK_TIME_S = 1.0
SPANS = {"node-a": (0xAA, "0:15"), "node-b": (0xBB, "15:30")}
SERVING_TIMEOUT_S = 180.0
SETTLING_TIMEOUT_S = 60.0


async def demo(prompt: str, max_new_tokens: int, screen: Screen) -> Summary:
    """Run the demo and return what it found."""
    screen.step(f"The model: {MODEL_NAME}")
    model = make_smollm2(BUILD / "model")
    agents = {name: str(Account.from_key(key(byte)).address) for name, (byte, _) in SPANS.items()}
    async with contextlib.AsyncExitStack() as stack:
        # Unix sockets want short paths; everything that is worth reading later is in build/demo.
        short = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plumise-")))
        screen.step("The devnet: a chain and an Oracle")
        devnet = await stack.enter_async_context(
            running_devnet(BUILD, block_time_s=BLOCK_TIME_S, funds=list(agents.values()))
        )
        nodes: list[DevNode] = []
        seconds: dict[str, float] = {}
        stack.callback(_keep_logs, nodes)
        peers: Sequence[str] = ()
        started = {}
        for name, (byte, blocks) in SPANS.items():
            node = DevNode(
                short / name, model, blocks, key(byte), devnet.oracle_url, devnet.rpc_url, PREFIX, initial_peers=peers
            )
            node.prepare()
            nodes.append(node)
            screen.step(f"{name}: plumised run, blocks {blocks}, agent {agents[name]}")
            started[name] = time.monotonic()
            await stack.enter_async_context(node)
            if not peers:
                peers = await _addresses(node, screen)
        for node in nodes:
            name = node.directory.name
            await _serving(node, screen)
            seconds[name] = time.monotonic() - started[name]
            screen.step(f"{name} serves")

        request = Request(max_new_tokens, prompt=prompt)
        client = LanguageModelClient.own(model, PREFIX, peers, log=BUILD / "client.log")
        async with client:
            screen.step(f"The swarm is asked: {prompt}")
            screen.text("\n  ")
            answer = await client.generate(request, on_token=AnswerStream(model, screen).put)
            screen.text("\n\n")
            screen.step(f"{len(answer.ids)} tokens, {len(answer.ids) / answer.seconds:.1f} tokens/s")
        single = LanguageModelClient.local(model, log=BUILD / "single.log")
        async with single:
            reference = await single.generate(request)
        identical = reference.ids == answer.ids
        screen.step(
            f"The same in one process: {len(reference.ids) / reference.seconds:.1f} tokens/s, "
            + ("the same tokens" if identical else "OTHER TOKENS")
        )
        screen.step("What the nodes were credited with")
        return Summary(
            model=MODEL_NAME,
            prompt=prompt,
            completion=answer.text or "",
            identical_to_single_process=identical,
            tokens_per_second=round(len(answer.ids) / answer.seconds, 2),
            single_process_tokens_per_second=round(len(reference.ids) / reference.seconds, 2),
            nodes=tuple([await _settled(node, agents, seconds, devnet) for node in nodes]),
        )


async def _addresses(node: DevNode, screen: Screen) -> list[str]:
    """Where the first node can be reached, once it is in its swarm."""
    await node.wait_for_control()
    async with asyncio.timeout(SERVING_TIMEOUT_S):
        while True:
            engine = (await node.status())["engine"]
            screen.under_way(_progress(node, engine))
            if engine["addresses"]:
                return list(engine["addresses"])
            await asyncio.sleep(0.2)


async def _serving(node: DevNode, screen: Screen) -> None:
    await node.wait_for_control()
    async with asyncio.timeout(SERVING_TIMEOUT_S):
        while True:
            status = await node.status()
            if status["serving"]:
                return
            screen.under_way(_progress(node, status["engine"]))
            await asyncio.sleep(0.2)


def _progress(node: DevNode, engine: dict[str, Any]) -> str:
    text = f"{node.directory.name}: {engine['phase'] or engine['state']}"
    if engine["blocks_to_load"]:
        done, total = engine["blocks_loaded"] or 0, engine["blocks_to_load"]
        text += f" [{'#' * done}{'-' * (total - done)}] block {done} of {total}"
    return text


async def _settled(node: DevNode, agents: dict[str, str], seconds: dict[str, float], devnet: Devnet) -> NodeSummary:
    """The node's summary, as soon as everything that it served is booked and a heartbeat is on chain."""
    name = node.directory.name
    agent = agents[name]
    oracle = OracleControl(devnet.oracle_url)
    deadline = time.monotonic() + SETTLING_TIMEOUT_S
    async with Admin(devnet.chain_admin_url) as chain:
        while True:
            status = await node.status()
            booked = await oracle.agent(agent)
            registered = await chain.agent(agent)
            summary = NodeSummary(
                name=name,
                agent=agent,
                blocks=node.blocks,
                seconds_to_serving=round(seconds[name], 1),
                tokens_served=status["usage"]["total"]["tokens"],
                tokens_booked=booked.booked_tokens,
                reports_accepted=booked.accepted,
                registered=registered is not None,
                heartbeats=len(await chain.heartbeats(agent)),
            )
            if not summary.shortcomings() or time.monotonic() > deadline:
                return summary
            await asyncio.sleep(0.2)


def _keep_logs(nodes: Sequence[DevNode]) -> None:
    for node in nodes:
        if node.log_file.exists():
            shutil.copy(node.log_file, BUILD / f"{node.directory.name}.log")


def main(argv: list[str]) -> int:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(prog="make demo", description="Two nodes serve a real model on a devnet.")
    parser.add_argument("--prompt", default="Explain in two sentences why the sky is blue.")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    arguments = parser.parse_args(argv)
    BUILD.mkdir(parents=True, exist_ok=True)
    # The agents are the same in every run; an Oracle that remembers them would book on top of the last run.
    for leftover in BUILD.glob("oracle.sqlite*"):
        leftover.unlink()
    screen = Screen()
    summary = asyncio.run(demo(arguments.prompt, arguments.max_new_tokens, screen))
    screen.nodes(summary.nodes)
    (BUILD / "summary.json").write_text(json.dumps(asdict(summary), indent=2) + "\n")
    screen.step("Everything is stopped; build/demo has the logs and summary.json")
    for problem in summary.shortcomings():
        screen.text(f"FAILED: {problem}\n")
    return 1 if summary.shortcomings() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
