"""What the harness promises to the tests that stand on it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.hosts.host import Hardware, Host, HostError
from tests.hosts.ownership import LABEL, mine, remove_orphans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hosts.network import Network

CONTROL = """\
Package: greeter
Version: 1
Architecture: all
Maintainer: Tests <tests@example.org>
Description: a service that greets
"""
SERVICE = """\
[Service]
Type=notify
NotifyAccess=all
LoadCredential=word:/etc/greeter.word
ProtectSystem=strict
DynamicUser=yes
ExecStart=/bin/sh -c 'cat "$CREDENTIALS_DIRECTORY/word"; systemd-notify --ready --status=greeting; exec sleep infinity'
[Install]
WantedBy=multi-user.target
"""
POSTINST = "#!/bin/sh\nset -e\nsystemctl enable --now greeter.service\n"


@pytest.fixture(scope="module")
def host(host_image: str, network: Network) -> Iterator[Host]:
    with Host.booted(host_image, "anna", network) as booted:
        yield booted


@pytest.fixture(scope="module")
def other(host_image: str, network: Network) -> Iterator[Host]:
    with Host.booted(host_image, "bert", network) as booted:
        yield booted


def greeter(directory: Path) -> Path:
    """A package with a service."""
    tree = directory / "greeter"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(CONTROL)
    (tree / "DEBIAN" / "postinst").write_text(POSTINST)
    (tree / "DEBIAN" / "postinst").chmod(0o755)
    (tree / "etc").mkdir()
    (tree / "etc" / "greeter.word").write_text("moin\n")
    (tree / "lib" / "systemd" / "system").mkdir(parents=True)
    (tree / "lib" / "systemd" / "system" / "greeter.service").write_text(SERVICE)
    package = directory / "greeter.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(package)], check=True, timeout=60)
    return package


def test_a_package_brings_its_service_up_with_credentials_and_a_status_line(host: Host, tmp_path: Path) -> None:
    host.copy_in(greeter(tmp_path), "/srv/greeter.deb")

    host.run("dpkg --install /srv/greeter.deb")

    assert host.show("greeter", "ActiveState", "StatusText") == {"ActiveState": "active", "StatusText": "greeting"}
    host.wait_for("the greeting is in the journal", lambda h: "moin" in {r.message for r in h.journal("greeter")})


def test_a_failed_command_tells_what_it_printed(host: Host) -> None:
    with pytest.raises(HostError, match="out of order"):
        host.run("echo out of order >&2; exit 3")

    assert host.run("exit 3", check=False).status == 3


def test_a_command_that_takes_too_long_is_ended(host: Host) -> None:
    with pytest.raises(HostError, match="took too long"):
        host.run("exec -a dawdler sleep 600", timeout_s=0.5)

    assert host.run("pgrep --full '^dawdler'", check=False).status == 1


def test_files_go_in_and_come_out(host: Host, tmp_path: Path) -> None:
    (tmp_path / "tree" / "leaf").mkdir(parents=True)
    (tmp_path / "tree" / "leaf" / "file").write_bytes(b"\x00\xff")

    host.copy_in(tmp_path / "tree", "/srv/tree")
    host.write("/run/secret", "word", mode="0600", owner="daemon:daemon")
    host.copy_out("/srv/tree/leaf/file", tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == b"\x00\xff"
    assert host.run("stat --format '%U %a' /run/secret").stdout.split() == ["daemon", "600"]


def test_the_journal_is_read_from_a_cursor_on(host: Host) -> None:
    host.run("echo before | systemd-cat --identifier test")
    cursor = host.cursor()
    host.run("echo after | systemd-cat --identifier test --priority err")

    seen = [(r.message, r.priority) for r in host.journal(after=cursor) if r.fields.get("SYSLOG_IDENTIFIER") == "test"]

    assert seen == [("after", 3)]


def test_hosts_reach_each_other_by_name_and_nothing_beyond(host: Host, other: Host) -> None:
    other.run("systemd-run --unit=web python3 -m http.server 8000")
    fetch = "import urllib.request as r; r.urlopen('http://bert:8000', timeout=5)"

    host.wait_for("bert answers", lambda h: h.run(f'python3 -c "{fetch}"', check=False).status == 0)

    inspect = ["docker", "network", "inspect", "--format", "{{.Internal}}", host.network.name]
    assert subprocess.run(inspect, check=True, capture_output=True, text=True, timeout=60).stdout.strip() == "true"


def test_a_host_that_was_unplugged_is_found_again_by_its_name(host: Host, other: Host) -> None:
    lookup = "getent hosts bert"
    host.wait_for("bert is known", lambda h: h.run(lookup, check=False).status == 0)

    other.disconnect()
    host.wait_for("bert is gone", lambda h: h.run(lookup, check=False).status != 0)
    other.reconnect()

    host.wait_for("bert is back", lambda h: h.run(lookup, check=False).status == 0)


def test_what_is_on_disk_outlives_a_power_cut_and_a_restart(host: Host) -> None:
    host.write("/var/lib/kept", "this")
    host.run("sync")

    host.kill()
    host.start()
    host.restart()

    assert host.read("/var/lib/kept") == "this"


def test_a_memory_limit_holds_on_a_host_with_controllers(host_image: str, network: Network) -> None:
    eat = "python3 -c 'bytes(bytearray(200 << 20))'"
    with Host.booted(host_image, "carl", network, Hardware(cgroups="controllers")) as host:
        ended = host.run(f"systemd-run --wait --quiet --property=MemoryMax=50M {eat}", check=False)

        assert ended.status != 0
        assert host.run(f"systemd-run --wait --quiet --property=MemoryMax=600M {eat}", check=False).status == 0


def test_the_disk_that_a_test_asked_for_is_as_small_as_that(host_image: str, network: Network) -> None:
    with Host.booted(host_image, "dora", network, Hardware(tmpfs={"/srv/small": "size=1m"})) as host:
        filled = host.run("dd if=/dev/zero of=/srv/small/file bs=1M count=2", check=False)

        assert "No space left" in filled.stderr


def test_what_a_dead_session_left_is_removed_and_what_a_living_one_has_stays(host: Host, host_image: str) -> None:
    ended = subprocess.Popen([shutil.which("true") or "true"])
    ended.wait()
    label = f"{LABEL}={ended.pid}:1"
    command = ["docker", "create", "--label", label, host_image]
    orphan = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    remove_orphans()

    listed = ["docker", "ps", "--all", "--quiet", "--no-trunc"]
    containers = subprocess.run(listed, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    assert orphan not in containers
    assert host.container_id in containers


def test_a_session_knows_what_is_its_own(host: Host) -> None:
    everything = mine()

    assert f"container {host.container_id}" in everything
    assert sum(each.startswith("network ") for each in everything) == 1
