"""What the digests of a step cost: build/env/engine/bin/python -m tests.bench.proofs

Prints, for hidden sizes and lengths, the microseconds in which one step's input and output are hashed and kept.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from plumised.ipc.proofs import ProofWriter
from plumised.petals.compat import apply


def main() -> int:
    apply()
    # Import what needs the compatibility layer.
    import torch  # noqa: PLC0415 -- see above
    from hivemind import serialize_torch_tensor  # noqa: PLC0415 -- see above

    from plumised.petals.proofs import Prover, little_endian_bytes, model_digest  # noqa: PLC0415 -- see above

    for hidden in (576, 4096):
        for length, steps in ((1, 500), (128, 20)):
            message = serialize_torch_tensor(torch.randn(1, length, hidden))
            with tempfile.TemporaryDirectory() as directory:
                writer = ProofWriter(Path(directory), "bench", 0, 1, model_digest("bench"))
                digest = Prover(writer, torch.float32).begin()
                best = float("inf")
                for _ in range(5):
                    started = time.perf_counter()
                    for step in range(steps):
                        for state in (digest.inputs, digest.outputs):
                            state.update(little_endian_bytes(message, torch.float32))
                        digest.keep(step + 1, length)
                    best = min(best, (time.perf_counter() - started) / steps)
            sys.stdout.write(f"hidden {hidden}, {length} tokens: {best * 1e6:.1f} us a step\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
