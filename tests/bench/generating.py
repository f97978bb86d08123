"""Generates text greedily, through a swarm or with transformers in this process; one order a line.

    python -m tests.bench.generating {stock,own} MODEL PREFIX PEER    with Petals' client, with plumised's
    python -m tests.bench.generating local MODEL

To be run in the engine's environment. An order is {"prompt": int, "context": int, "tokens": int, "sessions": int}: that
many sessions at once, with the prompts from that one on, each `context` tokens long (0: as it is), and that many tokens
from each. The answer is {"tokens": [[int, …], …], "seconds": float, "steps": [float, …]}: the seconds of all, and those
between one token and the next. An order {"forward": int, "times": int} is for forward passes of so many tokens through
all blocks (`stock` only). The first line, null, says that the model is ready.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["BITSANDBYTES_NOWELCOME"] = "1"
os.environ["HIVEMIND_LOGLEVEL"] = "ERROR"

PROMPTS: Final = (
    "Explain quantum computing in one sentence.",
    "Write a short story about a cat and a robot.",
    "What is the capital of France and what is it known for?",
    "List five reasons to learn Python.",
    "How do airplanes fly? Explain to a child.",
)
_RANDOM_VOCABULARY: Final = 256


def prompts_of(model: str, order: dict[str, int]) -> list[list[int]]:
    """The tokens of each session's prompt."""
    first, sessions = order["prompt"], order["sessions"]
    return [prompt_ids(model, prompt, order["context"]) for prompt in range(first, first + sessions)]


def prompt_ids(model: str, prompt: int, context: int) -> list[int]:
    """The tokens of a prompt; repeated, or cut, to `context` tokens where that is not 0."""
    if Path(model, "tokenizer.json").exists():
        from tokenizers import Tokenizer  # noqa: PLC0415 -- reads the variables that are set above

        text = f"<|im_start|>user\n{PROMPTS[prompt % len(PROMPTS)]}<|im_end|>\n<|im_start|>assistant\n"
        ids: list[int] = Tokenizer.from_file(str(Path(model, "tokenizer.json"))).encode(text).ids
    else:
        ids = [5 + (7 * place + 31 * (prompt % len(PROMPTS))) % (_RANDOM_VOCABULARY - 5) for place in range(16)]
    return (ids * (context // len(ids) + 1))[:context] if context else ids


class Watch:
    """A streamer as transformers knows them: when each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Part of the protocol."""


class Threads:
    """Petals' client, or transformers: a thread for each session."""

    def __init__(self, model: str, prefix: str | None, peers: list[str]) -> None:
        import torch  # noqa: PLC0415 -- after the compatibility layer

        self._model = model
        if prefix is None:
            from transformers import AutoModelForCausalLM  # noqa: PLC0415 -- see above

            self._whole = AutoModelForCausalLM.from_pretrained(model, torch_dtype=torch.float32)
            self._never_stop()
            return
        from petals import AutoDistributedModelForCausalLM  # noqa: PLC0415 -- see above

        from plumised.petals.closing import collect_without_waiting  # noqa: PLC0415 -- see above

        self._whole = AutoDistributedModelForCausalLM.from_pretrained(
            model, initial_peers=peers, dht_prefix=prefix, torch_dtype=torch.float32, show_route=False
        )
        collect_without_waiting()
        self._never_stop()

    def _never_stop(self) -> None:
        # Where a generation is told of no last token, transformers takes the one that these name.
        self._whole.config.eos_token_id = None
        self._whole.generation_config.eos_token_id = None

    def answer(self, order: dict[str, int]) -> dict[str, Any]:
        import torch  # noqa: PLC0415 -- see above

        if "forward" in order:
            states = torch.randn(1, order["forward"], self._whole.config.hidden_size)
            started = time.perf_counter()
            with torch.inference_mode():
                for _ in range(order["times"]):
                    self._whole.transformer.h(states)
            return {"tokens": [], "seconds": time.perf_counter() - started, "steps": []}

        def generate(ids: list[int]) -> tuple[list[int], list[float]]:
            watch, given = Watch(), torch.tensor([ids])
            with torch.inference_mode():
                # It is put the prompt first, and then each token. The mask keeps transformers from taking a token of
                # the prompt for padding.
                whole = self._whole.generate(
                    given,
                    attention_mask=torch.ones_like(given),
                    max_new_tokens=order["tokens"],
                    do_sample=False,
                    streamer=watch,
                )
            tokens: list[int] = whole[0, len(ids) :].tolist()
            return tokens, watch.times[1:]

        prompts = prompts_of(self._model, order)
        with ThreadPoolExecutor(order["sessions"]) as threads:
            started = time.perf_counter()
            return _answer(started, list(threads.map(generate, prompts)))


def _answer(started: float, every: list[tuple[list[int], list[float]]]) -> dict[str, Any]:
    return {
        "tokens": [tokens for tokens, _ in every],
        "seconds": time.perf_counter() - started,
        "steps": [after - before for _, times in every for before, after in itertools.pairwise(times)],
    }


async def _own(model: str, prefix: str, peers: list[str]) -> None:
    from plumised.petals.client.swarm import open_client  # noqa: PLC0415 -- after the compatibility layer

    async with open_client(model, initial_peers=peers, prefix=prefix) as client:

        async def generate(ids: list[int], count: int) -> tuple[list[int], list[float]]:
            tokens, times = [], []
            async for token in client.generate(ids, count, stop=frozenset()):
                tokens.append(token)
                times.append(time.perf_counter())
            return tokens, times

        print("null", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order: dict[str, int] = json.loads(line)
            prompts = prompts_of(model, order)
            started = time.perf_counter()
            every = await asyncio.gather(*(generate(ids, order["tokens"]) for ids in prompts))
            print(json.dumps(_answer(started, list(every))), flush=True)


def main(argv: list[str]) -> None:
    warnings.simplefilter("ignore")
    kind, model, *swarm = argv
    if kind == "own":
        from plumised.petals.deferring import defer  # noqa: PLC0415 -- Petals' own client is left as it is

        defer()
    from plumised.petals.compat import apply  # noqa: PLC0415 -- reads the variables that are set above

    apply()
    if kind == "own":
        import torch  # noqa: PLC0415 -- see above
        import uvloop  # noqa: PLC0415 -- see above

        torch.set_num_threads(1)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_own(model, swarm[0], swarm[1:]))
        return
    generator = Threads(model, swarm[0] if swarm else None, swarm[1:])
    print("null", flush=True)
    for line in sys.stdin:
        print(json.dumps(generator.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception:  # noqa: BLE001 -- told, and the end
        traceback.print_exc()
    # hivemind's threads outlive the interpreter's patience.
    os._exit(1)
