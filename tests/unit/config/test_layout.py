from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from plumised.config import Settings, load
from plumised.config.layout import PLAIN, Layout, instance
from plumised.config.problems import UnfitError
from plumised.config.values import name_of_host, node_name

if TYPE_CHECKING:
    from tests.unit.config.conftest import Etc

SYSTEMD = Path(__file__).parents[3] / "systemd"


def test_the_layout_without_a_name_is_that_of_the_defaults() -> None:
    defaults = Settings.model_validate({"node": {"name": "testhost"}}).node

    assert PLAIN.config_file == Path("/etc/plumise/node.toml")
    assert PLAIN.state_dir == defaults.state_dir
    assert PLAIN.cache_dir == defaults.cache_dir
    assert PLAIN.runtime_dir == defaults.runtime_dir
    assert PLAIN.control_socket == defaults.control_socket


@pytest.mark.parametrize(("layout", "file"), [(PLAIN, "plumised.service"), (Layout("gpu0"), "plumised@.service")])
def test_a_unit_has_what_its_layout_says(layout: Layout, file: str) -> None:
    text = (SYSTEMD / file).read_text(encoding="utf-8").replace("%i", "gpu0")
    directories = dict(re.findall(r"^(State|Cache|Runtime)Directory=(.*)$", text, re.MULTILINE))

    assert f"LoadCredential=wallet-password:{layout.password_file}\n" in text
    assert Path("/var/lib") / directories["State"] == layout.state_dir
    assert Path("/var/cache") / directories["Cache"] == layout.cache_dir
    assert Path("/run") / directories["Runtime"] == layout.runtime_dir


def test_an_instance_has_directories_of_its_own_and_what_lies_in_them(etc: Etc) -> None:
    settings = load(etc.write("").file, host_name="testhost", layout=instance("gpu0"))

    assert settings.node.state_dir == Path("/var/lib/plumise-gpu0")
    assert settings.node.cache_dir == Path("/var/cache/plumise-gpu0")
    assert settings.node.runtime_dir == Path("/run/plumise-gpu0")
    assert settings.node.control_socket == Path("/run/plumise-gpu0/control.sock")
    assert settings.swarm.identity_file.is_relative_to("/var/lib/plumise-gpu0")
    assert settings.wallet.keystore == Path("/var/lib/plumise-gpu0/wallet/keystore.json")


def test_what_the_file_says_wins_over_the_instance(etc: Etc) -> None:
    etc.write('[node]\nname = "mine"\nstate_dir = "/srv/state"\nruntime_dir = "/srv/run"\n')

    settings = load(etc.file, host_name="testhost", layout=instance("gpu0"))

    assert settings.node.name == "mine"
    assert settings.node.state_dir == Path("/srv/state")
    assert settings.wallet.keystore == Path("/srv/state/wallet/keystore.json")
    assert settings.node.control_socket == Path("/srv/run/control.sock")
    assert settings.node.cache_dir == Path("/var/cache/plumise-gpu0")


@pytest.mark.parametrize(
    ("host", "name", "node"),
    [
        ("tower", "gpu0", "tower-gpu0"),
        ("a" * 40, "gpu0", "a" * 27 + "-gpu0"),
        ("tower", "b" * 32, "b" * 32),
        ("tower", "b" * 31, "b" * 31),
        ("", "gpu0", "node-gpu0"),
    ],
)
def test_the_nodes_of_a_machine_have_names_that_differ(host: str, name: str, node: str) -> None:
    assert node_name(name_of_host(host, name)) == node


@pytest.mark.parametrize("name", ["a", "gpu0", "llama-70b", "A.b_c", "x" * 32])
def test_a_name_that_systemd_takes_as_it_is(name: str) -> None:
    assert instance(name).unit == f"plumised@{name}.service"


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "a b", "a@b", "a:b", "x" * 33, "ä", "a\n", "a%i", "node"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(UnfitError):
        instance(name)
