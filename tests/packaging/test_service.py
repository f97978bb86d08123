"""A node under its unit: what it says, how it reloads, what its engine cannot reach, and that systemd watches it."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from tests.devnet.configuration import toml
from tests.hosts.docker_engine import ROOT
from tests.hosts.host import Host
from tests.packaging.node import BLOCKS, Node, settings
from tests.petals.escapes import DONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.devnet.configuration import Tables
    from tests.hosts.host import Hardware
    from tests.hosts.network import Network
    from tests.packaging.devnet import HostsDevnet

FRAGMENT = "/etc/plumise/node.toml.d/50-test.toml"
ENGINE_SITE = "/usr/lib/plumise-engine/lib/python3.11/site-packages"
TESTS = "/srv/checkout/tests"
FOUND = "/var/cache/plumise/escapes.json"
OWN = "/var/cache/plumise"
WATCHDOG_S = 15
RESTARTS = 8
SIGNALS = {"the daemon's signal", "the daemon's signal by descriptor"}
"""What the sandbox cannot refuse before Linux 6.12."""

INTRUDER = f"""
import importlib.abc, json, os, pathlib, sys

class Intruder(importlib.abc.MetaPathFinder):
    "Tries to get out once the engine imports petals, as code of a model would at the earliest."

    def find_spec(self, name, path, target=None):
        if name == "petals" and not pathlib.Path({FOUND!r}).exists():
            pathlib.Path({FOUND!r}).touch()
            import escapes
            daemon = os.getppid()
            found = escapes.attempts(escapes.Targets(
                secrets=(
                    "/var/lib/plumise/wallet/keystore.json",
                    "/var/lib/plumise/ledger.sqlite",
                    "/etc/plumise/node.password",
                    "/run/credentials/plumised.service/wallet-password",
                ),
                directories=("/var/lib/plumise", "/etc/plumise", "/run/credentials/plumised.service"),
                daemon=daemon,
                own={OWN!r},
                control_socket="/run/plumise/control.sock",
            ))
            pathlib.Path({FOUND!r}).write_text(json.dumps(found))
        return None

