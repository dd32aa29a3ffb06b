# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests the commands make: few, and not more where there are other machines."""

import math
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from counting import requests
from deploying import changed, renewed, session, some_metadata

from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.commands.deploy import deploy
from pyguixvm.commands.listing import listed
from pyguixvm.commands.planning import measured, observed
from pyguixvm.commands.status import statuses
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.guest.evidence import boot
from pyguixvm.plan.plan import Policy
from pyguixvm.xml.domain import DomainDefinition, domain_xml

MIB = 1024**2
# Of each kind, beside the machine that is looked at.
MANY = 30


@pytest.fixture
def others(connection, a_machine):
    """Define MANY domains of ours and as many of others'; they go at the end."""
    handles = []

    def define():
        for number in range(MANY):
            ours = a_machine()
            xml = domain_xml(
                DomainDefinition(
                    machine=ours,
                    root=f"/nonexistent/{ours.name}",
                    backing=(),
                    domain_type="qemu",
                    metadata=some_metadata(ours),
                )
            )
            foreign = (
                f"<domain type='qemu'><name>test{os.getpid()}-other-{number}</name>"
                "<memory unit='MiB'>64</memory>"
                "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
            )
            handles.extend(connection.handle.defineXML(each) for each in (xml, foreign))

    yield define
    for handle in handles:
        handle.undefine()


def counted(work):
    """Requests of WORK by name, and how long it took: who waits may ask once a second."""
    begun = time.monotonic()
    with requests() as counts:
        work()
    return counts, math.floor(time.monotonic() - begun)


def planning(here, machine):
    with observed(here, [machine]) as planned:
        for each in planned:
            measured(here, each)


def deploying(here, machine):
    with observed(here, [machine], policy=Policy(force=True, stop_timeout=1)) as planned:
        (outcome,) = deploy(here, Path("config.scm"), planned)
    assert outcome.error is None
    return outcome


# At most so many, of all kinds, beside one a second; connecting is among them.
BUDGETS = {
    "list": 15,
    # With the addresses of a guest, what it uses, how full the pools are, and what is
    # recorded of data disks.
    "status": 30,
    # One is whether the host has the QEMU that machines are defined with.
    "plan": 20,
    "deploy nothing": 20,
    # One is for the record of its data disk, and some are whether its root is there, its pool
    # is active, and what it is defined with is there.
    "deploy a title": 60,
    "deploy more memory": 92,
    "deploy another image": 115,
}


@pytest.fixture
def works(halting, tmp_path):
    """What is done to a machine that runs, by name; each time with another change."""
    here = session(tmp_path)
    now = [halting]

    def change(machine):
        now[0] = machine
        deploying(here, machine)

    def title():
        change(changed(now[0], title=f"not {now[0].domain.title}"[-40:]))

    def memory():
        more = now[0].domain.memory + 4 * MIB
        change(changed(now[0], memory=more, maximum_memory=more))

    return {
        "list": lambda: listed(here, everything=False),
        "status": lambda: statuses(here, now, None),
        "plan": lambda: planning(here, now[0]),
        "deploy nothing": lambda: deploying(here, now[0]),
        "deploy a title": title,
        "deploy more memory": memory,
        "deploy another image": lambda: change(renewed(now[0], tmp_path)),
    }


def test_requests_are_few_and_no_more_where_there_are_many_machines(connection, works, others):
    # Locks whose holders died: each look asks each of them whose it is.
    left = 2 * len(connection.handle.listAllSecrets())
    alone = {name: counted(work) for name, work in works.items()}
    others()
    many = {name: counted(work) for name, work in works.items()}
    for name, (counts, waited) in alone.items():
        assert counts.total() <= BUDGETS[name] + left + waited, (name, counts)
        # Whose a domain is, and what it has, libvirt says of each by itself only.
        among, waited_among = many[name]
        each = among["virDomainGetXMLDesc"] - counts["virDomainGetXMLDesc"]
        assert each <= 2 * MANY + waited_among, (name, among)
        rest = among.total() - each
        assert rest <= BUDGETS[name] + left + waited_among, (name, among)


def test_what_the_host_offers_is_asked_for_once_and_while_guix_builds(
    halting, tmp_path, monkeypatch
):
    here = session(tmp_path)

    def building(*_):
        end = time.monotonic() + 60
        while not counts["virConnectGetCapabilities"] and time.monotonic() < end:
            time.sleep(0.01)
        while_building.update(counts)

    monkeypatch.setattr("pyguixvm.commands.deploy.realize_plans", building)
    while_building = Counter()
    with requests() as counts:
        deploying(here, renewed(halting, tmp_path))
    assert while_building["virConnectGetCapabilities"] == 1
    assert counts["virConnectGetCapabilities"] == 1


def test_a_guest_that_is_waited_for_is_looked_at_twice_a_second_at_most(connection, tiny_machine):
    machine = tiny_machine("nothing")
    seconds = 8
    with boot(connection, machine) as evidence, requests() as counts:
        found = wait_ready(machine, evidence, deadline=time.monotonic() + seconds)
    assert found.outcome == "not-ready"
    assert counts["virNetworkGetDHCPLeases"] <= seconds + 1
    assert counts.total() <= 2 * seconds + 8, counts


def test_a_guest_that_stops_is_noticed_without_being_asked(connection, tiny_machine):
    machine = tiny_machine("nothing")
    with boot(connection, machine) as evidence:
        assert evidence.state() == "running"
        with requests() as counts:
            assert [evidence.state() for _ in range(20)] == ["running"] * 20
            assert counts["virDomainGetState"] <= 1
        domains.destroy(connection, machine.name)
        deadline = time.monotonic() + 2
        while evidence.state() == "running":
            assert time.monotonic() < deadline
            time.sleep(0.01)
