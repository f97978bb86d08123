from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from plumised.cli import main
from plumised.cli.config_file import ConfigChoice, add_config_arguments, choice
from plumised.cli.main import VERBS, parser
from plumised.config.layout import PLAIN, Layout


def chosen(*arguments: str) -> ConfigChoice:
    taking = ArgumentParser()
    add_config_arguments(taking)
    return choice(taking.parse_args(arguments))


def test_without_a_word_it_is_the_only_node_of_the_machine() -> None:
    assert chosen() == ConfigChoice(Path("/etc/plumise/node.toml"), PLAIN, packaged=True)


def test_an_instance_has_its_file() -> None:
    assert chosen("--instance", "gpu0") == ConfigChoice(Path("/etc/plumise/gpu0.toml"), Layout("gpu0"), packaged=True)


def test_a_file_of_ones_own_is_no_part_of_the_package() -> None:
    assert chosen("--config", "/srv/x.toml") == ConfigChoice(Path("/srv/x.toml"), PLAIN, packaged=False)


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS if verb.name not in {"version", "wallet"}])
def test_every_verb_that_takes_a_configuration_takes_an_instance(verb: str) -> None:
    required = {"wait": ["--for", "serving"]}.get(verb, [])

    arguments = parser().parse_args([verb, *required, "--instance", "gpu0"])

    assert choice(arguments).file == Path("/etc/plumise/gpu0.toml")


@pytest.mark.parametrize("action", ["create", "import", "address", "change-password", "export"])
def test_every_action_on_the_wallet_takes_an_instance(action: str) -> None:
    arguments = parser().parse_args(["wallet", action, "--instance", "gpu0"])

    assert choice(arguments).file == Path("/etc/plumise/gpu0.toml")


def test_a_file_and_an_instance_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config", "/srv/x.toml", "--instance", "gpu0"]) == 64
    assert "not allowed with" in capsys.readouterr().err


def test_a_bad_name_is_told_with_what_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--instance", "a/b"]) == 64

    err = capsys.readouterr().err
    assert 'the name is "a/b", which cannot be an instance\'s name. Write 1 to 32 letters' in err


def test_a_daemon_of_an_instance_without_a_file_is_looked_for_where_it_would_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["status", "--instance", "no-such-instance"]) == 69
    assert "/run/plumise-no-such-instance/control.sock" in capsys.readouterr().err
