"""Generates text greedily, with Petals' own client or with transformers in this process; one order a line.

    python -m tests.bench.generating MODEL [PEER]

To be run in the engine's environment. An order is {"prompt": int, "tokens": int, "sessions": int}: that many sessions
at once, with the prompts from that one on. The answer is {"tokens": [[int, …], …], "seconds": float}. The first line,
null, says that the model is ready.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
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


def main(argv: list[str]) -> int:
    warnings.simplefilter("ignore")
    path, *peers = argv
    model, tokenizer = _load(path, peers)
    # Petals' inference session waits, when it is collected, for the loop thread that may be collecting it.
    gc.collect()
    gc.disable()

    def generate(prompt: int, count: int) -> list[int]:
        text = f"<|im_start|>user\n{PROMPTS[prompt % len(PROMPTS)]}<|im_end|>\n<|im_start|>assistant\n"
        given = tokenizer(text, return_tensors="pt").input_ids
        result = model.generate(given, max_new_tokens=count, min_new_tokens=count, do_sample=False)
        tokens: list[int] = result[0, given.shape[1] :].tolist()
        return tokens

    print("null", flush=True)
    for line in sys.stdin:
        order: dict[str, int] = json.loads(line)
        prompts = range(order["prompt"], order["prompt"] + order["sessions"])
        with ThreadPoolExecutor(order["sessions"]) as threads:
            started = time.perf_counter()
            tokens = list(threads.map(generate, prompts, [order["tokens"]] * len(prompts)))
            seconds = time.perf_counter() - started
        print(json.dumps({"tokens": tokens, "seconds": seconds}), flush=True)
    os._exit(0)


def _load(path: str, peers: list[str]) -> tuple[Any, Any]:
    from plumised.petals.compat import apply  # noqa: PLC0415 -- reads the variables that are set above

    apply()
    import torch  # noqa: PLC0415 -- see above
    from petals import AutoDistributedModelForCausalLM  # noqa: PLC0415 -- see above
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 -- see above

    tokenizer = AutoTokenizer.from_pretrained(path)
    if not peers:
        return AutoModelForCausalLM.from_pretrained(path, torch_dtype=torch.float32), tokenizer
    model = AutoDistributedModelForCausalLM.from_pretrained(
        path, initial_peers=peers, dht_prefix="bench", torch_dtype=torch.float32, show_route=False
    )
    return model, tokenizer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
