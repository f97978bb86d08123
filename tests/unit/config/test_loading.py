from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from plumised.config import ConfigError, Settings, Span, load
from plumised.errors import EXIT_CONFIG

if TYPE_CHECKING:
    from tests.unit.config.conftest import Etc

PEER = "/dns4/peer.example/tcp/31330/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"


def test_an_empty_file_gives_every_default(etc: Etc) -> None:
    settings = etc.write("").load()

    assert settings == Settings.model_validate({"node": {"name": "testhost"}})
    assert settings.oracle.url == "http://localhost:3100"


@pytest.mark.parametrize(
    ("host_name", "name"),
    [("node-7.example.org", "node-7.example.org"), ("x" * 60, "x" * 32), ("-ä-", "node"), ("", "node")],
)
def test_the_node_is_called_like_its_host_as_far_as_that_fits(etc: Etc, host_name: str, name: str) -> None:
    assert load(etc.write("").file, host_name=host_name).node.name == name


def test_values_arrive_in_the_types_of_the_settings(etc: Etc) -> None:
    settings = etc.write('[engine]\nblocks = "0:12"\n[chain]\nlow_balance_plm = 0.1\nmax_fee_gwei = 3\n').load()

    assert settings.engine.blocks == Span(0, 12)
    assert settings.chain.low_balance_wei == 10**17
    assert settings.chain.max_fee_wei == 3 * 10**9


def test_settings_cannot_be_changed(etc: Etc) -> None:
    settings = etc.write("").load()

    with pytest.raises(ValidationError):
        settings.engine.handlers = 2  # type: ignore[misc]  # that mypy objects too is the point


def test_files_in_other_directories_follow_the_directories(etc: Etc) -> None:
    settings = etc.write('[node]\nstate_dir = "/srv/a/"\nruntime_dir = "/run/a"\n').load()

    assert settings.node.control_socket == Path("/run/a/control.sock")
    assert settings.swarm.identity_file == Path("/srv/a/engine/identity.key")
    assert settings.wallet.keystore == Path("/srv/a/wallet/keystore.json")


def test_a_file_that_is_named_does_not_follow_its_directory(etc: Etc) -> None:
    settings = etc.write('[node]\nruntime_dir = "/run/a"\ncontrol_socket = "/run/b.sock"\n').load()

    assert settings.node.control_socket == Path("/run/b.sock")


def test_mainnet_knows_its_agent_registry_and_other_chains_have_none(etc: Etc) -> None:
    assert etc.write("").load().chain.agent_registry == "0xC9CF64344D22f02f6cDB8e7B5349f30E09F9043C"
    assert etc.write("[chain]\nchain_id = 419561\n").load().chain.agent_registry is None


def test_a_drop_in_wins_key_by_key(etc: Etc) -> None:
    etc.write("[engine]\nhandlers = 2\nthreads = 3\n").drop_in("10.toml", "[engine]\nhandlers = 5\n")

    engine = etc.load().engine

    assert (engine.handlers, engine.threads) == (5, 3)


def test_drop_ins_are_read_in_the_order_of_their_names(etc: Etc) -> None:
    etc.write("").drop_in("20.toml", "[engine]\nhandlers = 20\n")
    etc.drop_in("10.toml", "[engine]\nhandlers = 10\n")

    assert etc.load().engine.handlers == 20


def test_a_drop_in_replaces_an_array_as_a_whole(etc: Etc) -> None:
    etc.write('[chain]\nrpc_urls = ["http://a.example", "http://b.example"]\n')
    etc.drop_in("a.toml", '[chain]\nrpc_urls = ["http://c.example"]\n')

    assert etc.load().chain.rpc_urls == ("http://c.example",)


def test_only_toml_files_are_drop_ins(etc: Etc) -> None:
    etc.write("").drop_in("a.toml.dpkg-old", "not toml")
    etc.drop_in(".hidden.toml", "not toml")

    assert etc.load().engine.handlers == 4


def test_a_mistake_in_a_drop_in_is_blamed_on_the_drop_in(etc: Etc) -> None:
    drop_in = etc.write("[engine]\nhandlers = 3\n").drop_in("a.toml", "\n[engine]\nhandlers = 99\n")

    assert (etc.problem().file, etc.problem().line) == (drop_in, 3)


def test_keys_that_exclude_each_other_are_found_across_files(etc: Etc) -> None:
    drop_in = etc.write('[engine]\nblocks = "0:2"\n').drop_in("a.toml", "[engine]\nnum_blocks = 3\n")

    problem = etc.problem()

    assert (problem.file, problem.line, problem.key) == (drop_in, 2, "engine.num_blocks")
    assert problem.problem == f"excludes engine.blocks, which is set at {etc.file}:2"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[engine]\nblocks = "0:2"\nnum_blocks = 3\n', "engine.num_blocks"),
        (
            f'[swarm]\nnew_swarm = true\ninitial_peers = ["{PEER}"]\n',
            "swarm.initial_peers",
        ),
        ('[wallet]\npassword_file = "/a"\npassword_credential = "b"\n', "wallet.password_credential"),
    ],
)
def test_the_later_of_two_keys_that_exclude_each_other_is_blamed(etc: Etc, text: str, key: str) -> None:
    problem = etc.write(text).problem()

    assert problem.key == key
    assert "which is set at line 2" in problem.problem


