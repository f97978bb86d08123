"""A Petals client as a program: sends hidden states through the swarm, one JSON request a line in, one answer out.

    python -m tests.petals.swarm_client MODEL_DIR PEER [PEER …]

Requests, each with the `prefix` of the blocks' names, and with `batch` and `length` where tokens go:
{"do": "open", "session": name, "max_length": int}, {"do": "step", "session": name}, {"do": "close", "session": name},
{"do": "together", "steps": [request of a step, …]}, which are sent at once, {"do": "forward"}, {"do": "backward"}; the
last two take `"streamed": true` for the streaming form of the RPC. With `"seed": int` a step's values are those of this
seed. With `"keep": path`, what a step or pass sends is appended to `path`.sent and what comes back to `path`.received:
the values alone, little-endian.
Answers: {"shape": [int, …] or null} with the shape of what came back, or {"error": text}. First of all comes
{"shape": null} when the client is ready.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["BITSANDBYTES_NOWELCOME"] = "1"
os.environ["HIVEMIND_LOGLEVEL"] = "ERROR"

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class Client:
    """Keeps a route and the open sessions of every prefix."""

    def __init__(self, model: str, peers: Sequence[str]) -> None:
        from hivemind import DHT

        self._model = model
        self._peers = list(peers)
        self._dht = DHT(initial_peers=self._peers, client_mode=True, start=True, num_workers=4)
        self._blocks: dict[str, Any] = {}
        self._sessions: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> Sequence[int] | None:
        """Do what is asked. Returns the shape of what came back."""
        from petals.client.inference_session import InferenceSession

        blocks = self._route(request["prefix"])
        session = request.get("session", "")
        result: torch.Tensor | None = None
        match request["do"]:
            case "open":
                self._sessions[session] = InferenceSession(blocks.sequence_manager, request["max_length"])
            case "step":
                result = self._step(request)
            case "together":
                with ThreadPoolExecutor(len(request["steps"])) as threads:
                    list(threads.map(self._step, request["steps"]))
            case "close":
                self._sessions.pop(session).close()
            case "forward" | "backward":
                result = self._pass(blocks, request)
            case unknown:
                raise ValueError(unknown)
        return None if result is None else tuple(result.shape)

    def _step(self, request: dict[str, Any]) -> torch.Tensor:
        hidden = self._hidden(self._route(request["prefix"]), request)
        result: torch.Tensor = self._sessions[request["session"]].step(hidden)
        keep(request, [hidden], result)
        return result

    def _route(self, prefix: str) -> Any:
        if prefix not in self._blocks:
            from petals import AutoDistributedConfig
            from petals.client.remote_sequential import RemoteSequential

            config = AutoDistributedConfig.from_pretrained(
                self._model,
                initial_peers=self._peers,
                dht_prefix=prefix,
                show_route=False,
                update_period=5,
                min_backoff=0.2,
                max_retries=3,
            )
            self._blocks[prefix] = RemoteSequential(config, dht=self._dht)
        return self._blocks[prefix]

    def _hidden(self, blocks: Any, request: dict[str, Any]) -> torch.Tensor:
        import torch

        generator = None if request.get("seed") is None else torch.Generator().manual_seed(request["seed"])
        return torch.randn(request["batch"], request["length"], blocks.config.hidden_size, generator=generator)

    def _pass(self, blocks: Any, request: dict[str, Any]) -> torch.Tensor:
        from hivemind.moe.client.remote_expert_worker import RemoteExpertWorker
        from petals.client import remote_forward_backward
        from petals.client.sequential_autograd import sequential_backward, sequential_forward
        from petals.utils.misc import DUMMY

        manager = blocks.sequence_manager
        # Asked for here, since it may not be asked for in the loop of the worker.
        _ = manager.rpc_info
        # Above this size petals' client streams.
        remote_forward_backward.MAX_UNARY_PAYLOAD_SIZE = 0 if request.get("streamed") else 2**30
        hidden = self._hidden(blocks, request)
        if request["do"] == "forward":
            outputs, _, _ = RemoteExpertWorker.run_coroutine(sequential_forward(hidden, DUMMY, manager))
            result: torch.Tensor = outputs
            keep(request, [hidden], result)
            return result
        spans = manager.make_sequence(0, len(blocks), mode="max_throughput")
        given = [self._hidden(blocks, request)]
        grads, _ = RemoteExpertWorker.run_coroutine(sequential_backward([*given], [hidden], DUMMY, spans, manager))
        gradient: torch.Tensor = grads[0]
        keep(request, [hidden, *given], gradient)
        return gradient


def keep(request: dict[str, Any], sent: Sequence[torch.Tensor], received: torch.Tensor) -> None:
    """Append the values to the files that the request names."""
    path = request.get("keep")
    if path is None:
        return
    for name, tensors in (("sent", sent), ("received", [received])):
        with Path(f"{path}.{name}").open("ab") as file:
            file.writelines(tensor.detach().contiguous().numpy().astype("<f4").tobytes() for tensor in tensors)


def main(argv: list[str]) -> int:
    warnings.simplefilter("ignore")
    from plumised.petals.compat import apply

    apply()
    import torch

    torch.set_num_threads(1)
    model, *peers = argv
    client = Client(model, peers)
    from plumised.petals.closing import collect_without_waiting

    collect_without_waiting()
    say(shape=None)
    for line in sys.stdin:
        try:
            with torch.no_grad():
                say(shape=client.answer(json.loads(line)))
        except Exception as error:  # noqa: BLE001 -- whoever asked is told
            traceback.print_exc()
            say(error=f"{type(error).__name__}: {error}")
    return 0


def say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    # hivemind's threads outlive the interpreter's patience.
    os._exit(status)
