"""The program; see the package."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from plumised.petals.compat import apply

apply()

from hivemind import DHT  # noqa: E402 -- after the names that petals' hivemind has


def main(address_file: Path, listen: str = "/ip4/127.0.0.1/tcp/0") -> int:
    """Stay until told to end."""
    signals = {signal.SIGTERM, signal.SIGINT}
    dht = DHT(
        initial_peers=[],
        start=True,
        host_maddrs=[listen],
        use_relay=False,
        nat_port_map=False,
        auto_nat=False,
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    draft = address_file.with_suffix(".tmp")
    draft.write_text("".join(f"{address}\n" for address in dht.get_visible_maddrs()))
    draft.replace(address_file)
    signal.sigwait(signals)
    dht.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
