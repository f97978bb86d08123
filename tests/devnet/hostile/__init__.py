"""A peer of the swarm that means harm, as a program."""

from tests.devnet.hostile.process import HostilePeer

__all__ = ["HostilePeer"]
