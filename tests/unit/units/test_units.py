from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from plumised.config import Settings
from plumised.daemon.node import AFTER_ENGINE_S, FINAL_REPORT_S
from plumised.engine.life import LAST_WORDS_S
from plumised.engine.policy import EnginePolicy
from plumised.errors import EXIT_CONFIG
from plumised.observe import control, metrics_server

SYSTEMD = Path(__file__).parents[3] / "systemd"
UNITS = ("plumised.service", "plumised@.service")
EXAMPLES = sorted((SYSTEMD / "examples").glob("*.conf"))
PATIENCE_S = 120
MOST_EXPOSURE = 2.0

DEFAULTS = Settings.model_validate({"node": {"name": "testhost"}})


def directives(file: Path) -> list[tuple[str, str]]:
    """The unit's assignments in their order, those of one name as often as they are made."""
    text = file.read_text(encoding="utf-8").replace("\\\n", "")
    return [(name, value) for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)]


def value(unit: str, name: str) -> str:
    (only,) = [value for key, value in directives(SYSTEMD / unit) if key == name]
    return only


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/usr/bin/systemd-analyze", *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_unit_is_exposed_by_two_at_most(unit: str) -> None:
    threshold = f"--threshold={MOST_EXPOSURE * 10:.0f}"

    done = analyze("security", "--offline=true", threshold, SYSTEMD / unit)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("drop_in", [None, *EXAMPLES], ids=lambda file: file.name if file else "plain")
def test_systemd_finds_nothing_wrong(unit: str, drop_in: Path | None, tmp_path: Path) -> None:
    # The package's program is not here, and a program that is missing is all that verify may complain about.
    text = (SYSTEMD / unit).read_text(encoding="utf-8").replace("/usr/bin/plumised", "/bin/true")
    named = tmp_path / unit.replace("@.", "@gpu0.")
    named.write_text(text, encoding="utf-8")
    if drop_in is not None:
        beside = tmp_path / f"{named.name}.d" / drop_in.name
        beside.parent.mkdir()
        beside.write_bytes(drop_in.read_bytes())

    done = analyze("verify", "--man=no", named)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_template_is_the_plain_unit_with_names_of_its_own() -> None:
    named = [(name, re.sub(r"/etc/plumise/%i\.", "/etc/plumise/node.", text)) for name, text in template()]

    assert named == directives(SYSTEMD / "plumised.service")


def template() -> list[tuple[str, str]]:
    """The template's assignments without the instance, but for the files in /etc/plumise."""
    return [
        (name, text.replace(" --instance %i", "").replace("plumise-%i", "plumise").removesuffix(" %i"))
        for name, text in directives(SYSTEMD / "plumised@.service")
    ]


def test_a_stop_has_the_time_that_the_daemon_takes_at_most(unit: str) -> None:
    after_engine = (
        EnginePolicy().kill_timeout_s
        + LAST_WORDS_S
        + FINAL_REPORT_S
        + control.CLOSE_TIMEOUT_S
        + metrics_server.CLOSE_TIMEOUT_S
    )

    assert after_engine + 5 <= AFTER_ENGINE_S
    assert seconds(value(unit, "TimeoutStopSec")) == DEFAULTS.engine.stop_timeout_s + AFTER_ENGINE_S


def test_what_the_operator_must_mend_is_not_tried_again(unit: str) -> None:
    assert value(unit, "RestartPreventExitStatus") == str(EXIT_CONFIG)


def test_the_directories_are_the_defaults() -> None:
    unit = "plumised.service"

    assert Path("/var/lib") / value(unit, "StateDirectory") == DEFAULTS.node.state_dir
    assert Path("/var/cache") / value(unit, "CacheDirectory") == DEFAULTS.node.cache_dir
    assert Path("/run") / value(unit, "RuntimeDirectory") == DEFAULTS.node.runtime_dir


@pytest.mark.parametrize("file", [*(SYSTEMD / name for name in UNITS), *EXAMPLES], ids=lambda file: file.name)
def test_a_unit_opens_with_why_it_exists(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")
