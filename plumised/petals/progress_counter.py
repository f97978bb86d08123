"""What the runtime thread has done so far. Apart from the runtime itself, so that it costs no import of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RuntimeProgress:
    """What the runtime thread did, cumulatively. Written by that thread alone, read by any.

    Attributes:
        blocks: transformer blocks computed.
        probes: probes answered.
    """

    blocks: int = 0
    probes: int = 0
