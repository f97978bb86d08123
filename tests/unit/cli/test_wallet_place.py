from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from plumised.chain.secret_files import SecretFileError, SecretFileExistsError
from plumised.cli import config_file
from plumised.cli.config_file import ConfigChoice, add_config_arguments
from plumised.cli.wallet_place import WalletPlace, wallet_place
from plumised.config import layout
from plumised.config.layout import PLAIN


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /etc/plumise."""
    monkeypatch.setattr(layout, "_CONFIG_DIR", tmp_path)
    return tmp_path


def place(*arguments: str, root: bool) -> WalletPlace:
    taking = argparse.ArgumentParser()
    taking.add_argument("--keystore", type=Path)
    add_config_arguments(taking)
    return wallet_place(taking.parse_args(arguments), "testhost", root=root)


@pytest.mark.parametrize(
    ("arguments", "file", "directory", "unit"),
    [
        ((), "node", "/var/lib/plumise", "plumised.service"),
        (("--instance", "gpu0"), "gpu0", "/var/lib/plumise-gpu0", "plumised@gpu0.service"),
    ],
)
def test_root_fills_the_services_directories(
    etc: Path, arguments: tuple[str, ...], file: str, directory: str, unit: str
) -> None:
    (etc / f"{file}.toml").touch()

    found = place(*arguments, root=True)

    assert found.keystore == Path(directory) / "wallet/keystore.json"
    assert (found.unit, found.state_dir) == (unit, Path(directory))
    assert found.deposit is not None
    assert found.stored is found.deposit
    assert found.deposit.path == etc / f"{file}.password"


def test_nobody_else_does(etc: Path) -> None:
    (etc / "node.toml").touch()

    found = place(root=False)

    assert (found.unit, found.state_dir, found.stored) == ("plumised.service", None, None)


@pytest.mark.parametrize(
    "text",
    ['[wallet]\npassword_file = "/srv/password"\n', '[wallet]\npassword_credential = "of-my-own"\n'],
)
def test_who_has_a_place_for_the_password_keeps_it(etc: Path, text: str) -> None:
    (etc / "node.toml").write_text(text, encoding="utf-8")

    assert place(root=True).deposit is None


def test_a_password_file_follows_its_keystore(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[wallet]\npassword_file = "/srv/password"\n', encoding="utf-8")

    found = place("--config", str(file), root=True)

    assert found.stored is not None
    assert found.stored.path == Path("/srv/password")


def test_a_configuration_of_ones_own_is_no_service_of_the_package(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.touch()

    found = place("--config", str(file), root=True)

    assert (found.unit, found.state_dir, found.stored) == (None, None, None)


def test_a_keystore_that_is_named_is_nobody_elses_business(tmp_path: Path) -> None:
    assert place("--keystore", str(tmp_path / "k"), root=True) == WalletPlace(tmp_path / "k")


def test_the_state_directory_is_not_made_for_a_keystore_elsewhere(etc: Path) -> None:
    (etc / "node.toml").write_text('[wallet]\nkeystore = "/srv/keystore.json"\n', encoding="utf-8")

    assert place(root=True).state_dir is None


def test_a_missing_directory_needs_the_services_user(tmp_path: Path) -> None:
    state = tmp_path / "state"
    if "plumise" in Path("/etc/passwd").read_text(encoding="utf-8"):
        pytest.skip("this machine has the user plumise")

    with pytest.raises(SecretFileError, match="there is none"):
        WalletPlace(state / "keystore.json", state_dir=state).make_room()

    assert not state.exists()


def test_a_directory_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    before = tmp_path.stat()

    WalletPlace(tmp_path / "keystore.json", state_dir=tmp_path).make_room()

    assert tmp_path.stat() == before


def test_a_keystore_that_is_there_is_told_before_anything_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "keystore.json").touch()

    with pytest.raises(SecretFileExistsError):
        WalletPlace(tmp_path / "keystore.json").make_room()


def test_the_choice_names_the_layouts_file_whichever_way_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    taking = argparse.ArgumentParser()
    add_config_arguments(taking)
    monkeypatch.chdir("/")
    arguments = taking.parse_args(["--config", "etc/plumise/node.toml"])

    assert config_file.choice(arguments) == ConfigChoice(Path("etc/plumise/node.toml"), PLAIN, packaged=True)
