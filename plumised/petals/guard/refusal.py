"""Why a stranger's request is not served."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 -- as it is called everywhere
    """A request that is not served because of what it is or who asks for how much. Its text goes to the peer."""
