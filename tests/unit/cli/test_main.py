from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plumised import __version__
from plumised.cli import main
from plumised.cli.exits import exit_status, expected
from plumised.errors import OperatorError, PlumisedError

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60

FIVE_MISTAKES = """\
[engine]
handlers = "four"
modle = "x"
blocks = "12:3"
[oracle]
url = "nowhere"
[chain]
heartbeat_interval_s = 300
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def test_the_shipped_configuration_is_good(capsys: pytest.CaptureFixture[str]) -> None:
    shipped = ROOT / "etc/plumise/node.toml"

    assert main(["check-config", str(shipped)]) == 0
    assert capsys.readouterr().out == f"{shipped}: good\n"


def test_five_mistakes_are_five_lines_and_78(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(FIVE_MISTAKES, encoding="utf-8")

    assert main(["check-config", str(config)]) == 78

    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 5
    assert lines[0] == (
        f'plumised: {config}:2: engine.handlers is the string "four", not a whole number. '
        "Write the number without quotes and without a fraction."
    )


def test_mistakes_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(FIVE_MISTAKES, encoding="utf-8")

    assert main(["check-config", "--json", str(config)]) == 78

    out, err = capsys.readouterr()
    assert err == ""
    assert [set(problem) for problem in json.loads(out)] == [{"file", "line", "key", "problem", "remedy"}] * 5
    assert json.loads(out)[2] == {
        "file": str(config),
        "line": 4,
        "key": "engine.blocks",
        "problem": 'is "12:3", a span that holds no block',
        "remedy": "Write a second number, the block after the last, that is greater than the first.",
    }


def test_no_mistakes_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("", encoding="utf-8")

    assert main(["check-config", "--json", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_missing_file_is_one_line_and_78(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(config)]) == 78
    assert capsys.readouterr().err == (
        f"plumised: {config}: does not exist. Create it, or name the right file with --config.\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["status", "--fly"], ["wait"], ["wait", "--for", "rain"], ["wait", "--for=serving", "--timeout=-1"]],
)
def test_a_command_line_that_makes_no_sense_is_one_line_and_64(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 64

    err = capsys.readouterr().err
    assert err.startswith("plumised: ")
    assert "(usage). `plumised" in err
    assert len(err.splitlines()) == 1


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    out = capsys.readouterr().out
    for verb in ("run", "check-config", "status", "wait", "stop", "restart-engine", "wallet", "version"):
        assert re.search(rf"^    {verb}\s", out, re.MULTILINE)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"plumised {__version__}\n"


def test_run_refuses_a_bad_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(FIVE_MISTAKES, encoding="utf-8")

    assert main(["run", "--config", str(config)]) == 78
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_the_exit_status_tells_who_can_help() -> None:
    assert exit_status(OperatorError("It is wrong", "Mend it.")) == 78
    assert exit_status(PlumisedError("It broke", "Tell us.")) == 70


def test_errors_of_tasks_are_told_like_others_the_operators_first() -> None:
    broke, wrong = PlumisedError("It broke", "Tell us."), OperatorError("It is wrong", "Mend it.")

    assert expected(ExceptionGroup("tasks", [broke, ExceptionGroup("inner", [wrong])])) == (wrong, broke)
    assert expected(ExceptionGroup("tasks", [wrong, ValueError("a bug")])) == ()


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@pytest.mark.parametrize("module", ["plumised", "plumised.cli"])
def test_the_package_runs_as_a_program(module: str) -> None:
    assert python("-m", module, "version").stdout == f"plumised {__version__}\n"


def test_checking_a_configuration_imports_neither_web3_nor_aiohttp() -> None:
    program = (
        "import sys; from plumised.cli import main; main(['check-config', 'etc/plumise/node.toml']);"
        "print(sorted({'web3', 'aiohttp', 'eth_account', 'daemon', 'asyncio'} & sys.modules.keys()))"
    )

    assert python("-c", program).stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "plumised", "version"],
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.PIPE,
            timeout=PATIENCE_S,
            check=False,
        )

    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_is_130_without_a_traceback(tmp_path: Path) -> None:
    fifo = tmp_path / "node.toml"
    os.mkfifo(fifo)
    # Whoever runs the tests in the background may have them ignore the signal.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "plumised", "check-config", str(fifo)]
    with (
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as waiting,
        fifo.open("wb"),  # which succeeds once the program reads: from then on it waits for what is never written
    ):
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=PATIENCE_S)

    assert (waiting.returncode, err) == (130, "plumised: interrupted\n")
