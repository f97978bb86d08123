"""A tally against SIGKILL at random moments of a writing process."""

import random
import signal
import subprocess
import sys
from pathlib import Path

from plumised.ipc.tally import read_tally

WRITER = """
import sys
from pathlib import Path
from plumised.ipc.messages import Counters, Usage
from plumised.ipc.tally import TallyWriter

writer = TallyWriter(Path(sys.argv[1]))
count = 0
while True:
    count += 1
    writer.write(Usage(Counters(count, 2 * count, 3 * count, 4 * count), Counters(steps=count), Counters(tokens=count)))
    # One byte acknowledges a write, as a reply that leaves does.
    sys.stdout.buffer.write(b".")
    sys.stdout.buffer.flush()
"""


def test_a_killed_writer_leaves_a_value_that_it_wrote_and_none_older_than_the_last_acknowledged(tmp_path: Path) -> None:
    moments = random.Random(1)
    for life in range(25):
        path = tmp_path / f"{life}.tally"
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        acknowledged = len(writer.stdout.read(moments.randint(1, 3000)))
        writer.send_signal(signal.SIGKILL)
        acknowledged += len(writer.stdout.read())
        writer.stdout.close()
        writer.wait()

        usage = read_tally(path)
        assert usage is not None
        count = usage.inference.requests
        assert acknowledged <= count <= acknowledged + 1
        assert (usage.inference.steps, usage.inference.tokens, usage.inference.service_us) == (
            2 * count,
            3 * count,
            4 * count,
        )
        assert (usage.forward.steps, usage.backward.tokens) == (count, count)
