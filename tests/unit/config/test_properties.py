from __future__ import annotations

import string
import tempfile
from pathlib import Path

import pytest
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from plumised.config import ConfigError, Settings, Span, load, multiaddrs, urls, values
from plumised.config.problems import UnfitError
from plumised.config.reference import as_toml
from plumised.config.settings import SECTIONS

KEYS = [(section, key) for section, model in SECTIONS.items() for key in model.model_fields]
PYDANTIC_WORDS = ("Input should", "validation error", "pydantic", "Value error", "type=", "Field required")

scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=80),
    st.sampled_from(["0:12", "auto", "off", "/x", "http://a.b", "127.0.0.1:1", "/ip4/1.2.3.4/tcp/1", "0x" + "1" * 40]),
)
settable = scalars | st.lists(scalars, max_size=3).map(tuple)


def loaded(raw: bytes) -> Settings | ConfigError:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "node.toml"
        file.write_bytes(raw)
        try:
            return load(file, host_name="testhost")
        except ConfigError as error:
            return error


@given(st.binary(max_size=300))
def test_any_bytes_give_settings_or_a_config_error(raw: bytes) -> None:
    assert isinstance(loaded(raw), Settings | ConfigError)


@given(st.text("[]{}.=\"'#\n, abengin_sxow019-+:\\tf", max_size=120))
def test_any_text_that_looks_like_toml_gives_settings_or_a_config_error(text: str) -> None:
    assert isinstance(loaded(text.encode()), Settings | ConfigError)


@given(st.sampled_from(KEYS), settable)
def test_any_value_is_taken_as_it_is_or_refused_in_the_words_of_the_file(key: tuple[str, str], value: object) -> None:
    section, name = key

    result = loaded(f"[{section}]\n{name} = {as_toml(value)}\n".encode())

    if isinstance(result, ConfigError):
        for problem in result.problems:
            assert (problem.key, problem.line) == (f"{section}.{name}", 2)
            assert problem.remedy.endswith((".", "?"))
            assert len(str(problem).splitlines()) == 1
            assert not any(word in str(problem) for word in PYDANTIC_WORDS)
    else:
        taken = getattr(getattr(result, section), name)
        assert isinstance(taken, bool) == isinstance(value, bool)
        assert isinstance(value, str) or not isinstance(taken, str)


@given(st.lists(st.sampled_from(KEYS), unique=True, min_size=1, max_size=8))
def test_every_wrong_key_is_told_once(keys: list[tuple[str, str]]) -> None:
    text = "".join(f"{section}.{name} = 1979-05-27\n" for section, name in keys)

    result = loaded(text.encode())

    assert isinstance(result, ConfigError)
    wrong = [f"{section}.{name}" for section, name in keys]
    told = [p.key for p in result.problems if "which is set at" not in p.problem]
    assert told == wrong


@given(
    st.sampled_from(["password", "wallet_password", "passphrase", "secret", "private_key", "PrivateKey", "mnemonic"]),
    st.sampled_from(list(SECTIONS)),
    st.text(string.ascii_letters, min_size=12, max_size=40),
)
def test_no_secret_is_ever_repeated(name: str, section: str, secret: str) -> None:
    result = loaded(f'[{section}]\n{name} = "{secret}"\n'.encode())

    assert isinstance(result, ConfigError)
    assert secret not in "".join(str(problem) for problem in result.problems)


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_span_needs_a_block(start: int, end: int) -> None:
    if start < end:
        assert values.span(f"{start}:{end}") == Span(start, end)
    else:
        with pytest.raises(UnfitError):
            values.span(f"{start}:{end}")


@given(st.binary(min_size=20, max_size=20), st.data())
def test_an_address_in_mixed_case_needs_its_checksum(raw: bytes, data: st.DataObject) -> None:
    right = str(to_checksum_address("0x" + raw.hex()))
    letters = [place for place, letter in enumerate(right) if place > 1 and letter.isalpha()]
    assert values.address(right) == right
    assert values.address(right.lower()) == right
    if not letters:
        return
    place = data.draw(st.sampled_from(letters))
    flipped = right[:place] + right[place].swapcase() + right[place + 1 :]

    if flipped[2:] in (right[2:].lower(), right[2:].upper()):
        assert values.address(flipped) == right
    else:
        with pytest.raises(UnfitError):
            values.address(flipped)


@given(st.text(max_size=60))
def test_any_text_is_a_multiaddress_or_unfit(text: str) -> None:
    for parse in (multiaddrs.listen_address, multiaddrs.announced_address, multiaddrs.peer_address):
        try:
            assert parse(text) == text
        except UnfitError:
            continue


@given(
    st.sampled_from(["/ip4/127.0.0.1", "/ip6/::1", "/ip4/0.0.0.0", "/ip6/2001:db8::7"]),
    st.sampled_from(["tcp", "udp"]),
    st.integers(0, 70000),
)
def test_a_port_of_a_multiaddress_is_a_port(host: str, transport: str, port: int) -> None:
    text = f"{host}/{transport}/{port}"

    if port <= 65535:
        assert multiaddrs.listen_address(text) == text
    else:
        with pytest.raises(UnfitError):
            multiaddrs.listen_address(text)


def test_peer_ids_of_both_kinds_are_known() -> None:
    assert multiaddrs.is_peer_id("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
    assert multiaddrs.is_peer_id("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
    assert not multiaddrs.is_peer_id("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5S")
    assert not multiaddrs.is_peer_id("1" * 20)
    assert not multiaddrs.is_peer_id("")


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_unfit(text: str) -> None:
    for parse in (urls.url, urls.rpc_url, urls.endpoint):
        try:
            assert parse(text).startswith("http")
        except UnfitError as unfit:
            assert text == "" or len(text) < 3 or text not in unfit.problem  # noqa: PT017 - URLs may hold keys


@given(st.dictionaries(st.integers(10, 99), st.integers(1, 32), min_size=1))
def test_the_last_drop_in_that_sets_a_key_wins(set_in: dict[int, int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "node.toml"
        file.write_text("", encoding="utf-8")
        (Path(directory) / "node.toml.d").mkdir()
        for name, handlers in set_in.items():
            drop_in = Path(directory) / f"node.toml.d/{name}.toml"
            drop_in.write_text(f"engine.handlers = {handlers}\n", encoding="utf-8")

        assert load(file, host_name="h").engine.handlers == set_in[max(set_in)]


@given(st.lists(st.sampled_from(["", "# note = 1", "   ", "#[engine]"]), max_size=5), st.integers(0, 3))
def test_the_line_of_a_mistake_is_found_between_comments(notes: list[str], breaks: int) -> None:
    array = "[" + "\n" * breaks + '"http://a.example"' + "\n" * breaks + "]"
    lines = [*notes, "[chain]", *notes, f"rpc_urls = {array}", *notes, "chain_id = 0"]
    text = "\n".join(lines)

    result = loaded(text.encode())

    assert isinstance(result, ConfigError)
    assert [problem.line for problem in result.problems] == [text.split("\n").index("chain_id = 0") + 1]


@given(st.integers(min_value=0, max_value=10**9), st.integers(min_value=0, max_value=999_999))
def test_amounts_become_wei_exactly(whole: int, millionths: int) -> None:
    written = f"{whole}.{millionths:06d}"
    if float(written) > 10**9:
        return

    result = loaded(f"[rewards]\nthreshold_plm = {written}\n".encode())

    assert isinstance(result, Settings)
    assert result.rewards.threshold_wei == whole * 10**18 + millionths * 10**12
