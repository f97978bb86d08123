"""`[swarm]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from plumised.config import multiaddrs, values
from plumised.config.sections.section import AbsolutePath, Section

ListenAddresses = Annotated[
    tuple[Annotated[str, AfterValidator(multiaddrs.listen_address)], ...],
    BeforeValidator(values.array),
    AfterValidator(values.distinct),
]
AnnouncedAddresses = Annotated[
    tuple[Annotated[str, AfterValidator(multiaddrs.announced_address)], ...],
    BeforeValidator(values.array),
    AfterValidator(values.distinct),
]
PeerAddresses = Annotated[
    tuple[Annotated[str, AfterValidator(multiaddrs.peer_address)], ...],
    BeforeValidator(values.array),
    AfterValidator(values.distinct),
]


class SwarmSettings(Section, frozen=True):
    """The swarm: the peers that serve one model together."""

    exclusive = (("initial_peers", "new_swarm"),)

    listen: ListenAddresses = Field(
        ("/ip4/0.0.0.0/tcp/31330", "/ip6/::/tcp/31330"),
        min_length=1,
        description="Multiaddresses to listen on; port 0 takes any free port.",
    )
    announce: AnnouncedAddresses = Field(
        (), description="Multiaddresses to tell others. By default those that libp2p finds out."
    )
    initial_peers: PeerAddresses = Field(
        (),
        description="Multiaddresses, with peer ids, of peers to join the swarm through. Excludes new_swarm. Without "
        "either the engine joins through the public peers that Petals knows.",
    )
    new_swarm: bool = Field(False, description="Begin a swarm of one's own. Excludes initial_peers.")
    identity_file: AbsolutePath = Field(
        Path("/var/lib/plumise/engine/identity.key"),
        description="File with the key that makes the node's peer id; made when missing. By default "
        "engine/identity.key in state_dir.",
    )
    prefix: Annotated[str, AfterValidator(values.prefix)] | None = Field(
        None,
        description="Name under which the swarm announces the model's blocks. By default the one that Petals derives "
        "from the model's name.",
        examples=["bloom-560m-hf"],
    )
    public_name: Annotated[str, AfterValidator(values.public_name)] | None = Field(
        None, description="Name to show on public health monitors.", examples=["Example Org"]
    )
    bandwidth_mbps: float = Field(
        100.0,
        gt=0,
        le=10**6,
        allow_inf_nan=False,
        description="Network bandwidth that the announced throughput reckons with, in megabits per second; it is not "
        "measured, since that would call out to the internet.",
    )
    use_relay: bool = Field(True, description="Be reachable through other peers when behind NAT or a firewall.")
