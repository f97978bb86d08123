"""What the demo found out, as build/demo/summary.json holds it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeSummary:
    """One node at the end of the demo."""

    name: str
    agent: str
    blocks: str
    seconds_to_serving: float
    tokens_served: int
    tokens_booked: int
    reports_accepted: int
    registered: bool
    heartbeats: int

    def shortcomings(self) -> list[str]:
        """What does not hold that should."""
        found = []
        if not 0 < self.tokens_served == self.tokens_booked:
            found.append(f"{self.name} served {self.tokens_served} tokens, the Oracle booked {self.tokens_booked}")
        if not self.registered:
            found.append(f"{self.name} is not registered")
        if self.heartbeats < 1:
            found.append(f"{self.name} has sent no heartbeat")
        return found


@dataclass(frozen=True)
class Summary:
    """The whole demo."""

    model: str
    prompt: str
    completion: str
    identical_to_single_process: bool
    tokens_per_second: float
    single_process_tokens_per_second: float
    nodes: tuple[NodeSummary, ...]

    def shortcomings(self) -> list[str]:
        """What does not hold that should; empty after a good demo."""
        found = [problem for node in self.nodes for problem in node.shortcomings()]
        if not self.identical_to_single_process:
            found.append("the swarm's tokens differ from those of one process")
        return found
