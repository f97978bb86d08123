"""What the engine may use of the file system."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plumised.ipc.job import EngineJob
from plumised.petals.sandbox.landlock import Grant, Use
from plumised.petals.sandbox.places import Surroundings, grants, model_directory, overlaps

JOB = EngineJob(
    incarnation="life",
    socket="/run/plumise/engine.sock",
    tally_dir="/var/lib/plumise/engine/tally",
    runtime_dir="/run/plumise/engine",
    cache_dir="/var/cache/plumise",
    model="bigscience/bloom-560m",
    identity_file="/var/lib/plumise/engine/identity.key",
    hidden=("/var/lib/plumise", "/etc/plumise/wallet.password"),
)
AROUND = Surroundings(
    prefixes=("/usr/lib/plumise-engine", "/usr"),
    imports=("/usr/lib/python3.11", "/usr/lib/plumise-engine/lib/python3.11/site-packages"),
    package="/usr/lib/plumise-engine/lib/python3.11/site-packages/plumised",
    devices=("null", "nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-caps", "dri", "kfd", "sda", "mem"),
)


def use_of(path: str, job: EngineJob = JOB, around: Surroundings = AROUND) -> Use | None:
    """What may be done with a path, by the rule that names it."""
    found = {grant.path: grant.use for grant in grants(job, around)}
    return found.get(path)


def covering(path: str, job: EngineJob = JOB, around: Surroundings = AROUND) -> list[Grant]:
    """The rules that open a path."""
    return [grant for grant in grants(job, around) if overlaps([path], [grant])]


@pytest.mark.parametrize(
    "path",
    [
        "/var/lib/plumise/wallet/keystore.json",
        "/var/lib/plumise/ledger.sqlite",
        "/var/lib/plumise/engine.json",
        "/run/credentials/plumised.service/wallet-password",
        "/run/plumise/control.sock",
        "/etc/plumise/node.toml",
        "/etc/plumise/wallet.password",
        "/etc/shadow",
        "/root/.ssh/id_ed25519",
        "/home/somebody/notes",
        "/tmp/anything",  # noqa: S108 -- a place that must stay closed
        "/dev/sda",
        "/dev/mem",
        "/opt/other",
        "/usr/local/var/lib/plumise/ledger.sqlite",
    ],
)
def test_what_is_not_the_engines_is_closed(path: str) -> None:
    assert covering(path) == []


def test_it_writes_in_its_own_directories_and_in_shared_memory() -> None:
    assert [grant.path for grant in grants(JOB, AROUND) if grant.use is Use.KEEP] == [
        "/dev/shm",  # noqa: S108 -- as a rule
        "/var/cache/plumise",
        "/run/plumise/engine",
        "/var/lib/plumise/engine/tally",
    ]


def test_it_reads_its_identity_and_cannot_change_it() -> None:
    assert use_of(JOB.identity_file) is Use.READ
    assert use_of("/srv/keys/node.key", replace(JOB, identity_file="/srv/keys/node.key")) is Use.READ


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1"])
def test_gpus_are_open_unless_the_processor_computes(device: str) -> None:
    with_gpu = {grant.path for grant in grants(replace(JOB, device=device), AROUND) if grant.use is Use.DEVICE}
    without = {grant.path for grant in grants(replace(JOB, device="cpu"), AROUND) if grant.use is Use.DEVICE}
    assert with_gpu - without == {f"/dev/{name}" for name in AROUND.devices[1:7]}
    assert without == {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}


def test_a_model_from_the_hub_is_in_the_cache_and_opens_nothing_else() -> None:
    assert model_directory(JOB) is None
    assert set(grants(JOB, replace(AROUND, model_links=("/srv/elsewhere",)))) == set(grants(JOB, AROUND))


def test_a_local_model_is_read_with_what_its_links_lead_to() -> None:
    job = replace(JOB, model="/srv/models/snapshot")
    around = replace(AROUND, model_links=("/srv/models/blobs/1234",))
    assert use_of(job.model, job, around) is Use.READ
    assert use_of("/srv/models/blobs/1234", job, around) is Use.READ


@pytest.mark.parametrize(
    "target", ["/var/lib/plumise/wallet/keystore.json", "/var/lib/plumise", "/etc/plumise/wallet.password"]
)
def test_links_of_a_model_that_lead_to_what_is_hidden_are_not_followed(target: str) -> None:
    job = replace(JOB, model="/srv/model")
    assert covering(target, job, replace(AROUND, model_links=(target,))) == []


@pytest.mark.parametrize("model", ["/var/cache/plumise/hub/snapshot", "/run/plumise/engine/model", JOB.tally_dir])
def test_links_in_a_place_that_the_engine_writes_in_are_its_own_and_not_followed(model: str) -> None:
    assert model_directory(replace(JOB, model=model)) is None


def test_a_source_tree_is_listed_and_its_package_read() -> None:
    around = replace(AROUND, imports=("/srv/checkout",), package="/srv/checkout/plumised")
    assert use_of("/srv/checkout", JOB, around) is Use.LIST
    assert use_of("/srv/checkout/plumised", JOB, around) is Use.READ
    assert covering("/srv/checkout/build/state/ledger.sqlite", JOB, around) == []


@pytest.mark.parametrize("prefix", ["/", "/usr", "/usr/local"])
def test_a_python_of_the_system_does_not_open_the_systems_data(prefix: str) -> None:
    assert use_of(prefix, JOB, replace(AROUND, prefixes=(prefix,))) is None


def test_what_cannot_be_hidden_is_named_with_what_opens_it() -> None:
    job = replace(JOB, cache_dir="/var/lib/plumise")
    assert overlaps(JOB.hidden, grants(JOB, AROUND)) == ()
    assert overlaps(job.hidden, grants(job, AROUND)) == ("/var/lib/plumise lies in /var/lib/plumise",)
