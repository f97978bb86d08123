"""The same program with plumised's own client: `python -m tests.devnet.client own MODEL_DIR PREFIX PEER [PEER …]`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import uvloop
from transformers import AutoTokenizer

from plumised.petals.client.swarm import open_client

if TYPE_CHECKING:
    from collections.abc import Callable

    from plumised.petals.client.swarm import SwarmClient

    Emit = Callable[..., None]


def run(directory: str, prefix: str, peers: list[str], emit: Emit) -> None:
    """Answer requests until standard input ends."""
    # What it computes takes less time than to share it among threads.
    torch.set_num_threads(1)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(directory, prefix, peers, emit))


async def _serve(directory: str, prefix: str, peers: list[str], emit: Emit) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory) if Path(directory, "tokenizer.json").exists() else None
    async with open_client(directory, initial_peers=peers, prefix=prefix) as client:
        emit(event="ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            try:
                if "together" in request:
                    done = await _generate_together(client, request)
                else:
                    done = await _generate(client, tokenizer, request, emit)
            except Exception as error:  # noqa: BLE001 -- whoever asked is told
                emit(event="error", message=f"{type(error).__name__}: {error}")
            else:
                emit(event="done", sent=client.traffic.sent, received=client.traffic.received, **done)


async def _generate(client: SwarmClient, tokenizer: Any, request: dict[str, Any], emit: Emit) -> dict[str, Any]:
    ids = request.get("ids")
    if ids is None:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": request["prompt"]}], add_generation_prompt=True
        )
    generated = []
    started = time.perf_counter()
    async for token in client.generate(ids, request["max_new_tokens"]):
        generated.append(token)
        emit(event="token", id=token)
    seconds = time.perf_counter() - started
    text = tokenizer.decode(generated, skip_special_tokens=True) if tokenizer is not None else None
    return {"seconds": seconds, "prompt_ids": ids, "text": text}


async def _generate_together(client: SwarmClient, request: dict[str, Any]) -> dict[str, Any]:
    async def generated(ids: list[int]) -> list[int]:
        return [token async for token in client.generate(ids, request["max_new_tokens"])]

    started = time.perf_counter()
    every = await asyncio.gather(*(generated(ids) for ids in request["together"]))
    return {"seconds": time.perf_counter() - started, "generated": every}
