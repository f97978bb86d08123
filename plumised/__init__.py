"""plumised: a daemon that makes a machine a node of the Plumise network."""

__version__ = "0.1.0"
