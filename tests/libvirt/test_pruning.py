# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of a deployment that it does not declare any more, and those that it has no say in."""

import json
import subprocess

import msgspec
import pytest
from deploying import session

from pyguixvm.cli import declaration
from pyguixvm.cli.app import main
from pyguixvm.commands.planning import observed
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.declaration import Deployment
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.xml import metadata as our_metadata

SYSTEM = "qemu:///system"
# The same libvirtd; a socket of unknown origin counts as another machine's.
ELSEWHERE = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"


@pytest.fixture
def running(connection, deployed):
    """Have a machine that is deployed, with a guest that does not run on."""

    def start(**fields):
        machine = deployed(**fields)
        domains.start_paused(connection, machine.name)
        return machine

    return start


@pytest.fixture
def deploy(monkeypatch, capfd):
    """Deploy machines as a configuration would declare them, with options of the command line."""

    def run(machines, *options, name=None, config="/src/config.scm", chosen=()):
        declared = Deployment(schema=1, config=config, machines=tuple(machines), name=name)
        monkeypatch.setattr(declaration, "evaluated", lambda *_, **__: declared)
        monkeypatch.setenv("PYGUIXVM_VIRT_TYPE", "qemu")
        status = main(["-c", SYSTEM, "deploy", "--json", *options, config, *chosen])
        return status, json.loads(capfd.readouterr().out)

    return run


PRUNE = ("--prune", "--yes")


def undeclared(document):
    return [each["machine"] for each in document["undeclared"]]


def removed(document):
    return [each["machine"] for each in document["removed"]]


def test_two_ways_to_one_hypervisor_prune_nothing(connection, running, deploy):
    here, there = (running(deployment="infra") for _ in range(2))
    far = msgspec.structs.replace(there, hypervisor=ELSEWHERE)
    status, said = deploy([here, far], *PRUNE, name="infra")
    assert (status, undeclared(said), removed(said)) == (0, [], [])
    assert domains.exists(connection, here.name)
    assert domains.exists(connection, there.name)


def test_a_machine_that_is_on_another_hypervisor_is_not_made_twice(running, tmp_path):
    moved, stays = (running(deployment="infra") for _ in range(2))
    away = msgspec.structs.replace(moved, hypervisor="test:///default")
    whole = {"config": "/src/config.scm", "deployment": "infra"}
    with observed(session(tmp_path), [away, stays], **whole) as planned:
        plans = {each.plan.uri: each.plan for each in planned}
    (there,) = plans["test:///default"].machines
    assert f"'{moved.name}' of deployment 'infra' is on {SYSTEM}" in there.refusal
    assert there.actions == ()
    assert moved.name not in plans[SYSTEM].undeclared


def test_what_a_deployment_does_not_declare_is_told_and_removed_from_wherever(
    connection, running, deploy, pool
):
    kept, gone, theirs, nobodys = (
        running(deployment=name) for name in ("infra", "infra", "other", None)
    )
    status, said = deploy([kept], name="infra", config="/here/config.scm")
    assert (status, undeclared(said)) == (0, [gone.name])
    status, said = deploy([kept], *PRUNE, name="infra", config="/there/config.scm")
    assert (status, removed(said)) == (0, [gone.name])
    assert not domains.exists(connection, gone.name)
    assert volumes.lookup(connection, pool.name, generation_volume(gone.name, 1)) is None
    for machine in (kept, theirs, nobodys):
        assert domains.state(connection, machine.name) == "paused"


def test_a_deployment_without_a_name_prunes_nothing(connection, running, deploy):
    kept, other = running(), running()
    status, said = deploy([kept])
    assert (status, undeclared(said)) == (0, [])
    titled = msgspec.structs.replace(
        kept, domain=msgspec.structs.replace(kept.domain, title="changed")
    )
    status, said = deploy([titled], *PRUNE)
    assert status == 1
    assert "has no name" in said["error"]["message"]
    assert '(deployment (name "' in said["error"]["hint"]
    # Before anything was touched.
    assert observe(connection).domains[kept.name].defined.plain.get("title") is None
    assert domains.exists(connection, other.name)


def test_machines_that_were_not_asked_for_are_declared_all_the_same(connection, running, deploy):
    one, other = (running(deployment="infra") for _ in range(2))
    status, said = deploy([one], *PRUNE, name="infra", chosen=[one.name])
    assert (status, undeclared(said), removed(said)) == (0, [], [])
    assert domains.exists(connection, other.name)


def test_a_protected_machine_is_not_pruned(connection, running, deploy):
    kept, gone = running(deployment="infra"), running(deployment="infra", protect=True)
    status, said = deploy([kept], *PRUNE, name="infra")
    assert (status, undeclared(said), removed(said)) == (1, [gone.name], [])
    assert "is protected" in said["error"]["message"]
    assert domains.state(connection, gone.name) == "paused"


def test_a_machine_that_was_renamed_is_not_pruned(connection, deployed, running, deploy, pool):
    kept, moved = running(deployment="infra"), deployed(deployment="infra")
    other = f"{moved.name}-other"
    virsh = ["virsh", "--quiet", "-c", SYSTEM]
    subprocess.run([*virsh, "domrename", moved.name, other], check=True)
    try:
        status, said = deploy([kept], *PRUNE, name="infra")
        assert (status, undeclared(said), removed(said)) == (0, [], [])
        assert volumes.is_whole(connection, pool.name, generation_volume(moved.name, 1))
    finally:
        subprocess.run([*virsh, "domrename", other, moved.name], check=True)


@pytest.mark.parametrize("ours", ["infra", None])
def test_a_machine_of_another_deployment_is_left_as_it_is(connection, running, deploy, ours):
    machine = running(deployment="other")
    titled = msgspec.structs.replace(
        machine, domain=msgspec.structs.replace(machine.domain, title="changed")
    )
    status, said = deploy([titled], name=ours)
    assert status == 1
    assert "belongs to deployment 'other'" in said["machines"][0]["error"]["message"]
    found = observe(connection).domains[machine.name]
    assert found.defined.plain.get("title") is None
    assert found.metadata.deployment == "other"


def test_a_machine_of_no_deployment_is_taken_over(connection, running, deploy):
    machine = running(by_uuid=False)
    handle = connection.handle.lookupByName(machine.name)
    # What was written before deployments had names.
    old = our_metadata.metadata_xml(domains.read_metadata(connection, machine.name))
    old = old.replace('{"current"', '{"config":"/src/config.scm","current"')
    handle.setMetadata(2, old, our_metadata.PREFIX, our_metadata.NAMESPACE, 3)
    assert deploy([machine])[0] == 0
    assert domains.read_metadata(connection, machine.name).deployment is None
    assert deploy([machine], name="infra")[0] == 0
    metadata = domains.read_metadata(connection, machine.name)
    assert (metadata.deployment, metadata.uuid) == ("infra", handle.UUIDString())
    # In part as well; and it stays so.
    assert deploy([machine], name="infra", chosen=[machine.name])[0] == 0
    assert domains.read_metadata(connection, machine.name).deployment == "infra"
