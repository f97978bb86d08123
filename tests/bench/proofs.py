"""What counting a step and its digests cost: build/env/engine/bin/python -m tests.bench.proofs

Prints, for hidden sizes and lengths, the microseconds in which one step's input and output are hashed and kept, and the
step is counted. With `--hidden H --json`, those of one token as an object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from plumised.ipc.channel import Channel
from plumised.ipc.messages import PROTOCOL, Hello, Kind, Role
from plumised.ipc.proofs import ProofWriter
from plumised.ipc.tally import TallyWriter
from plumised.petals.compat import apply


def step_us(hidden: int, length: int, steps: int) -> float:
    """Microseconds a step, the best of five."""
    # Import what needs the compatibility layer.
    import torch  # noqa: PLC0415 -- see above
    from hivemind import serialize_torch_tensor  # noqa: PLC0415 -- see above

    from plumised.petals.counting import UsageCounter  # noqa: PLC0415 -- see above
    from plumised.petals.proofs import Prover, little_endian_bytes, model_digest  # noqa: PLC0415 -- see above

    message = serialize_torch_tensor(torch.randn(1, length, hidden))
    with tempfile.TemporaryDirectory() as directory:
        writer = ProofWriter(Path(directory), "bench", 0, 1, model_digest("bench"))
        digest = Prover(writer, torch.float32).begin()
        tally = TallyWriter(Path(directory, "tally"))
        # Nobody listens, so the latest counters wait: what a step costs its handler, without the socket's own thread.
        channel = Channel(Path(directory, "socket"), Hello(PROTOCOL, "bench", Role.HANDLER, 0, 1))
        usage = UsageCounter(tally.write, channel.publish)
        best = float("inf")
        for _ in range(5):
            started = time.perf_counter()
            for step in range(steps):
                for state in (digest.inputs, digest.outputs):
                    state.update(little_endian_bytes(message, torch.float32))
                digest.keep(step + 1, length)
                usage.add(Kind.INFERENCE, tokens=length, service_s=0.01, first=step == 0)
            best = min(best, (time.perf_counter() - started) / steps)
    return best * 1e6


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.proofs", description=__doc__)
    parser.add_argument("--hidden", type=int, nargs="+", default=[576, 4096])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    apply()
    if arguments.json:
        print(json.dumps({"step_us": step_us(arguments.hidden[0], 1, 500)}))
        return 0
    for hidden in arguments.hidden:
        for length, steps in ((1, 500), (128, 20)):
            print(f"hidden {hidden}, {length} tokens: {step_us(hidden, length, steps):.1f} us a step")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
