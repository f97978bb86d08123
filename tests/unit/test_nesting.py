"""JSON that is nested too deeply is told before it is parsed, whatever else the text is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.nesting import DEEPEST, nested_too_deeply

ROOT = Path(__file__).parents[2]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=60,
)


def depth_of(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case _:
            return 0


@given(values, st.integers(0, 6), st.booleans())
def test_what_is_too_deep_is_exactly_what_opens_more_levels(value: object, deepest: int, ascii_only: bool) -> None:
    assert nested_too_deeply(json.dumps(value, ensure_ascii=ascii_only), deepest) == (depth_of(value) > deepest)


@given(st.text(alphabet='[]{}"\\a,:'), st.integers(0, 3))
def test_any_text_that_is_not_too_deep_is_parsed_within_that_depth_or_refused(text: str, deepest: int) -> None:
    if nested_too_deeply(text, deepest):
        return
    try:
        value: object = json.loads(text)
    except ValueError:
        return
    assert depth_of(value) <= deepest


def test_many_values_side_by_side_are_not_deep() -> None:
    assert not nested_too_deeply(json.dumps([{"logs": []}] * 10_000))


@pytest.mark.parametrize("text", ["[" * 10**6, '[{"a":' * 10**5, '["\\"[",' * 10**5])
def test_a_great_depth_is_told(text: str) -> None:
    assert nested_too_deeply(text)


@pytest.mark.parametrize("text", ['"' + '\\"[' * 10**6 + "\\", '"[' + "\\" * 10**6, "[]" * 10**6])
def test_hostile_text_takes_no_more_than_linear_time(text: str) -> None:
    # Anything worse would not end within the time of the whole test run.
    assert not nested_too_deeply(text)


def in_a_process_with_web3(code: str) -> str:
    """Standard output of the code in a process in which web3 has raised the recursion limit."""
    program = (
        "import sys\nimport web3\nassert sys.getrecursionlimit() >= 100_000, 'web3 leaves the limit alone'\n"
        "import faulthandler\nfaulthandler.disable()\n" + code
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr}"
    return done.stdout.strip()


def test_a_frame_of_brackets_is_refused_beside_web3() -> None:
    code = """
from plumised.ipc.codec import Decoder, FrameError
body = b'{"type":' + b"[" * 60_000
try:
    Decoder().feed(len(body).to_bytes(4, "big") + body)
except FrameError as error:
    print(error.code)
"""
    assert in_a_process_with_web3(code) == "malformed"


def test_an_answer_of_brackets_from_an_endpoint_is_refused_beside_web3() -> None:
    code = """
import asyncio
from aiohttp import ClientSession, web
from web3.exceptions import BadResponseFormat
from plumised.chain.provider import BoundedHttpProvider

async def answer(_request):
    return web.Response(body=b'{"result":' + b"[" * 4_000_000)

async def main():
    application = web.Application()
    application.router.add_post("/", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as session:
        provider = BoundedHttpProvider(f"http://127.0.0.1:{runner.addresses[0][1]}", session, 30)
        try:
            await provider.make_request("eth_chainId", [])
        except BadResponseFormat:
            print("refused")
    await runner.cleanup()

asyncio.run(main())
"""
    assert in_a_process_with_web3(code) == "refused"


def test_an_answer_of_brackets_from_the_oracle_is_refused_beside_web3() -> None:
    code = """
from plumised.oracle.answers import classify_report
from plumised.oracle.client import Answer
from plumised.oracle.formats import Dialect
print(type(classify_report(Dialect.METRICS_V1, Answer(201, b'{"message":' + b"[" * 4_000_000))).__name__)
"""
    assert in_a_process_with_web3(code) == "Unknown"


def test_the_deepest_that_is_taken_is_far_from_what_pythons_parser_holds() -> None:
    assert json.loads("[" * DEEPEST + "]" * DEEPEST)
