from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.config.conftest import Etc

PEER = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
ADDRESS = "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"


@pytest.mark.parametrize(
    ("text", "key", "problem", "remedy"),
    [
        ("[engine]\nhandlers = true", "engine.handlers", "is true, not a whole number", "without quotes"),
        ("[engine]\nhandlers = 2.0", "engine.handlers", "is 2, a number with a fraction, not a whole", "without a fr"),
        ('[engine]\nhandlers = "2"', "engine.handlers", 'is the string "2", not a whole number', "without quotes"),
        ("[engine]\nhandlers = 33", "engine.handlers", "is 33, which is out of range", "from 1 to 32"),
        ("[engine]\noffline = 1", "engine.offline", "is 1, not a boolean", "true or false"),
        ("[engine]\nmodel = 5", "engine.model", "is 5, not a string", "in quotes"),
        ('[engine]\nmodel = "./here"', "engine.model", 'is "./here", neither', "whole path"),
        ('[engine]\nblocks = "5:5"', "engine.blocks", 'is "5:5", a span that holds no block', "greater than"),
        ('[engine]\nblocks = "7:5"', "engine.blocks", 'is "7:5", a span that holds no block', "greater than"),
        ("[engine]\nblocks = 5", "engine.blocks", "is 5, not a span of blocks", '"0:12"'),
        ('[engine]\ndtype = "float8"', "engine.dtype", 'the string "float8", which it cannot be', "bfloat16"),
        ("[engine]\ndtype = 8", "engine.dtype", "is 8, which it cannot be", "auto, float32, bfloat16, float16"),
        ('[engine]\ndevice = "gpu"', "engine.device", 'is "gpu", not a device', '"cuda:0"'),
        ("[engine]\nstart_timeout_s = -1", "engine.start_timeout_s", "is -1, which is out of range", "above 0"),
        ("[engine]\nstart_timeout_s = nan", "engine.start_timeout_s", "is nan, which is out of range", "above 0"),
        ("[engine]\ncache_limit_gb = inf", "engine.cache_limit_gb", "is inf, which is out of range", "above 0"),
        ('[engine]\nthroughput_rps = "fast"', "engine.throughput_rps", 'is "fast", not a throughput', '"auto"'),
        ('[engine]\npython = "python3"', "engine.python", "is not an absolute path", "slash"),
        ('[node]\nname = ""', "node.name", "cannot be a node's name", "1 to 32"),
        ('[node]\nname = "my node"', "node.name", "cannot be a node's name", "1 to 32"),
        ("[node]\nname = 1979-05-27", "node.name", "is a date or time, not a string", "in quotes"),
        ("[chain]\nheartbeat_interval_s = 300", "chain.heartbeat_interval_s", "after 300 s", "less than 300"),
        ("[chain]\nheartbeat_interval_s = 1e9", "chain.heartbeat_interval_s", "after 300 s", "less than 300"),
        ("[chain]\nheartbeat_interval_s = -5", "chain.heartbeat_interval_s", "out of range", "at least 5"),
        (f'[chain]\nreward_pool = "{ADDRESS[:-1]}"', "chain.reward_pool", "not an address", "40 hex"),
        (f'[chain]\nreward_pool = "{ADDRESS[:-1]}f"', "chain.reward_pool", "checksum is wrong", "letter by"),
        ("[chain]\nrpc_urls = []", "chain.rpc_urls", "is an empty array", "at least one"),
        ('[chain]\nrpc_urls = "http://a"', "chain.rpc_urls", "is a string, not an array", "brackets"),
        ("[chain]\nrpc_urls = [3]", "chain.rpc_urls", "holds 3, not a string", "in quotes"),
        ('[chain]\nrpc_urls = ["http://a", "http://a"]', "chain.rpc_urls", 'holds "http://a" twice', "one of them"),
        ('[oracle]\nurl = "localhost:3100"', "oracle.url", "is not an http or https URL", "http://"),
        ('[oracle]\nurl = "http://localhost:99999"', "oracle.url", "host or port is malformed", "http://"),
        ('[oracle]\nurl = "http://localhost:0"', "oracle.url", "host or port is malformed", "http://"),
        ('[oracle]\nurl = "http://300.1.2.3"', "oracle.url", "host or port is malformed", "http://"),
        ('[oracle]\nurl = "http://a b"', "oracle.url", "is not a URL", "http://"),
        ('[oracle]\nurl = "http://a/?k=v"', "oracle.url", "with a query", "up to its path"),
        ('[oracle]\nendpoint = "http://nodot:1"', "oracle.endpoint", "nor has a dot", "203.0.113.7"),
        ("[oracle]\nregistration_timeout_s = 20", "oracle.registration_timeout_s", "out of range", "from 45"),
        ('[metrics]\nlisten = "127.0.0.1"', "metrics.listen", "not an address and port", '"off"'),
        ('[metrics]\nlisten = "127.0.0.1:70000"', "metrics.listen", "no such port", "1 to 65535"),
        ('[metrics]\nlisten = "example.org:80"', "metrics.listen", "is not an IP address", '"off"'),
        ('[swarm]\nlisten = ["/ip4/127.0.0.1"]', "swarm.listen", "names no TCP or UDP port", "/tcp/31330"),
        ('[swarm]\nlisten = ["/ip4/::1/tcp/1"]', "swarm.listen", '"::1" is not a value for /ip4', "/tcp/31330"),
        ('[swarm]\nlisten = ["/dns4/a.b/tcp/1"]', "swarm.listen", "IP addresses only", "/tcp/31330"),
        ('[swarm]\nlisten = ["/ip4/1.2.3.4/tpc/1"]', "swarm.listen", '"tpc" is not a protocol', "/tcp/31330"),
        ('[swarm]\nannounce = ["/ip4/1.2.3.4/tcp/0"]', "swarm.announce", "nobody can reach port 0", "/tcp/31330"),
        (f'[swarm]\nannounce = ["/ip4/1.2.3.4/tcp/1/p2p/{PEER}"]', "swarm.announce", "has a peer id", "Remove /p2p/"),
        ('[swarm]\ninitial_peers = ["/ip4/1.2.3.4/tcp/1"]', "swarm.initial_peers", "end with a peer id", "/p2p/"),
        (f'[swarm]\ninitial_peers = ["/p2p/{PEER}"]', "swarm.initial_peers", "not begin with a host", "/p2p/"),
        (
            f'[swarm]\ninitial_peers = ["/ip4/1.2.3.4/tcp/1/p2p/{PEER[:-1]}"]',
            "swarm.initial_peers",
            "is not a value for /p2p",
            "/p2p/",
        ),
        ("[engine]\nhandlerz = 1", "engine.handlerz", "is not a key", "Did you mean engine.handlers?"),
        ('[engine]\nrpc_urls = ["http://a"]', "engine.rpc_urls", "is not a key", "Did you mean chain.rpc_urls?"),
        ('model = "a/b"', "model", "stands outside of any table", "Move it below [engine]."),
        ("engine = 5", "engine", "is a whole number, but it is the name of a table", "Write [engine]"),
        ("[[engine]]\nhandlers = 1", "engine", "is an array, but it is the name of a table", "Write [engine]"),
        ("[engnie]\nhandlers = 1", "engnie", "is not a table of this file", "Did you mean [engine]?"),
        ("[zzz]", "zzz", "is not a table of this file", "The tables are node, engine,"),
    ],
)
def test_a_mistake_is_told_with_key_problem_and_remedy(
    etc: Etc, text: str, key: str, problem: str, remedy: str
) -> None:
    found = etc.write(text).problem()

    assert found.key == key
    assert problem in found.problem
    assert remedy in found.remedy


