"""What is asked of Landlock, by the kernel's ABI."""

from __future__ import annotations

import pytest

from plumised.petals.sandbox import landlock
from plumised.petals.sandbox.landlock import NEWEST_ABI, Handled, Use, handled, rights


@pytest.mark.parametrize(
    ("abi", "files", "scoped"),
    [(1, 13, False), (2, 14, False), (3, 15, False), (4, 15, False), (5, 16, False), (6, 16, True), (9, 16, True)],
)
def test_each_abi_restricts_all_that_it_knows(abi: int, files: int, scoped: bool) -> None:
    assert handled(abi) == Handled(2**files - 1, 3 if scoped else 0)


@pytest.mark.parametrize("abi", range(1, NEWEST_ABI + 1))
@pytest.mark.parametrize("use", Use)
def test_no_rule_gives_what_the_ruleset_is_not_about_or_what_a_file_cannot_have(abi: int, use: Use) -> None:
    what = handled(abi)
    on_file = rights(use, what, directory=False)
    assert rights(use, what, directory=True) & ~what.files == 0
    assert on_file & ~rights(use, what, directory=True) == 0
    assert on_file & (landlock.READ_DIR | landlock.MAKE_REG | landlock.REMOVE_FILE | landlock.REFER) == 0


def test_what_can_be_written_cannot_be_run() -> None:
    for use in Use:
        assert not (use.value & landlock.EXECUTE and use.value & (landlock.WRITE_FILE | landlock.MAKE_REG))


def test_nothing_gives_devices_to_those_who_make_files() -> None:
    assert all(not use.value & (landlock.MAKE_CHAR | landlock.MAKE_BLOCK) for use in Use)


def test_only_what_is_kept_can_be_made_removed_or_cut() -> None:
    changing = landlock.MAKE_REG | landlock.REMOVE_FILE | landlock.TRUNCATE | landlock.MAKE_SYM | landlock.REFER
    assert [use for use in Use if use.value & changing] == [Use.KEEP]
