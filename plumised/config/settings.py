"""Every key of node.toml: its type, limits, default and description.

docs/configuration.md and etc/plumise/node.toml are made from this module by `plumised.config.reference`. A key whose
default is None may be left unset; its first example stands in the shipped file.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from plumised.config import multiaddrs, urls, values
from plumised.config.problems import UnfitError
from plumised.config.urls import Listen

MAINNET = 41956
MAINNET_REGISTRY = "0xC9CF64344D22f02f6cDB8e7B5349f30E09F9043C"
PASSWORD_CREDENTIAL = "wallet-password"  # noqa: S105 - its name
"""As the units in `systemd/` call it."""
WEI_PER_PLM = 10**18
WEI_PER_GWEI = 10**9
BYTES_PER_GB = 10**9

AbsolutePath = Annotated[Path, BeforeValidator(values.absolute_path)]
Address = Annotated[str, AfterValidator(values.address)]
Url = Annotated[str, AfterValidator(urls.url)]
RpcUrl = Annotated[str, AfterValidator(urls.rpc_url)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]

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
RpcUrls = Annotated[tuple[RpcUrl, ...], BeforeValidator(values.array), AfterValidator(values.distinct)]


class Section(BaseModel, frozen=True, extra="forbid", strict=True):
    """A table of node.toml.

    Attributes:
        exclusive: pairs of keys of which at most one may be set.
    """

    exclusive: ClassVar[tuple[tuple[str, str], ...]] = ()


class NodeSettings(Section, frozen=True):
    """The node itself: its name and where it keeps its files."""

    name: Annotated[str, AfterValidator(values.node_name)] = Field(
        description="Name of the node in log, status and metrics: 1 to 32 letters, digits, dots, hyphens, underscores. "
        "By default the host's name.",
        examples=["my-node"],
    )
    state_dir: AbsolutePath = Field(
        Path("/var/lib/plumise"), description="Directory for what must survive: ledger, swarm identity, wallet."
    )
    runtime_dir: AbsolutePath = Field(
        Path("/run/plumise"), description="Directory for sockets and the like, which may go at a reboot."
    )
    cache_dir: AbsolutePath = Field(
        Path("/var/cache/plumise"), description="Directory for model files, which can be fetched again."
    )
    control_socket: AbsolutePath = Field(
        Path("/run/plumise/control.sock"),
        description="Unix socket on which the daemon answers `plumised status` and the like. By default control.sock "
        "in runtime_dir.",
    )


class EngineSettings(Section, frozen=True):
    """The engine: the Petals server that the daemon keeps running."""

    exclusive = (("blocks", "num_blocks"),)

    python: AbsolutePath = Field(
        Path("/usr/lib/plumise-engine/bin/python"), description="Python of the environment that holds Petals and torch."
    )
    model: Annotated[str, AfterValidator(values.model)] = Field(
        "bigscience/bloom-560m",
        description="Model to serve: a name on the hub, or the absolute path of a directory that holds the checkpoint.",
    )
    revision: Annotated[str, AfterValidator(values.revision)] | None = Field(
        None, description="Branch, tag or commit of the model's repository on the hub.", examples=["main"]
    )
    offline: bool = Field(False, description="Make no call to the hub at all; the model must be there already.")
    hub_url: Url | None = Field(
        None,
        description="Where to fetch models. By default the hub that the engine's libraries know.",
        examples=["https://hub.example.org"],
    )
    blocks: Annotated[values.Span, BeforeValidator(values.span)] | None = Field(
        None,
        description="Blocks to serve, as first:end, where end is the block after the last. Excludes num_blocks. "
        "Without either the engine serves as many blocks as fit.",
        examples=["0:12"],
    )
    num_blocks: int | None = Field(
        None,
        ge=1,
        le=values.MAX_BLOCK,
        description="How many blocks to serve; the swarm's need decides which. Excludes blocks.",
        examples=[12],
    )
    device: Annotated[str, AfterValidator(values.device)] = Field(
        "auto", description="Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:N or mps."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Precision of the weights: auto (what suits model and device), float32, bfloat16 or float16.",
    )
    quantization: Literal["none", "int8", "nf4"] = Field(
        "none",
        description="Quantization of the weights: none, int8 or nf4 (4 bits); on a CPU with fast_path only. Changes"
        " what is answered, see docs/performance.md.",
    )
    handlers: int = Field(
        4, ge=1, le=32, description="Processes that handle connections. Each costs memory, see docs/operations.md."
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="Threads that compute on a CPU. By default one per core.", examples=[2]
    )
    fast_path: bool = Field(
        True,
        description="On a CPU, compute Llama, BLOOM and Falcon without Petals' own blocks: faster, and equal but for "
        "rounding; see docs/performance.md.",
    )
    attention_cache_tokens: int = Field(
        4096,
        ge=64,
        le=10**8,
        description="Tokens whose attention keys and values are kept, over all sessions together.",
    )
    max_batch_tokens: int = Field(2048, ge=1, le=10**7, description="Tokens that are computed in one batch at most.")
    cache_limit_gb: float = Field(
        50.0,
        gt=0,
        le=10**6,
        allow_inf_nan=False,
        description="Size of the model files in cache_dir beyond which the oldest are removed, in units of 10^9 bytes.",
    )
    throughput_rps: Annotated[float | None, BeforeValidator(values.throughput)] = Field(
        None, description='Throughput to announce, in requests per second; "auto" has the engine measure it.'
    )
    start_timeout_s: Seconds = Field(
        600.0, description="How long the engine may go without any progress before it serves, in seconds."
    )
    busy_limit_s: Seconds = Field(
        600.0,
        description="How long the engine may use the processor without finishing a single block before it counts as "
        "stuck, in seconds.",
    )
    stop_timeout_s: Seconds = Field(
        30.0, description="How long the engine may take to stop in order before it is killed, in seconds."
    )
    sandbox: Literal["auto", "required", "off"] = Field(
        "auto",
        description="Confine the engine: auto (with what the kernel has), required (not without all that confines "
        "files and system calls) or off; see docs/sandbox.md.",
    )
    allow_pickle: bool = Field(
        False, description="Load checkpoints in pickle format, which can run any code that their author put in."
    )

    @property
    def cache_limit_bytes(self) -> int:
        """`cache_limit_gb` in bytes."""
        return _scaled(self.cache_limit_gb, BYTES_PER_GB)


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


class OracleSettings(Section, frozen=True):
    """The Oracle: the service that books the work."""

    enabled: bool = Field(True, description="Report work to the Oracle.")
    url: Url = Field("http://localhost:3100", description="Where the Oracle answers.")
    dialect: Literal["auto", "report-v1", "metrics-v1"] = Field(
        "auto",
        description="What the Oracle speaks: auto (find out), report-v1 or metrics-v1; see docs/wire-formats.md.",
    )
    interval_s: Annotated[float, Field(ge=1, le=3600, allow_inf_nan=False)] = Field(
        60.0, description="Time between reports, in seconds."
    )
    timeout_s: Annotated[float, Field(gt=0, le=55, allow_inf_nan=False)] = Field(
        15.0, description="How long one report may take, in seconds; at 60 s its timestamp is too old."
    )
    proofs: bool = Field(
        True,
        description="Prove each served request with digests of what passed; metrics-v1 carries proofs, report-v1 not.",
    )
    registration: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Have the Oracle register the node: auto (when an endpoint is set or the wallet is empty), always "
        "or never.",
    )
    registration_timeout_s: Annotated[float, Field(ge=45, le=600, allow_inf_nan=False)] = Field(
        60.0, description="How long a registration through the Oracle may take, in seconds; up to 30 are usual."
    )
    endpoint: Annotated[str, AfterValidator(urls.endpoint)] | None = Field(
        None,
        description="URL that the Oracle announces for this node; its host is an IP address or has a dot.",
        examples=["http://203.0.113.7:31331"],
    )


class ChainSettings(Section, frozen=True):
    """The chain: registration and heartbeats."""

    enabled: bool = Field(True, description="Register the node and send heartbeats.")
    rpc_urls: RpcUrls = Field(
        ("http://localhost:8545",), min_length=1, description="JSON-RPC endpoints, tried in this order."
    )
    chain_id: int = Field(
        MAINNET, ge=1, lt=2**53, description="Chain that every endpoint must serve; testnet is 419561."
    )
    rpc_timeout_s: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] = Field(
        10.0, description="How long one JSON-RPC call may take, in seconds."
    )
    heartbeat_interval_s: Annotated[
        float, Field(ge=5, allow_inf_nan=False), AfterValidator(values.heartbeat_interval)
    ] = Field(
        120.0, description="Time between heartbeats, in seconds, below 300: by then the chain calls an agent dead."
    )
    heartbeat_when: Literal["serving", "always"] = Field(
        "serving", description="When to send heartbeats: serving (only while the engine serves) or always."
    )
    agent_registry: Address | None = Field(
        None,
        description="AgentRegistry contract, which rewards are paid through. By default mainnet's, on mainnet "
        f"(`{MAINNET_REGISTRY}`); none elsewhere.",
        examples=[MAINNET_REGISTRY],
    )
    reward_pool: Address = Field("0x0000000000000000000000000000000000001000", description="RewardPool contract.")
    max_fee_gwei: float = Field(
        10.0,
        gt=0,
        le=10**9,
        allow_inf_nan=False,
        description="Highest fee per unit of gas that a transaction may offer, replacements included, in gwei.",
    )
    replace_after_s: Annotated[float, Field(ge=5, le=3600, allow_inf_nan=False)] = Field(
        60.0,
        description="How long a transaction may stay unmined before one with a higher fee replaces it, in seconds.",
    )
    low_balance_plm: float = Field(
        0.01, ge=0, le=10**9, allow_inf_nan=False, description="Balance of the wallet below which to warn, in PLM."
    )
    verify_on_chain: bool = Field(False, description="Send proofs of served requests to the chain, too. Costs gas.")
    verify_per_hour: int = Field(6, ge=1, le=3600, description="Proofs sent to the chain in an hour at most.")
    verify_max_cost_plm: float = Field(
        0.001,
        gt=0,
        le=10**9,
        allow_inf_nan=False,
        description="What one proof on the chain may cost at most, in PLM; dearer ones wait.",
    )

    @property
    def max_fee_wei(self) -> int:
        """`max_fee_gwei` in wei."""
        return _scaled(self.max_fee_gwei, WEI_PER_GWEI)

    @property
    def verify_max_cost_wei(self) -> int:
        """`verify_max_cost_plm` in wei."""
        return _scaled(self.verify_max_cost_plm, WEI_PER_PLM)

    @property
    def low_balance_wei(self) -> int:
        """`low_balance_plm` in wei."""
        return _scaled(self.low_balance_plm, WEI_PER_PLM)


class WalletSettings(Section, frozen=True):
    """The wallet. Its password is never written into this file."""

    exclusive = (("password_file", "password_credential"),)

    keystore: AbsolutePath = Field(
        Path("/var/lib/plumise/wallet/keystore.json"),
        description="Encrypted keystore, made by `plumised wallet create`. By default wallet/keystore.json in "
        "state_dir.",
    )
    password_file: AbsolutePath | None = Field(
        None,
        description="File that holds the keystore's password, readable by its owner only. Excludes "
        "password_credential.",
        examples=["/etc/plumise/wallet.password"],
    )
    password_credential: Annotated[str, AfterValidator(values.credential)] = Field(
        PASSWORD_CREDENTIAL,
        description="Name of the systemd credential (LoadCredential=) that holds the keystore's password. Excludes "
        "password_file, and counts for nothing where that is set.",
    )


class RewardsSettings(Section, frozen=True):
    """Rewards for the work."""

    auto_claim: bool = Field(False, description="Claim rewards by itself.")
    threshold_plm: float = Field(
        1.0, ge=0, le=10**9, allow_inf_nan=False, description="Reward above which to claim, in PLM."
    )
    gas_factor: float = Field(
        10.0,
        ge=1,
        le=10**6,
        allow_inf_nan=False,
        description="Claim by itself only what is at least so many times what the claim's gas can cost.",
    )

    @property
    def threshold_wei(self) -> int:
        """`threshold_plm` in wei."""
        return _scaled(self.threshold_plm, WEI_PER_PLM)


class MetricsSettings(Section, frozen=True):
    """Metrics for Prometheus, and /health."""

    listen: Annotated[Listen | None, BeforeValidator(urls.listen)] = Field(
        Listen("127.0.0.1", 9464), description='IP address and port to serve /metrics and /health on, or "off".'
    )


class LogSettings(Section, frozen=True):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity to log: debug, info, warning or error."
    )
    format: Literal["auto", "journal", "text", "json"] = Field(
        "auto", description="Form of a record: auto (journal under systemd, else text), journal, text or json."
    )


class Settings(BaseModel, frozen=True, extra="forbid", strict=True):
    """All of node.toml. Values are in their canonical form; every path is absolute."""

    node: NodeSettings
    engine: EngineSettings = Field(default_factory=lambda: EngineSettings.model_validate({}))
    swarm: SwarmSettings = Field(default_factory=lambda: SwarmSettings.model_validate({}))
    oracle: OracleSettings = Field(default_factory=lambda: OracleSettings.model_validate({}))
    chain: ChainSettings = Field(default_factory=lambda: ChainSettings.model_validate({}))
    wallet: WalletSettings = Field(default_factory=lambda: WalletSettings.model_validate({}))
    rewards: RewardsSettings = Field(default_factory=lambda: RewardsSettings.model_validate({}))
    metrics: MetricsSettings = Field(default_factory=lambda: MetricsSettings.model_validate({}))
    log: LogSettings = Field(default_factory=lambda: LogSettings.model_validate({}))

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: object) -> object:
        return with_derived(data) if isinstance(data, dict) else data


SECTIONS: dict[str, type[Section]] = {
    "node": NodeSettings,
    "engine": EngineSettings,
    "swarm": SwarmSettings,
    "oracle": OracleSettings,
    "chain": ChainSettings,
    "wallet": WalletSettings,
    "rewards": RewardsSettings,
    "metrics": MetricsSettings,
    "log": LogSettings,
}
"""The tables of node.toml, in its order."""

_IN_DIRECTORY = (
    ("node", "control_socket", "runtime_dir", "control.sock"),
    ("swarm", "identity_file", "state_dir", "engine/identity.key"),
    ("wallet", "keystore", "state_dir", "wallet/keystore.json"),
)


def with_derived(tables: dict[str, object]) -> dict[str, object]:
    """The tables with those defaults filled in that follow from other keys; what is malformed stays as it is."""
    filled = dict(tables)
    node, chain = filled.get("node"), filled.get("chain", {})
    for section, key, directory_key, name in _IN_DIRECTORY:
        directory = _directory(node.get(directory_key)) if isinstance(node, dict) else None
        table = filled.get(section, {})
        if directory is not None and isinstance(table, dict) and key not in table:
            filled[section] = {**table, key: directory / name}
    if isinstance(chain, dict) and chain.get("chain_id", MAINNET) == MAINNET and "agent_registry" not in chain:
        filled["chain"] = {**chain, "agent_registry": MAINNET_REGISTRY}
    return filled


def _directory(value: object) -> Path | None:
    try:
        return values.absolute_path(value)
    except UnfitError:
        return None


def _scaled(amount: float, unit: int) -> int:
    """The amount in the smaller unit, from the decimal digits that the operator wrote."""
    return int(Decimal(repr(amount)) * unit)
