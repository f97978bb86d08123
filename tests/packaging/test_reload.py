"""`systemctl reload`: all of a new configuration counts, or nothing of it; and the journal says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hosts.host import Host
from tests.packaging.node import Node, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.hosts.host import Hardware
    from tests.hosts.journal import Record
    from tests.hosts.network import Network
    from tests.packaging.devnet import HostsDevnet

RELOAD_TIMEOUT_S = 180.0


@pytest.fixture(scope="module")
def node(node_image: str, network: Network, hardware: Hardware, devnet: HostsDevnet) -> Iterator[Node]:
    """A node that serves."""
    with Host.booted(node_image, "reloaded", network, hardware) as host:
        node = Node(host)
        node.serving(settings(devnet))
        yield node


def reload(node: Node) -> int:
    """`systemctl reload`; its exit status."""
    return node.host.systemctl("reload", node.unit, check=False, timeout_s=RELOAD_TIMEOUT_S).status


def events(node: Node, name: str, *, after: str | None = None) -> list[Record]:
    """The records of the unit's journal that tell this event."""
    return [each for each in node.host.journal(node.unit, after=after) if each.fields.get("PLUMISE_EVENT") == name]


def test_records_tell_node_event_and_place_to_programs(node: Node) -> None:
    ready = events(node, "daemon-ready")[-1]

    assert ready.fields["PLUMISE_NODE"] == "reloaded"
    assert ready.fields["CODE_FUNC"]
    assert ready.fields["CODE_FILE"].endswith(".py")
    assert ready.fields["CODE_LINE"].isdigit()
    assert ready.fields["_TRANSPORT"] == "journal"
    assert ready.fields["_SYSTEMD_UNIT"] == node.unit
    assert int(ready.fields["_PID"]) == node.host.main_pid(node.unit)
    assert "PLUMISE_INSTANCE" not in ready.fields
    for name in ("daemon-starting", "wallet-opened", "engine-spawned", "engine-serving"):
        assert events(node, name), name


def test_what_the_engine_prints_is_told_apart(node: Node) -> None:
    printed = events(node, "engine-output")

    assert printed
    assert {each.fields["SYSLOG_IDENTIFIER"] for each in printed} == {"plumise-engine"}


def test_a_bad_file_fails_the_reload_and_changes_nothing_but_the_journal(node: Node, devnet: HostsDevnet) -> None:
    before, cursor, pid = node.engine(), node.host.cursor(), node.host.main_pid(node.unit)
    node.configure(settings(devnet, extra={"oracle": {"interval_s": 0}, "engine": {"handlers": 2}}))

    assert reload(node) != 0

    (refused,) = events(node, "config-refused", after=cursor)
    assert refused.message.startswith(f"the configuration is not taken: {node.config_file}:")
    assert "oracle.interval_s is 0, which is out of range." in refused.message
    assert (refused.fields["PLUMISE_REASON"], refused.fields["PLUMISE_KEYS"]) == ("configuration", "oracle.interval_s")
    assert node.host.show(node.unit, "ActiveState")["ActiveState"] == "active"
    assert node.host.main_pid(node.unit) == pid
    assert node.engine()["incarnation"] == before["incarnation"]


def test_a_key_that_needs_another_start_fails_the_reload_and_says_so(node: Node, devnet: HostsDevnet) -> None:
    cursor, pid = node.host.cursor(), node.host.main_pid(node.unit)
    node.configure(settings(devnet, extra={"metrics": {"listen": "off"}, "oracle": {"interval_s": 3.0}}))

    assert reload(node) != 0

    (refused,) = events(node, "config-refused", after=cursor)
    assert refused.fields["PLUMISE_REASON"] == "reload-needs-restart"
    assert "metrics.listen changed" in refused.message
    assert "systemctl restart plumised" in refused.message
    assert node.status()["oracle"]["interval_s"] == 2.0
    assert node.host.main_pid(node.unit) == pid


def test_a_live_key_counts_at_once_and_the_engine_goes_on(node: Node, devnet: HostsDevnet) -> None:
    before, cursor = node.engine(), node.host.cursor()
    node.configure(settings(devnet, extra={"oracle": {"interval_s": 3.0}}))

    assert reload(node) == 0

    (applied,) = events(node, "config-applied", after=cursor)
    assert applied.fields["PLUMISE_KEYS"] == "oracle.interval_s"
    assert node.status()["oracle"]["interval_s"] == 3.0
    assert node.engine()["incarnation"] == before["incarnation"]
    assert node.status_text().startswith("Serving blocks")


def test_an_engine_key_restarts_the_engine_alone(node: Node, devnet: HostsDevnet) -> None:
    before, cursor, pid = node.engine(), node.host.cursor(), node.host.main_pid(node.unit)
    node.configure(settings(devnet, extra={"engine": {"handlers": 2}, "oracle": {"interval_s": 3.0}}))

    assert reload(node) == 0

    assert node.engine()["incarnation"] != before["incarnation"]
    assert node.host.main_pid(node.unit) == pid
    node.wait_serving()
    assert node.engine()["handlers"] == 2
    order = [each.fields["PLUMISE_EVENT"] for each in node.host.journal(node.unit, after=cursor) if _of_engine(each)]
    assert order == ["engine-stopping", "engine-starting", "engine-spawned", "engine-serving"]


def _of_engine(record: Record) -> bool:
    event = record.fields.get("PLUMISE_EVENT", "")
    return event.startswith("engine-") and event not in {"engine-output", "engine-sandbox"}