def test_keys_that_exclude_each_other_are_told_beside_other_mistakes_of_their_table(etc: Etc) -> None:
    problems = etc.write('[engine]\nblocks = "3:2"\nnum_blocks = 3\nhandlers = 0\n').problems()

    assert [problem.key for problem in problems] == ["engine.blocks", "engine.num_blocks", "engine.handlers"]


def test_a_new_swarm_that_is_declined_excludes_nothing(etc: Etc) -> None:
    settings = etc.write(f'[swarm]\nnew_swarm = false\ninitial_peers = ["{PEER}"]\n').load()

    assert settings.swarm.initial_peers == (PEER,)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(etc: Etc) -> None:
    problems = etc.write(
        '[engine]\nhandlers = "four"\nmodle = "x"\nblocks = "5:5"\n[oracle]\nurl = "nowhere"\n'
        "[chain]\nheartbeat_interval_s = 300\n[engin]\n"
    ).problems()

    assert [(problem.line, problem.key) for problem in problems] == [
        (2, "engine.handlers"),
        (3, "engine.modle"),
        (4, "engine.blocks"),
        (6, "oracle.url"),
        (8, "chain.heartbeat_interval_s"),
        (9, "engin"),
    ]


def test_the_line_is_where_a_statement_of_several_lines_begins(etc: Etc) -> None:
    text = (
        '[chain] # about\n\nrpc_urls = [\n  "http://a.example", # [engine]\n\n  "ftp://b.example",\n]\nchain_id = 0\n'
    )

    assert [problem.line for problem in etc.write(text).problems()] == [3, 8]


def test_the_line_is_found_for_dotted_keys_and_inline_tables(etc: Etc) -> None:
    text = "engine.handlers = 0\nlog = { level = 3 }\n[chain]\nchain_id = 0\n"

    assert [(p.line, p.key) for p in etc.write(text).problems()] == [
        (1, "engine.handlers"),
        (2, "log.level"),
        (4, "chain.chain_id"),
    ]


def test_an_error_is_the_operators_to_mend(etc: Etc) -> None:
    with pytest.raises(ConfigError) as caught:
        etc.write("[engine]\nhandlers = 0\nthreads = 0\n").load()

    assert str(caught.value) == (
        f"{etc.file}:2: engine.handlers is 0, which is out of range (and 1 more) (configuration). "
        "Write a number from 1 to 32."
    )
    assert EXIT_CONFIG == 78


def test_a_missing_file_is_told(etc: Etc) -> None:
    problem = etc.problem()

    assert (problem.file, problem.line, problem.problem) == (etc.file, None, "does not exist")


def test_a_directory_is_told(etc: Etc) -> None:
    etc.file.mkdir()

    assert etc.problem().problem == "cannot be read: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_told(etc: Etc) -> None:
    etc.write("").file.chmod(0)

    assert etc.problem().problem == "cannot be read by this user"


def test_a_file_that_is_not_utf_8_is_told_with_its_line(etc: Etc) -> None:
    problem = etc.write(b'[node]\nname = "n\xe4me"\n').problem()

    assert (problem.line, problem.problem) == (2, "is not UTF-8: byte 16 cannot be decoded")


def test_invalid_toml_is_told_with_line_and_column(etc: Etc) -> None:
    problem = etc.write("[engine]\nhandlers = four\n").problem()

    assert problem.line == 2
    assert problem.problem == "is not valid TOML at line 2, column 12: invalid value"


def test_a_key_that_is_set_twice_is_told(etc: Etc) -> None:
    assert "cannot overwrite a value" in etc.write("[engine]\nhandlers = 1\nhandlers = 2\n").problem().problem


def test_a_broken_drop_in_does_not_hide_the_mistakes_of_the_others(etc: Etc) -> None:
    broken = etc.write("[engine]\nhandlers = 0\n").drop_in("a.toml", "=")

    assert [problem.file for problem in etc.problems()] == [etc.file, broken]


def test_a_file_of_any_size_is_not_read(etc: Etc) -> None:
    assert etc.write(b"#" * (1 << 21)).problem().problem == "is larger than 1048576 bytes"


def test_windows_line_ends_are_read(etc: Etc) -> None:
    assert etc.write("[engine]\r\nhandlers = 3\r\n").load().engine.handlers == 3