def test_a_long_value_is_cut(etc: Etc) -> None:
    found = etc.write(f'[engine]\ndtype = "{"x" * 5000}"').problem()

    assert len(found.problem) < 120


def test_each_item_of_an_array_is_told(etc: Etc) -> None:
    problems = etc.write('[swarm]\nlisten = ["x", "/ip4/127.0.0.1/tcp/1", 4]').problems()

    assert [problem.problem[:9] for problem in problems] == ['holds "x"', "holds 4, "]


@pytest.mark.parametrize(
    "text",
    [
        '[wallet]\npassword = "{}"',
        '[wallet]\nkeystore_password = "{}"',
        '[wallet]\nprivate_key = "{}"',
        '[chain]\nprivateKey = "{}"',
        '[node]\nmnemonic = "{}"',
        'password = "{}"',
    ],
)
def test_a_secret_is_refused_without_repeating_it(etc: Etc, text: str) -> None:
    found = etc.write(text.format("hunter2hunter2")).problem()

    assert "secret" in found.problem
    assert "plumised wallet import" in found.remedy
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("prefix", ["0x", ""])
def test_a_private_key_is_refused_wherever_it_stands(etc: Etc, prefix: str) -> None:
    problems = etc.write(f'[node]\nname = "{prefix}{"46" * 32}"\n[chain]\nrpc_urls = ["{"46" * 32}"]').problems()

    assert [problem.key for problem in problems] == ["node.name", "chain.rpc_urls"]
    assert "4646" not in "".join(str(problem) for problem in problems)


@pytest.mark.parametrize("key", ["password_file", "password_credential"])
def test_what_may_be_a_password_in_the_wrong_place_is_not_repeated(etc: Etc, key: str) -> None:
    assert "correct horse" not in str(etc.write(f'[wallet]\n{key} = "correct horse"').problem())


def test_credentials_in_a_url_are_refused_without_repeating_them(etc: Etc) -> None:
    found = etc.write('[chain]\nrpc_urls = ["https://me:hunter2@rpc.example"]').problem()

    assert "user name or password" in found.problem
    assert "hunter2" not in str(found)
