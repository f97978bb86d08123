"""A reload applies all or nothing, one at a time, whatever becomes of who asked for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from plumised.config import Changes, ConfigError, ConfigProblem, Origin, Settings
from plumised.config.layout import Layout
from plumised.daemon.reloading import ReloadBusyError, Reloading, RestartNeededError
from plumised.observe.reloaded import Reloaded

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 10.0


class Goer:
    """What goes by a configuration, as slowly as a test wants."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.found: list[ConfigProblem] = []
        self.checking = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def check(self, _new: Settings, _found: Changes) -> tuple[ConfigProblem, ...]:
        self.checking.set()
        await self.may_go_on.wait()
        return tuple(self.found)

    async def apply(self, new: Settings, _found: Changes) -> None:
        self.settings = new


class Site:
    def __init__(self, directory: Path) -> None:
        self.origin = Origin(directory / "node.toml", "host")
        self.write("")
        self.goer = Goer(self.origin.read())
        self.reloading = Reloading(self.origin, self.goer)

    def write(self, text: str) -> None:
        self.origin.file.write_text(text)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_an_unchanged_file_is_not_even_checked(site: Site) -> None:
    assert await site.reloading.run() == Reloaded()
    assert not site.goer.checking.is_set()


async def test_a_good_change_is_applied_and_told(site: Site) -> None:
    site.write("oracle.interval_s = 20\nengine.handlers = 2\n")
    assert await site.reloading.run() == Reloaded(("oracle.interval_s",), ("engine.handlers",))
    assert site.goer.settings == site.origin.read()


async def test_a_file_with_a_mistake_is_not_applied(site: Site) -> None:
    before = site.goer.settings
    site.write("oracle.interval_s = 20\nengine.handlers = 0\n")
    with pytest.raises(ConfigError):
        await site.reloading.run()
    assert site.goer.settings is before


async def test_what_the_checks_find_keeps_everything_as_it_was(site: Site) -> None:
    before = site.goer.settings
    site.goer.found = [ConfigProblem(site.origin.file, None, "engine.python", "is not there", "Install it.")]
    site.write('engine.python = "/nowhere"\n')
    with pytest.raises(ConfigError) as caught:
        await site.reloading.run()
    assert list(caught.value.problems) == site.goer.found
    assert site.goer.settings is before


async def test_one_key_that_needs_another_start_holds_all_back(site: Site) -> None:
    before = site.goer.settings
    site.write('oracle.interval_s = 20\nmetrics.listen = "off"\n')
    with pytest.raises(RestartNeededError, match=r"metrics\.listen changed"):
        await site.reloading.run()
    assert site.goer.settings is before


async def test_an_instance_is_told_the_name_of_its_unit(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "gpu1.toml", "host", Layout("gpu1"))
    origin.file.write_text("")
    reloading = Reloading(origin, Goer(origin.read()))
    origin.file.write_text('metrics.listen = "off"\n')
    with pytest.raises(RestartNeededError) as caught:
        await reloading.run()
    assert "systemctl restart plumised@gpu1," in caught.value.remedy


async def test_a_need_of_another_start_is_told_beside_what_is_wrong(site: Site) -> None:
    site.goer.found = [ConfigProblem(site.origin.file, None, None, "is wrong", "Mend it.")]
    site.write('metrics.listen = "off"\n')
    with pytest.raises(ConfigError) as caught:
        await site.reloading.run()
    wrong, restart = map(str, caught.value.problems)
    assert "is wrong. Mend it." in wrong
    assert "metrics.listen changed. Restart it with systemctl restart plumised" in restart


async def test_one_may_wait_and_reads_what_the_file_says_then_and_a_third_is_refused(site: Site) -> None:
    site.goer.may_go_on.clear()
    site.write("oracle.interval_s = 20\n")
    first = asyncio.create_task(site.reloading.run())
    async with asyncio.timeout(PATIENCE_S):
        await site.goer.checking.wait()
    second = asyncio.create_task(site.reloading.run())
    await asyncio.sleep(0)
    with pytest.raises(ReloadBusyError):
        await site.reloading.run()

    site.write("oracle.interval_s = 30\n")
    site.goer.may_go_on.set()
    async with asyncio.timeout(PATIENCE_S):
        assert (await first, await second) == (Reloaded(("oracle.interval_s",)), Reloaded(("oracle.interval_s",)))
    assert site.goer.settings.oracle.interval_s == 30


async def test_who_goes_away_blocks_nobody(site: Site) -> None:
    site.goer.may_go_on.clear()
    site.write("oracle.interval_s = 20\n")
    first = asyncio.create_task(site.reloading.run())
    async with asyncio.timeout(PATIENCE_S):
        await site.goer.checking.wait()
    second = asyncio.create_task(site.reloading.run())
    await asyncio.sleep(0)
    for task in (second, first):
        task.cancel()
    await asyncio.wait([first, second])

    site.goer.may_go_on.set()
    assert await site.reloading.run() == Reloaded(("oracle.interval_s",))
