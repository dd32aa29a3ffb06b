# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that was started, and that nobody has seen ready since, does not count as deployed."""

import msgspec
import pytest
from deploying import MIB, changed, deploy, planned, renewed

from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.declaration import AddressReady, ConsoleReady
from pyguixvm.plan.status import statuses


def waiting_for(machine, *signs):
    return msgspec.structs.replace(machine, ready=signs, ready_timeout=1)


def status_of(connection, machine):
    (found,) = statuses([machine], observe(connection))
    return found.status, found.differences


def started_new(connection, machine):
    """Have a first generation that nobody waited for."""
    domains.destroy(connection, machine.name)
    metadata = domains.read_metadata(connection, machine.name)
    first = msgspec.structs.replace(metadata.generation, unseen=True)
    domains.write_metadata(connection, machine.name, metadata.having(first))
    domains.start(connection, machine.name)
    return machine


def restarted(connection, machine):
    more = machine.domain.memory + 4 * MIB
    machine = changed(machine, memory=more, maximum_memory=more)
    silent = waiting_for(machine, ConsoleReady("never"))
    assert deploy(connection, silent, force=True, stop_timeout=1).status == 7
    return silent


def started_again(connection, machine):
    silent = waiting_for(machine, ConsoleReady("never"))
    assert deploy(connection, silent) is None
    domains.destroy(connection, machine.name)
    assert deploy(connection, silent).status == 7
    return silent


@pytest.mark.parametrize("begin", [started_new, restarted, started_again])
def test_the_next_deployment_waits_again_for_what_was_never_seen(connection, halting, begin):
    assert status_of(connection, halting) == ("deployed", ())
    machine = begin(connection, halting)
    assert status_of(connection, machine) == ("not seen ready", ())
    # Its console is heard when it boots only: it is not restarted for that.
    assert planned(connection, machine).actions == ()
    asked = waiting_for(machine, AddressReady())
    for _ in range(2):
        assert deploy(connection, asked).status == 7
        assert status_of(connection, asked) == ("not seen ready", ())
    seen = waiting_for(machine)
    assert deploy(connection, seen) is None
    assert status_of(connection, seen) == ("deployed", ())
    assert planned(connection, seen).actions == ()


def test_a_guest_with_an_address_of_its_own_choice_is_not_taken_back(connection, halting, tmp_path):
    """Its network gives addresses, and it asks for none: that nobody sees one says nothing."""
    wanted = waiting_for(renewed(halting, tmp_path), AddressReady())
    said = []
    assert deploy(connection, wanted, said.append, force=True, stop_timeout=1) is None
    assert any("not verified: still missing: an address" in str(each) for each in said)
    assert domains.read_metadata(connection, halting.name).current == 2
    assert status_of(connection, wanted) == ("deployed", ())
    # What it should have said on its console is another matter.
    (tmp_path / "next").mkdir()
    silent = waiting_for(renewed(wanted, tmp_path / "next"), ConsoleReady("never"))
    assert deploy(connection, silent, force=True, stop_timeout=1).status == 6
    assert domains.read_metadata(connection, halting.name).current == 2


def test_a_guest_that_was_seen_before_is_taken_back_when_it_is_not(connection, halting, tmp_path):
    """The lease of a guest that was off for a while says nothing any more; its record does."""
    seen = waiting_for(renewed(halting, tmp_path), AddressReady())
    assert deploy(connection, seen, force=True, stop_timeout=1) is None
    metadata = domains.read_metadata(connection, halting.name)
    assert metadata.generation.unverified
    # As if it had been seen.
    verified = msgspec.structs.replace(metadata.generation, unverified=False)
    domains.write_metadata(connection, halting.name, metadata.having(verified))
    (tmp_path / "next").mkdir()
    error = deploy(connection, renewed(seen, tmp_path / "next"), force=True, stop_timeout=1)
    assert error.status == 6
    assert domains.read_metadata(connection, halting.name).current == 2
