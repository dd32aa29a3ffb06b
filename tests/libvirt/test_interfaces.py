# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces of a guest that runs come, go, and change."""

import itertools
import os
import time
from pathlib import Path

import libvirt
import msgspec
import pytest
from program import ran
from waiting import eventually

from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.hypervisor import domains, hotplug
from pyguixvm.hypervisor.guest.evidence import boot
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import ConsoleReady, Networking
from pyguixvm.plan.drift import differences, foreign_devices
from pyguixvm.xml.inspection import inspect_domain

UPDATE = Path(__file__).with_name("update_once.py")
_NUMBERS = itertools.count(1)


def update(machine):
    """Carry out what MACHINE, as it is declared now, takes."""
    return ran(UPDATE, msgspec.json.encode(machine).decode(), "never")


def interface(network="default"):
    number = next(_NUMBERS)
    return Networking(
        network=network, mac_address=f"52:54:01:{os.getpid() % 256:02x}:00:{number:02x}"
    )


@pytest.fixture
def running(connection, tiny_machine, pool):
    """A function that has a guest with INTERFACES run, and returns its machine."""

    def run(*interfaces):
        machine = tiny_machine(
            "button",
            ready=(ConsoleReady("tiny prompt"),),
            pool=pool.name,
            networking=interfaces,
        )
        first = Generation(
            number=1,
            date="2026-01-01T00:00:00+00:00",
            label="first",
            pool=pool.name,
            volume=f"pyguixvm-{machine.name}.g1.qcow2",
            image="/image",
            declaration=machine,
        )
        domains.write_metadata(connection, machine.name, Metadata(current=1, generations=(first,)))
        with boot(connection, machine) as evidence:
            assert wait_ready(machine, evidence, deadline=time.monotonic() + 90).outcome == "ready"
        return machine

    return run


@pytest.fixture
def other_network(connection, a_machine):
    name = a_machine().name
    handle = connection.handle.networkDefineXML(f"<network><name>{name}</name></network>")
    handle.create()
    yield name
    handle.destroy()
    handle.undefine()


def having(machine, *interfaces):
    return msgspec.structs.replace(
        machine, domain=msgspec.structs.replace(machine.domain, networking=interfaces)
    )


def interfaces_of(connection, machine, flags=0):
    xml = connection.handle.lookupByName(machine.name).XMLDesc(flags)
    return {i.mac_address: i.network for i in inspect_domain(xml).hardware.interfaces}


def require_as_declared(connection, machine):
    observed = observe(connection).domains[machine.name]
    assert observed.state == "running"
    assert differences(machine, observed) == ()
    assert foreign_devices(machine, observed) == ()
    wanted = {i.mac_address: i.network for i in machine.domain.networking}
    assert interfaces_of(connection, machine) == wanted


@pytest.mark.parametrize("count", [1, 2])
def test_a_running_guest_gets_other_addresses(connection, running, count):
    machine = running(*(interface() for _ in range(count)))
    other = having(machine, *(interface() for _ in range(count)))
    changed = update(other)
    assert changed.returncode == 0, changed.stderr
    require_as_declared(connection, other)


def test_two_interfaces_change_places(connection, running, other_network):
    one, two = interface(), interface(other_network)
    machine = running(one, two)
    swapped = having(
        machine,
        msgspec.structs.replace(one, network=two.network),
        msgspec.structs.replace(two, network=one.network),
    )
    changed = update(swapped)
    assert changed.returncode == 0, changed.stderr
    require_as_declared(connection, swapped)


def test_an_interface_finds_a_place_beside_what_somebody_else_plugged_in(connection, running):
    machine = running(interface())
    theirs = "52:54:02:00:00:01"
    connection.handle.lookupByName(machine.name).attachDevice(
        f"<interface type='network'><mac address='{theirs}'/><source network='default'/>"
        "<model type='virtio'/></interface>"
    )
    wanted = (*machine.domain.networking, interface())
    changed = update(having(machine, *wanted))
    assert changed.returncode == 0, changed.stderr
    assert set(interfaces_of(connection, machine)) == {*(i.mac_address for i in wanted), theirs}


def test_an_interface_that_a_guest_does_not_let_go_of_stays_ours(connection, running):
    machine = running(interface())
    other = having(machine, interface())
    handle = connection.handle.lookupByName(machine.name)
    before = domains.whole_definition(connection, machine.name)
    handle.suspend()
    refused = update(other)
    assert refused.returncode == 1
    assert "does not let go" in refused.stderr
    assert domains.whole_definition(connection, machine.name) == before
    observed = observe(connection).domains[machine.name]
    assert foreign_devices(other, observed) == ()
    handle.resume()
    mended = update(other)
    assert mended.returncode == 0, mended.stderr
    require_as_declared(connection, other)


def test_an_interface_that_a_guest_lets_go_of_just_then_is_gone(connection, running, monkeypatch):
    """As one does that was asked before, and had no time."""
    theirs = interface()
    machine = running(interface(), theirs)
    detach = libvirt.virDomain.detachDeviceFlags

    def lets_go(domain, xml, flags):
        monkeypatch.undo()
        detach(domain, xml, flags)
        eventually(lambda: theirs.mac_address not in interfaces_of(connection, machine))
        return detach(domain, xml, flags)

    monkeypatch.setattr(libvirt.virDomain, "detachDeviceFlags", lets_go)
    hotplug.detach_interface(connection, machine.name, theirs.mac_address)
    assert theirs.mac_address not in interfaces_of(connection, machine)
