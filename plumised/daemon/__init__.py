"""The composition root: makes the parts of the node, starts them in order and stops them in reverse."""

from plumised.daemon.process import run

__all__ = ["run"]
