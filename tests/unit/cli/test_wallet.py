from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from plumised.chain.lock import WalletLock
from plumised.chain.password import Password
from plumised.chain.wallet import import_key, open_wallet
from plumised.cli import main

ROOT = Path(__file__).parents[3]
KEY = "46" * 32
AGENT = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"
PATIENCE_S = 120


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    return tmp_path / "wallet/keystore.json"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    return secret(tmp_path / "password", "correct horse\n")


def secret(path: Path, content: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(content, encoding="utf-8")
    return path


def at_a_terminal(arguments: list[str], *typed: str) -> tuple[int, str]:
    """The exit status, and what a terminal shows, when a person answers each prompt as it comes."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "plumised", *arguments])  # noqa: S606 - no shell is wanted
    shown = b""
    answers = list(typed)
    while True:
        try:
            read = os.read(terminal, 4096)
        except OSError:  # Linux ends a terminal that nobody holds any more with EIO.
            break
        if not read:
            break
        shown += read
        if answers and shown.endswith(b": "):
            os.write(terminal, f"{answers.pop(0)}\n".encode())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_a_key_is_imported_from_a_file(
    tmp_path: Path, keystore: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file = secret(tmp_path / "key", f"0x{KEY}\n")

    done = main(
        [
            *("wallet", "import", "--keystore", str(keystore)),
            *("--key-file", str(key_file), "--password-file", str(password_file)),
        ]
    )

    assert (done, capsys.readouterr().out) == (0, f"{AGENT}\n")
    assert open_wallet(keystore, Password("correct horse")).address == AGENT
    assert main(["wallet", "address", "--keystore", str(keystore)]) == 0
    assert capsys.readouterr().out == f"{AGENT}\n"


def test_a_keystore_is_made_where_the_configuration_says(
    tmp_path: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\nstate_dir = "{tmp_path}"\n', encoding="utf-8")

    assert main(["wallet", "create", "--config", str(config), "--password-file", str(password_file)]) == 0

    address = capsys.readouterr().out.strip()
    assert open_wallet(tmp_path / "wallet/keystore.json", Password("correct horse")).address == address


def test_passwords_and_keys_are_asked_for_and_not_shown(keystore: Path) -> None:
    status, shown = at_a_terminal(
        ["wallet", "import", "--keystore", str(keystore)], KEY, "correct horse", "correct horse"
    )

    assert status == 0
    assert AGENT in shown
    assert KEY not in shown
    assert "horse" not in shown
    assert open_wallet(keystore, Password("correct horse")).address == AGENT


def test_passwords_that_differ_make_nothing(keystore: Path) -> None:
    status, shown = at_a_terminal(["wallet", "create", "--keystore", str(keystore)], "correct horse", "correct house")

    assert status == 65
    assert "plumised: The two passwords differ (prompt). Try again." in shown
    assert not keystore.exists()


def test_without_a_terminal_a_file_is_asked_for(keystore: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "plumised", "wallet", "create", "--keystore", keystore],
        cwd=ROOT,
        input=b"correct horse\ncorrect horse\n",
        capture_output=True,
        start_new_session=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert done.returncode == 65
    assert b"there is no terminal (prompt). Run this at a terminal, or name a file instead." in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_keystore_is_never_overwritten(
    keystore: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keystore.parent.mkdir(mode=0o700)
    secret(keystore, json.dumps({"precious": True}))

    assert main(["wallet", "create", "--keystore", str(keystore), "--password-file", str(password_file)]) == 78

    assert "(secret-file-exists)" in capsys.readouterr().err
    assert json.loads(keystore.read_text(encoding="utf-8")) == {"precious": True}


def test_a_keystore_that_is_missing_is_one_line_and_78(keystore: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wallet", "address", "--keystore", str(keystore)]) == 78

    err = capsys.readouterr().err
    assert err.startswith("plumised: There is no keystore at")
    assert len(err.splitlines()) == 1


@pytest.fixture
def made(keystore: Path) -> Path:
    import_key(keystore, KEY, Password("correct horse"), scrypt_n=2)
    return keystore


def test_a_password_is_changed_at_a_terminal_and_not_shown(made: Path) -> None:
    status, shown = at_a_terminal(
        ["wallet", "change-password", "--keystore", str(made)], "correct horse", "battery staple", "battery staple"
    )

    assert status == 0
    assert AGENT in shown
    assert "horse" not in shown
    assert "staple" not in shown
    assert open_wallet(made, Password("battery staple")).address == AGENT


def test_a_password_is_changed_from_files(tmp_path: Path, made: Path, password_file: Path) -> None:
    fresh = secret(tmp_path / "new", "battery staple\n")

    done = main(
        [
            *("wallet", "change-password", "--keystore", str(made)),
            *("--password-file", str(password_file), "--new-password-file", str(fresh)),
        ]
    )

    assert done == 0
    assert open_wallet(made, Password("battery staple")).address == AGENT


def test_a_wallet_in_use_keeps_its_password(
    made: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with WalletLock(made):
        done = main(
            [
                *("wallet", "change-password", "--keystore", str(made)),
                *("--password-file", str(password_file), "--new-password-file", str(password_file)),
            ]
        )

    assert done == 78
    assert f"is in use by process {os.getpid()}" in capsys.readouterr().err


def test_the_key_is_shown_at_a_terminal_to_who_asks_for_it_twice(made: Path) -> None:
    status, shown = at_a_terminal(["wallet", "export", "--keystore", str(made)], "correct horse", "yes")

    assert status == 0
    assert f"0x{KEY}" in shown
    assert "horse" not in shown


def test_the_key_is_not_shown_to_who_hesitates(made: Path) -> None:
    status, shown = at_a_terminal(["wallet", "export", "--keystore", str(made)], "correct horse", "y")

    assert status == 65
    assert KEY not in shown


def test_the_key_never_goes_into_a_pipe(made: Path, password_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = main(["wallet", "export", "--keystore", str(made), "--password-file", str(password_file)])

    out = capsys.readouterr()
    assert done == 65
    assert KEY not in out.out + out.err
    assert "--output" in out.err


def test_the_key_is_written_into_a_private_file_that_did_not_exist(
    tmp_path: Path, made: Path, password_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "key"
    arguments = ["wallet", "export", "--keystore", str(made), "--password-file", str(password_file)]

    assert main([*arguments, "--output", str(output)]) == 0
    assert output.read_text(encoding="utf-8") == f"0x{KEY}\n"
    assert output.stat().st_mode & 0o777 == 0o600
    assert KEY not in capsys.readouterr().out
    assert main([*arguments, "--output", str(output)]) == 78


@pytest.mark.parametrize("action", ["change-password", "export"])
def test_no_password_can_be_given_as_an_argument(action: str, made: Path) -> None:
    assert main(["wallet", action, "--keystore", str(made), "--password", "x"]) == 64


@pytest.mark.parametrize("option", ["--password", "--key", "--private-key"])
def test_no_secret_can_be_given_as_an_argument(option: str, keystore: Path) -> None:
    assert main(["wallet", "import", "--keystore", str(keystore), option, "x"]) == 64
