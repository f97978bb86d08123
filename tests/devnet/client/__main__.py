"""A language model behind standard input and output: one JSON request a line in, JSON events out.

    python -m tests.devnet.client swarm MODEL_DIR PREFIX PEER [PEER …]    through the swarm, with the Petals client
    python -m tests.devnet.client own MODEL_DIR PREFIX PEER [PEER …]      through the swarm, with plumised's own client
    python -m tests.devnet.client local MODEL_DIR                         in this process, with transformers alone

Request: {"ids": [int, …]} or {"prompt": str} (rendered with the model's chat template), with {"max_new_tokens": int}.
Events: {"event": "ready"}, then per request {"event": "token", "id": int}… and {"event": "done", "seconds": float,
"prompt_ids": […], "text": str or null, "sent": int, "received": int} or {"event": "error", "message": str}. With
{"together": [[int, …], …]} each of these prompts gets a session, all at the same time, and {"event": "done",
"seconds": float, "generated": [[int, …], …], "sent": int, "received": int} is all that comes of it.

Decoding is greedy in float32. `sent` and `received` count, over the client's life, the tokens whose hidden states went
to a server and came back from one, once per server: what a server says that it served lies between the two.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["BITSANDBYTES_NOWELCOME"] = "1"
os.environ["HIVEMIND_LOGLEVEL"] = "WARNING"


def emit(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


class TokenEvents:
    """A streamer as transformers knows them: emits each token that is generated."""

    def __init__(self) -> None:
        self._prompt_seen = False
        self.ids: list[int] = []

    def put(self, value: Any) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self.ids.append(token)
            emit(event="token", id=token)

    def end(self) -> None:
        """Part of the protocol; `done` says it here."""


class Witness:
    """Counts what this client sends to servers and gets back from them."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    def watch(self, session: Any) -> None:
        """Count in the client's sessions with single servers."""
        step = session._step

        async def counted(server_session: Any, request: Any) -> Any:
            self.sent += _tokens(request)
            response = await step(server_session, request)
            self.received += _tokens(response)
            return response

        session._step = counted


def _tokens(message: Any) -> int:
    size = message.tensors[0].size
    return int(size[0]) * int(size[1])


witness = Witness()


def load(mode: str, directory: str, arguments: list[str]) -> Any:
    import torch

    if mode == "local":
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(directory, torch_dtype=torch.float32)
    from plumised.petals.compat import apply

    apply()
    from petals import AutoDistributedModelForCausalLM
    from petals.client.inference_session import _ServerInferenceSession

    from plumised.petals.closing import collect_without_waiting
    from tests.devnet.client import failover

    failover.apply()
    witness.watch(_ServerInferenceSession)
    prefix, *peers = arguments
    model = AutoDistributedModelForCausalLM.from_pretrained(
        directory,
        initial_peers=peers,
        dht_prefix=prefix,
        torch_dtype=torch.float32,
        # The models here answer within a second. A reply that was lost with its server is rarely noticed by libp2p, and
        # one node may be all that serves a block: a ban would only be waiting, and doubles with every fault.
        request_timeout=15,
        ban_timeout=0.2,
        min_backoff=0.2,
        max_backoff=2,
        update_period=5,
        show_route=False,
    )
    collect_without_waiting()
    return model


def generate(model: Any, tokenizer: Any, request: dict[str, Any]) -> None:
    import torch

    ids = request.get("ids")
    if ids is None:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": request["prompt"]}], add_generation_prompt=True
        )
    streamer = TokenEvents()
    started = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            torch.tensor([ids]),
            max_new_tokens=request["max_new_tokens"],
            do_sample=False,
            streamer=streamer,
            pad_token_id=model.config.eos_token_id,
        )
    seconds = time.perf_counter() - started
    text = tokenizer.decode(streamer.ids, skip_special_tokens=True) if tokenizer is not None else None
    emit(
        event="done",
        seconds=seconds,
        prompt_ids=ids,
        text=text,
        sent=witness.sent,
        received=witness.received,
    )


def generate_together(model: Any, request: dict[str, Any]) -> None:
    import torch

    def generated(ids: list[int]) -> list[int]:
        # Which session a generation belongs to, and whether torch records gradients, goes by the thread.
        with torch.inference_mode():
            whole = model.generate(
                torch.tensor([ids]),
                max_new_tokens=request["max_new_tokens"],
                do_sample=False,
                pad_token_id=model.config.eos_token_id,
            )
        new: list[int] = whole[0, len(ids) :].tolist()
        return new

    prompts = request["together"]
    started = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as threads:
        every = list(threads.map(generated, prompts))
    emit(
        event="done",
        seconds=time.perf_counter() - started,
        generated=every,
        sent=witness.sent,
        received=witness.received,
    )


def main(argv: list[str]) -> int:
    warnings.simplefilter("ignore")
    mode, directory, *arguments = argv
    if mode == "own":
        from plumised.petals.compat import apply
        from plumised.petals.deferring import defer

        defer()
        apply()
        from tests.devnet.client import own

        prefix, *peers = arguments
        own.run(directory, prefix, peers, emit)
        return 0
    model = load(mode, directory, arguments)
    tokenizer = None
    if Path(directory, "tokenizer.json").exists():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(directory)
    emit(event="ready")
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if "together" in request:
                generate_together(model, request)
            else:
                generate(model, tokenizer, request)
        except Exception as error:
            emit(event="error", message=f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    # hivemind's threads outlive the interpreter's patience.
    os._exit(status)
