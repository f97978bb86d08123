"""The status as JSON, for programs, and as text, for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from plumised.observe.checks import problems
from plumised.observe.status import EngineState
from plumised.observe.wording import amount, count, duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plumised.observe.checks import Problem
    from plumised.observe.status import (
        ChainStatus,
        EngineStatus,
        OracleStatus,
        SandboxStatus,
        Status,
        UsageStatus,
    )


def to_json(status: Status) -> str:
    """The whole status with `serving`, `usage.total` and `problems`, as one JSON object.

    Amounts in wei are decimal strings, since most readers of JSON round them otherwise.
    """
    document = {"serving": status.serving, "problems": [asdict(problem) for problem in problems(status)]}
    document |= asdict(status)
    document["usage"] = asdict(status.usage) | {"total": asdict(status.usage.total)}
    document["chain"] = {
        key: str(value) if key.endswith("_wei") and value is not None else value
        for key, value in asdict(status.chain).items()
    } | {
        "contribution": [str(word) for word in status.chain.contribution],
        "heartbeats_missed": dict(status.chain.heartbeats_missed),
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def to_text(status: Status) -> str:
    """A few lines for a terminal."""
    lines = [
        _row("node", f"{status.node.name}, plumised {status.node.version}, up {_age(status, status.node.started_at)}"),
        *_engine(status, status.engine),
        *_usage(status.usage),
        *_oracle(status, status.oracle),
        *_chain(status, status.chain),
    ]
    found = problems(status)
    if not found:
        lines.append(_row("problems", "none"))
    for problem in found:
        lines.extend(_problem(status, problem))
    return "\n".join(lines) + "\n"


def one_line(status: Status) -> str:
    """The status in one sentence, for systemd's STATUS."""
    engine = status.engine
    if status.node.stopping:
        head = "Stopping"
    elif status.serving:
        head = f"Serving {_span(engine)}"
    elif engine.next_try_at is not None:
        head = f"Engine {engine.state}, next try in {duration(engine.next_try_at - status.at)}"
    else:
        head = f"Engine {engine.state}{_progress(engine)}"
    found = problems(status)
    return f"{head}; {found[0].message}" if found else head


def _row(name: str, text: str) -> str:
    return f"{name:<9}{text}"


def _age(status: Status, moment: float) -> str:
    return duration(status.at - moment)


def _span(engine: EngineStatus) -> str:
    if engine.span_start is None or engine.span_end is None:
        return engine.model
    total = f" of {engine.total_blocks}" if engine.total_blocks is not None else ""
    return f"blocks {engine.span_start}:{engine.span_end}{total} of {engine.model}"


def _progress(engine: EngineStatus) -> str:
    if engine.phase is None or engine.state is not EngineState.STARTING:
        return ""
    if engine.blocks_loaded is None or engine.blocks_to_load is None:
        return f", {engine.phase}"
    return f", {engine.phase} block {engine.blocks_loaded} of {engine.blocks_to_load}"


def _engine(status: Status, engine: EngineStatus) -> Iterator[str]:
    quantization = None if engine.quantization in (None, "none") else f"weights {engine.quantization}"
    computing = ", ".join(part for part in (engine.device, engine.dtype, quantization, engine.path) if part)
    yield _row(
        "engine",
        f"{engine.state} for {_age(status, engine.since)}{_progress(engine)}: {_span(engine)}"
        + (f" ({computing})" if computing else ""),
    )
    if engine.peer_id is not None:
        yield _row("", f"peer {engine.peer_id}")
    if engine.sandbox is not None:
        yield _row("", f"sandbox {_sandbox(engine.sandbox)}")
    if engine.restarts:
        yield _row("", f"{engine.restarts} restarts since the daemon started")
    if engine.failure is not None and not status.serving:
        for line in engine.failure.lines:
            yield _row("", f"| {line}")


def _sandbox(sandbox: SandboxStatus) -> str:
    if not sandbox.layers:
        return "off"
    held = [f"{each.name} ({each.detail})" for each in sandbox.layers if each.active]
    lacking = [f"no {each.name} ({each.detail})" for each in sandbox.layers if not each.active]
    return ", ".join([*held, *lacking])


def _usage(usage: UsageStatus) -> Iterator[str]:
    total = usage.total
    pace = f", {total.service_us / total.steps / 1000:.1f} ms a step" if total.steps else ""
    yield _row(
        "usage", f"{count(total.tokens)} tokens, {count(total.requests)} requests, {count(total.steps)} steps{pace}"
    )


def _oracle(status: Status, oracle: OracleStatus) -> Iterator[str]:
    if not oracle.enabled:
        yield _row("oracle", "off")
        return
    accepted = (
        "no report accepted yet"
        if oracle.last_accepted_at is None
        else f"last report accepted {_age(status, oracle.last_accepted_at)} ago"
    )
    yield _row("oracle", f"{oracle.url} ({oracle.dialect or 'dialect not known yet'}), {accepted}")
    proofs = (
        f", {count(oracle.proofs_accepted)} proofs accepted, {count(oracle.proofs_waiting)} waiting"
        if oracle.proofs_accepted or oracle.proofs_waiting
        else ""
    )
    yield _row("", f"{count(oracle.tokens_reported)} tokens reported{proofs}")


def _chain(status: Status, chain: ChainStatus) -> Iterator[str]:
    if not chain.enabled:
        yield _row("chain", "off")
        return
    registered = {True: "registered", False: "not registered", None: "registration not known"}[chain.registered]
    balance = "balance not known" if chain.balance_wei is None else amount(chain.balance_wei)
    yield _row("chain", f"{chain.chain_id}, agent {status.wallet.agent or 'not known'}, {registered}, {balance}")
    if chain.last_heartbeat_at is not None:
        transaction = f" ({chain.last_heartbeat_tx})" if chain.last_heartbeat_tx else ""
        missed = f", {count(chain.missed)} missed" if chain.missed else ""
        yield _row("", f"last heartbeat {_age(status, chain.last_heartbeat_at)} ago{transaction}{missed}")
    yield from _rewards(chain)
    if chain.transaction is not None:
        flying = chain.transaction
        yield _row(
            "",
            f"transaction to {flying.purpose} on its way for {_age(status, flying.since)}"
            f" (nonce {flying.nonce}, attempt {flying.attempts}, {flying.hash})",
        )


def _rewards(chain: ChainStatus) -> Iterator[str]:
    if chain.pending_reward_wei is not None:
        claimed = f", {amount(chain.claimed_wei)} claimed" if chain.claims else ""
        yield _row("", f"reward {amount(chain.pending_reward_wei)} pending in epoch {chain.epoch}{claimed}")
    if chain.claim_note is not None:
        yield _row("", f"not claimed: {chain.claim_note.message}")
    if chain.proofs_verified:
        yield _row("", f"{count(chain.proofs_verified)} proofs on chain")


def _problem(status: Status, problem: Problem) -> Iterator[str]:
    retry = "" if problem.next_try_at is None else f" {_next_try(problem.next_try_at - status.at)}"
    yield _row(str(problem.severity), f"{problem.message} ({problem.code}).")
    yield _row("", f"{problem.remedy.rstrip('.')}.{retry}")


def _next_try(in_s: float) -> str:
    return "It is being tried again." if in_s <= 0 else f"Next try in {duration(in_s)}."
