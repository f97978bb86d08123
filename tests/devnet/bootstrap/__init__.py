"""A peer of the swarm that serves no blocks: it stays, so that nodes and clients find each other whoever restarts.

As a program of the engine's environment: `python -m tests.devnet.bootstrap ADDRESS_FILE`; the file appears with one
multiaddress a line. SIGTERM ends it.
"""

from tests.devnet.bootstrap.process import running_bootstrap

__all__ = ["running_bootstrap"]
