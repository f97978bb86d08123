"""A peer of the swarm that serves no blocks: it stays, so that nodes and clients find each other whoever restarts.

As a program of the engine's environment: `python -m tests.devnet.bootstrap ADDRESS_FILE [MULTIADDRESS]`; it listens on
that address, by default on the loopback interface. The file appears with one multiaddress a line. SIGTERM ends it.
"""

from tests.devnet.bootstrap.process import running_bootstrap

__all__ = ["running_bootstrap"]
