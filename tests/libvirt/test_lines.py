# SPDX-License-Identifier: GPL-3.0-or-later
"""Over a long line, what is asked goes out together."""

import dataclasses
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest
from deploying import changed, renewed, session, some_metadata
from relay import relayed

from pyguixvm.commands.deploy import deploy
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.commands.status import Asked, sighted
from pyguixvm.events import ignore
from pyguixvm.plan.plan import Policy
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


def test_another_root_takes_few_round_trips(halting, tmp_path):
    # The first one sends the base volume.  The second one's line is so long that what is asked
    # together goes out together beside any other work here.
    for title, later in (("first", 0.0), ("second", 0.15)):
        with relayed(tmp_path / "line", later=later, rate=0) as relay:
            here = dataclasses.replace(session(tmp_path), uri=relay.uri)
            machine = changed(renewed(halting, tmp_path), title=title)
            machine = msgspec.structs.replace(
                machine, image=msgspec.structs.replace(machine.image, modified=int(later * 100))
            )
            policy = Policy(force=True, stop_timeout=1)
            with observed(here, [machine], policy=policy) as planned:
                (outcome,) = deploy(here, Path("config.scm"), planned)
            assert outcome.error is None
            traffic = relay.traffic()
    assert traffic.trips <= 72, traffic
