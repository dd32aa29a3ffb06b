# SPDX-License-Identifier: GPL-3.0-or-later
"""Over a long line: what is asked goes out together, and who waits is not kept by one alone."""

import os
import sys
import threading
import time

import pytest
from deploying import some_metadata
from relay import relayed

from pyguixvm.commands.session import Session
from pyguixvm.commands.status import Asked, sighted
from pyguixvm.events import ignore
from pyguixvm.hypervisor.at_once import at_once
from pyguixvm.xml.domain import DomainDefinition, domain_xml

MANY = 50


@pytest.fixture
def fifty(connection, a_machine):
    handles, declared = [], [a_machine() for _ in range(MANY)]
    for machine in declared:
        definition = DomainDefinition(
            machine=machine, root=f"/nonexistent/{machine.name}", backing=(), domain_type="qemu",
            metadata=some_metadata(machine),
        )  # fmt: skip
        handles.append(connection.handle.defineXML(domain_xml(definition)))
    yield declared
    for handle in handles:
        handle.undefine()


def test_the_status_of_many_machines_takes_few_round_trips(fifty, tmp_path):
    names = tuple(machine.name for machine in fifty)
    with relayed(tmp_path / "line", rate=0) as relay:
        here = Session(relay.uri, (), dict(os.environ), ignore, sys.stderr.write)
        begun = time.monotonic()
        found = sighted(here, Asked(names=names))
        took = time.monotonic() - begun
        traffic = relay.traffic()
    assert len([machine for each in found for machine in each.statuses]) == MANY
    assert traffic.trips <= 60, (traffic, took)


def test_all_are_looked_at_in_their_order_and_some_at_a_time():
    meeting = threading.Barrier(4, timeout=30)

    def work(item):
        meeting.wait()
        return item * 2

    assert at_once(work, range(8)) == [item * 2 for item in range(8)]
    assert at_once(work, []) == []


def test_the_first_error_ends_it_for_who_waits():
    hanging = threading.Event()

    def work(item):
        if item == 3:
            raise ValueError("odd")
        hanging.wait(60)

    begun = time.monotonic()
    with pytest.raises(ValueError, match="odd"):
        at_once(work, range(100))
    assert time.monotonic() - begun < 20
    hanging.set()
