from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from plumised.chain.lock import WalletInUseError, WalletLock
from plumised.chain.secret_files import SecretFileError

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from plumised.chain.lock import WalletLock
with WalletLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_user_of_a_wallet_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    since = datetime(2026, 2, 2, 3, 4, 5, tzinfo=UTC)
    with (
        WalletLock(tmp_path / "keystore.json", since),
        pytest.raises(WalletInUseError, match=rf"process {os.getpid()} on \S+ since 2026-02-02T03:04:05\+00:00"),
        WalletLock(tmp_path / "keystore.json"),
    ):
        pass


def test_wallet_is_free_after_its_user_left(tmp_path: Path) -> None:
    with WalletLock(tmp_path / "keystore.json"):
        pass
    with WalletLock(tmp_path / "keystore.json"):
        pass


def test_different_wallets_do_not_hinder_each_other(tmp_path: Path) -> None:
    with WalletLock(tmp_path / "a.json"), WalletLock(tmp_path / "b.json"):
        pass


def test_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    keystore = tmp_path / "keystore.json"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(keystore)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WalletInUseError, match=f"process {holder.pid} "), WalletLock(keystore):
            pass
        holder.kill()

    with WalletLock(keystore):
        pass


def test_refused_user_does_not_erase_the_holders_name(tmp_path: Path) -> None:
    keystore = tmp_path / "keystore.json"
    with WalletLock(keystore):
        for _ in range(2):
            with pytest.raises(WalletInUseError, match=f"process {os.getpid()} "), WalletLock(keystore):
                pass


def test_unusable_place_for_the_lock_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SecretFileError, match="cannot be created"), WalletLock(tmp_path / "no" / "such" / "k.json"):
        pass
