"""The command line: `plumised VERB …`. One module for each verb."""

from plumised.cli.main import main

__all__ = ["main"]
