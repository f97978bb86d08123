"""The settings on the engine's standard input."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumised.ipc.job import EngineJob, JobError
from plumised.ipc.messages import PROTOCOL

JOB = EngineJob(
    incarnation="3f2a",
    socket="/run/plumise/engine.sock",
    tally_dir="/var/lib/plumise/tally",
    runtime_dir="/run/plumise",
    cache_dir="/var/cache/plumise",
    model="bigscience/bloom-560m",
    identity_file="/var/lib/plumise/identity.key",
)


@given(
    st.builds(
        EngineJob,
        incarnation=st.text(st.characters(codec="utf-8")),
        throughput=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        first_block=st.none() | st.integers(0, 1000),
        listen=st.lists(st.text(st.characters(codec="utf-8"))).map(tuple),
        new_swarm=st.booleans(),
    )
)
def test_a_job_comes_back_from_its_json(job: EngineJob) -> None:
    assert EngineJob.from_json(job.to_json()) == job


def test_another_protocol_is_named_before_anything_else() -> None:
    members = json.loads(JOB.to_json()) | {"protocol": PROTOCOL + 1, "of_the_future": 1}
    with pytest.raises(JobError, match=f"protocol {PROTOCOL + 1}.*plumise-engine-petals"):
        EngineJob.from_json(json.dumps(members))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"protocol": 1}', "\x00"])
def test_anything_else_is_a_job_error(text: str) -> None:
    with pytest.raises(JobError):
        EngineJob.from_json(text)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(JobError, match="'spell'"):
        EngineJob.from_json(json.dumps(json.loads(JOB.to_json()) | {"spell": 1}))