sys.meta_path.insert(0, Intruder())
"""


@pytest.fixture(scope="module")
def node(node_image: str, network: Network, hardware: Hardware, devnet: HostsDevnet) -> Iterator[Node]:
    """A node that serves."""
    mounts = {**(hardware.mounts or {}), TESTS: ROOT / "tests"}
    with Host.booted(node_image, "server", network, dataclasses.replace(hardware, mounts=mounts)) as host:
        node = Node(host)
        node.serving(settings(devnet))
        yield node


@pytest.fixture
def fragment(node: Node) -> Iterator[Node]:
    """The node; what a test writes to the fragment is taken away again."""
    yield node
    node.host.run(f"rm -f {FRAGMENT}")
    node.host.systemctl("reload", node.unit)
    node.wait_serving()


def write(node: Node, tables: Tables) -> None:
    node.host.write(FRAGMENT, toml(tables), mode="0640", owner="root:plumise")


def pids(node: Node) -> tuple[int, int]:
    """The daemon's and the engine's process."""
    return node.host.main_pid(node.unit), int(node.engine()["pid"])


def test_a_reload_takes_what_needs_no_restart_without_one(fragment: Node) -> None:
    before = pids(fragment)
    cursor = fragment.host.cursor()
    write(fragment, {"log": {"level": "debug"}})

    fragment.host.systemctl("reload", fragment.unit)

    assert pids(fragment) == before
    assert any("log.level" in message for message in fragment.messages(after=cursor))


def test_a_reload_of_the_engines_settings_starts_the_engine_alone_anew(fragment: Node) -> None:
    daemon, engine = pids(fragment)
    write(fragment, {"engine": {"blocks": f"0:{BLOCKS - 1}"}})

    fragment.host.systemctl("reload", fragment.unit)

    fragment.wait_serving()
    assert fragment.host.main_pid(fragment.unit) == daemon
    assert fragment.engine()["pid"] != engine
    assert fragment.engine()["span_end"] == BLOCKS - 1


def test_a_reload_of_a_bad_file_changes_nothing_and_fails_with_the_reason(node: Node) -> None:
    before = pids(node)
    cursor = node.host.cursor()
    write(node, {"engine": {"blocks": "7:3", "dtype": "float32"}, "log": {"level": "debug"}})

    reloaded = node.host.systemctl("reload", node.unit, check=False)

    assert reloaded.status != 0
    assert any("engine.blocks" in message for message in node.messages(after=cursor))
    assert pids(node) == before
    assert node.host.show(node.unit, "ActiveState") == {"ActiveState": "active"}
    node.host.run(f"rm {FRAGMENT}")


def test_the_status_says_which_layers_confine_the_engine(node: Node) -> None:
    layers = {layer["name"]: layer["active"] for layer in node.engine()["sandbox"]["layers"]}

    assert layers.items() >= {"files": True, "system-calls": True, "no-new-privileges": True}.items()
    assert "sandbox files" in node.plumised("status").stdout


def test_from_inside_the_engine_no_secret_and_no_part_of_the_daemon_can_be_reached(node: Node) -> None:
    node.host.run(f"cp {TESTS}/petals/escapes.py {ENGINE_SITE}/escapes.py")
    node.host.write(f"{ENGINE_SITE}/intruder.py", INTRUDER)
    # Debian has a sitecustomize of its own, which comes first.
    node.host.write(f"{ENGINE_SITE}/intruder.pth", "import intruder\n")

    node.plumised("restart-engine")

    found = node.host.wait_for(
        "the engine has tried everything",
        lambda host: host.run(f"cat {FOUND}", check=False).stdout,
        timeout_s=120,
    )
    node.host.run(f"rm {ENGINE_SITE}/intruder.pth {ENGINE_SITE}/intruder.py {ENGINE_SITE}/escapes.py")
    node.wait_serving()
    succeeded = {what for what, outcome in json.loads(found).items() if outcome == DONE}
    assert "create in its own" in succeeded
    active = {layer["name"] for layer in node.engine()["sandbox"]["layers"] if layer["active"]}
    assert succeeded - {"create in its own"} <= (set() if "signals" in active else SIGNALS)


def test_an_operator_may_start_it_anew_as_often_as_a_hand_can(node: Node) -> None:
    for _ in range(RESTARTS):
        node.host.systemctl("restart", node.unit)

    node.wait_serving()


def test_a_daemon_that_fails_at_once_comes_to_rest(node: Node) -> None:
    drop_in = f"/etc/systemd/system/{node.unit}.d/broken.conf"
    node.host.write(drop_in, "[Service]\nExecStart=\nExecStart=/bin/false\nRestartSec=100ms\n")
    node.host.systemctl("daemon-reload")
    cursor = node.host.cursor()

    node.host.systemctl("restart", node.unit, check=False)

    node.host.wait_for(
        "systemd has had enough",
        lambda _: any("Start request repeated too quickly" in message for message in node.messages(after=cursor)),
    )
    assert node.host.show(node.unit, "ActiveState") == {"ActiveState": "failed"}
    node.host.run(f"rm {drop_in}")
    node.host.systemctl("daemon-reload")
    node.host.systemctl("reset-failed", node.unit)
    node.start()
    node.wait_serving()


def test_systemd_replaces_a_daemon_that_has_stopped(node: Node) -> None:
    node.host.write(f"/etc/systemd/system/{node.unit}.d/watchdog.conf", f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
    node.host.systemctl("daemon-reload")
    node.host.systemctl("restart", node.unit)
    node.wait_serving()
    stopped = node.host.main_pid(node.unit)
    cursor = node.host.cursor()

    node.host.run(f"kill -STOP {stopped}")

    node.host.wait_for(
        "there is another daemon", lambda host: host.main_pid(node.unit) not in (0, stopped), timeout_s=120
    )
    assert any("Watchdog timeout" in message for message in node.messages(after=cursor))
    node.wait_serving()
