"""From the settings to what the engine is told and how it is started. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plumised.engine.engine import EnginePlaces
from plumised.engine.launch import Launch
from plumised.engine.policy import EnginePolicy
from plumised.ipc.job import EngineJob

if TYPE_CHECKING:
    from plumised.config import EngineSettings, Settings
    from plumised.daemon.directories import Places

_CREDENTIALS: Final = "/run/credentials"
"""Where systemd has the credentials of services (systemd.exec(5))."""

DRAIN_PART = 0.5
"""Part of the stop time that open sessions get; the rest is for ending the engine's processes."""


def engine_job(settings: Settings, places: Places, incarnation: str) -> EngineJob:
    """The settings of one incarnation, without any secret."""
    engine, swarm = settings.engine, settings.swarm
    return EngineJob(
        incarnation=incarnation,
        socket=str(places.engine_socket),
        tally_dir=str(places.tally),
        runtime_dir=str(places.engine_runtime),
        cache_dir=str(places.cache),
        hidden=hidden(settings),
        sandbox=engine.sandbox,
        model=engine.model,
        revision=engine.revision,
        offline=engine.offline,
        hub_url=engine.hub_url,
        prefix=swarm.prefix,
        first_block=engine.blocks.start if engine.blocks else None,
        last_block=engine.blocks.end if engine.blocks else None,
        num_blocks=engine.num_blocks,
        device=engine.device,
        dtype=engine.dtype,
        quantization=engine.quantization,
        handlers=engine.handlers,
        threads=engine.threads,
        fast_path=engine.fast_path,
        attention_cache_tokens=engine.attention_cache_tokens,
        max_batch_size=engine.max_batch_tokens,
        throughput=engine.throughput_rps,
        bandwidth_mbps=swarm.bandwidth_mbps,
        cache_limit_bytes=engine.cache_limit_bytes,
        listen=swarm.listen,
        announce=swarm.announce,
        initial_peers=swarm.initial_peers,
        new_swarm=swarm.new_swarm,
        identity_file=str(swarm.identity_file),
        public_name=swarm.public_name,
        use_relay=swarm.use_relay,
        allow_pickle=engine.allow_pickle,
        proofs=proofs_wanted(settings),
        drain_timeout_s=engine.stop_timeout_s * DRAIN_PART,
    )


def hidden(settings: Settings) -> tuple[str, ...]:
    """What the engine must not get at; of the state directory it gets its own part only."""
    wallet = settings.wallet
    files = (settings.node.state_dir, wallet.keystore, wallet.password_file, settings.node.control_socket)
    return (*(str(path) for path in files if path is not None), _CREDENTIALS)


def proofs_wanted(settings: Settings) -> bool:
    """Whether anybody takes proofs: an Oracle whose reports carry them, or the chain."""
    oracle, chain = settings.oracle, settings.chain
    carried = oracle.enabled and oracle.proofs and oracle.dialect != "report-v1"
    return carried or (chain.enabled and chain.verify_on_chain)


def engine_launch(engine: EngineSettings, places: Places) -> Launch:
    """How the engine's interpreter is started: with an environment of its own, whatever the daemon's is."""
    return Launch(
        python=engine.python,
        environment={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(places.engine_runtime),
            "TMPDIR": str(places.engine_runtime),
            "LANG": "C.UTF-8",
        },
    )


def engine_places(places: Places) -> EnginePlaces:
    """Where daemon and engine meet on disk."""
    return EnginePlaces(places.engine_socket, places.engine_file, places.tally)


def engine_policy(engine: EngineSettings) -> EnginePolicy:
    """The thresholds that the operator may set; the others are as documented."""
    return EnginePolicy(
        start_timeout_s=engine.start_timeout_s, busy_limit_s=engine.busy_limit_s, stop_timeout_s=engine.stop_timeout_s
    )
