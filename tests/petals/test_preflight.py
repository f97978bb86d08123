"""What is refused before the swarm is joined, and with which remedy."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hivemind.p2p import P2P
from hypothesis import given
from hypothesis import strategies as st

from plumised.ipc.job import EngineJob
from plumised.petals.failures import EngineError
from plumised.petals.preflight import check_identity, check_prefix, check_span

if TYPE_CHECKING:
    from pathlib import Path

JOB = EngineJob("life-1", "/s", "/t", "/r", "/c", "/models/tiny", "/i")


@given(st.integers(1, 200), st.data())
def test_a_span_inside_of_the_model_passes(blocks: int, data: st.DataObject) -> None:
    last = data.draw(st.integers(1, blocks))
    check_span(replace(JOB, first_block=data.draw(st.integers(0, last - 1)), last_block=last), blocks)


@given(st.integers(1, 200), st.integers(1, 200))
def test_a_span_beyond_the_model_is_refused_with_the_one_that_would_be_right(blocks: int, beyond: int) -> None:
    with pytest.raises(EngineError) as raised:
        check_span(replace(JOB, first_block=0, last_block=blocks + beyond), blocks)
    failure = raised.value.failure
    assert (failure.code, failure.permanent) == ("span-outside-model", True)
    assert f"0:{blocks + beyond}" in failure.message
    assert f"0:{blocks}" in failure.remedy


def test_no_span_passes() -> None:
    check_span(JOB, 1)


@pytest.mark.parametrize(
    ("prefix", "derived", "code"),
    [(None, None, "prefix-missing"), ("a.b", "derived", "prefix-unusable"), ("a b", None, "prefix-unusable")],
)
def test_a_prefix_that_is_missing_or_unusable_is_refused(prefix: str | None, derived: str | None, code: str) -> None:
    with pytest.raises(EngineError) as raised:
        check_prefix(replace(JOB, prefix=prefix), derived)
    assert (raised.value.failure.code, raised.value.failure.permanent) == (code, True)
    assert "[swarm] prefix" in raised.value.failure.remedy


@pytest.mark.parametrize(("prefix", "derived"), [("tiny-hf", None), (None, "tiny-hf"), ("tiny-hf", "a.b")])
def test_a_prefix_is_taken_from_the_settings_or_from_the_model_s_name(prefix: str | None, derived: str | None) -> None:
    check_prefix(replace(JOB, prefix=prefix), derived)


def test_an_identity_that_is_there_or_can_be_made_passes(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    check_identity(replace(JOB, identity_file=str(path)))
    P2P.generate_identity(str(path))
    check_identity(replace(JOB, identity_file=str(path)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"-----BEGIN PRIVATE KEY-----\n", "holds no private key"),
        (bytes(range(256)) * 3, "holds no private key"),
    ],
    ids=["empty", "text", "noise"],
)
def test_an_identity_that_is_no_key_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "identity.key"
    path.write_bytes(content)
    assert_identity_refused(path, problem)


def test_an_identity_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    P2P.generate_identity(str(path))
    os.truncate(path, 300)
    assert_identity_refused(path, "holds no private key")


def test_a_directory_in_the_identity_s_place_is_refused(tmp_path: Path) -> None:
    assert_identity_refused(tmp_path, "is not a readable file")


def test_an_identity_in_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert_identity_refused(tmp_path / "missing" / "identity.key", "its directory does not exist")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
def test_an_identity_that_may_not_be_read_or_made_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    P2P.generate_identity(str(path))
    path.chmod(0)
    assert_identity_refused(path, "is not a readable file")
    tmp_path.chmod(0o500)
    assert_identity_refused(tmp_path / "other.key", "its directory is not writable")


def assert_identity_refused(path: Path, problem: str) -> None:
    with pytest.raises(EngineError) as raised:
        check_identity(replace(JOB, identity_file=str(path)))
    failure = raised.value.failure
    assert (failure.code, failure.permanent) == ("identity-unreadable", True)
    assert str(path) in failure.message
    assert problem in failure.message
