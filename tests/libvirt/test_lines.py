# SPDX-License-Identifier: GPL-3.0-or-later
"""Over a long line, what is asked goes out together."""

import os
import sys
import time

import pytest
from deploying import some_metadata
from relay import relayed

from pyguixvm.commands.session import Session
from pyguixvm.commands.status import Asked, sighted
from pyguixvm.events import ignore
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
