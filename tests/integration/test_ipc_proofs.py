"""Proofs and tally against SIGKILL at random moments of a writing process: exactly what is counted is proven."""

import random
import signal
import subprocess
import sys
from pathlib import Path

from plumised.ipc.proofs import read_segment, segments
from plumised.ipc.tally import read_tally, tally_path

WRITER = """
import sys
from pathlib import Path
from plumised.ipc.messages import Counters, Usage
from plumised.ipc.proofs import ProofWriter
from plumised.ipc.tally import TallyWriter, tally_path

directory = Path(sys.argv[1])
tally = TallyWriter(tally_path(directory, "life-1", 0, 7))
writer = ProofWriter(directory, "life-1", 0, 7, bytes(32), slots=16, segments=10_000)
count = 0
slots = [None] * 3
tokens = [0] * 3
while True:
    # Three requests at a time, each of five steps.
    turn = count % 3
    if slots[turn] is None:
        slots[turn], tokens[turn] = writer.open(), 0
    count += 1
    tokens[turn] += 1
    slots[turn].write(count, tokens[turn], count.to_bytes(32, "big"), bytes(32))
    tally.write(Usage(Counters(steps=count), Counters(), Counters(tokens=count)))
    if tokens[turn] == 5:
        slots[turn].end()
        slots[turn] = None
    # One byte acknowledges a write, as a reply that leaves does.
    sys.stdout.buffer.write(b".")
    sys.stdout.buffer.flush()
"""


def test_after_a_kill_the_proofs_cover_the_counted_steps_neither_more_nor_less(tmp_path: Path) -> None:
    moments = random.Random(2)
    for life in range(25):
        directory = tmp_path / str(life)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        acknowledged = len(writer.stdout.read(moments.randint(1, 3000)))
        writer.send_signal(signal.SIGKILL)
        acknowledged += len(writer.stdout.read())
        writer.stdout.close()
        writer.wait()

        usage = read_tally(tally_path(directory, "life-1", 0, 7))
        assert usage is not None
        assert acknowledged <= usage.inference.steps <= acknowledged + 1
        proven = last = 0
        for segment in segments(directory):
            content = read_segment(segment.path, usage.inference.steps)
            assert content is not None
            for request in content.requests:
                assert request.input_digest == request.counted.to_bytes(32, "big")
                proven += request.tokens
                last = max(last, request.counted)
        assert (proven, last) == (usage.backward.tokens, usage.inference.steps)
