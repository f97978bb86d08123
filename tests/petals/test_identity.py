"""The identity that the engine makes is one that hivemind and p2pd read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hivemind.p2p import P2P, PeerID
from hivemind.proto import crypto_pb2

from plumised.petals.identity import make_identity

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    file = tmp_path / "identity.key"
    make_identity(str(file))
    return file


def test_it_has_the_form_that_hivemind_gives_one(made: Path, tmp_path: Path) -> None:
    upstreams = tmp_path / "upstream.key"
    P2P.generate_identity(str(upstreams))
    forms = []
    for file in (made, upstreams):
        message = crypto_pb2.PrivateKey.FromString(file.read_bytes())
        key = load_der_private_key(message.data, password=None)
        assert isinstance(key, RSAPrivateKey)
        forms.append((message.key_type, key.key_size, file.stat().st_mode))
        assert message.SerializeToString() == file.read_bytes()
    assert forms[0] == forms[1]


def test_each_is_another_peer(made: Path, tmp_path: Path) -> None:
    make_identity(str(tmp_path / "other.key"))
    peers = {PeerID.from_identity(file.read_bytes()).to_base58() for file in (made, tmp_path / "other.key")}
    assert len(peers) == 2


def test_one_that_is_there_stays(made: Path) -> None:
    before = made.read_bytes()
    make_identity(str(made))
    assert made.read_bytes() == before


def test_a_link_is_left_to_those_who_made_it(tmp_path: Path) -> None:
    link = tmp_path / "identity.key"
    link.symlink_to(tmp_path / "elsewhere.key")
    make_identity(str(link))
    assert link.is_symlink()
    assert not (tmp_path / "elsewhere.key").exists()


def test_a_draft_of_a_start_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    draft = tmp_path / "identity.key.new"
    draft.write_bytes(b"half a k")
    draft.chmod(0o400)
    make_identity(str(tmp_path / "identity.key"))
    assert PeerID.from_identity((tmp_path / "identity.key").read_bytes())
    assert not draft.exists()


def test_without_its_directory_it_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        make_identity(str(tmp_path / "missing" / "identity.key"))
