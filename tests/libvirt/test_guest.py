# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that really boots: console, addresses, agent, readiness, power."""

import json
import os
import pty
import select
import termios
import threading
import time
from pathlib import Path

import libvirt
import msgspec
import pytest
from editions import run

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.power import stop
from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.commands import listing
from pyguixvm.commands import power as requests
from pyguixvm.commands.session import Session
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import domains, power
from pyguixvm.hypervisor.guest.addresses import addresses
from pyguixvm.hypervisor.guest.evidence import boot, watch
from pyguixvm.hypervisor.terminal import attach
from pyguixvm.interruption import Interruption
from pyguixvm.model.declaration import (
    AddressReady,
    ConsoleReady,
    GuestAgentReady,
    Networking,
    TcpPortReady,
)
from pyguixvm.plan.actions import StopDomain
from pyguixvm.xml.text import parse


def boot_and_wait(connection, machine, seconds=90):
    with boot(connection, machine) as evidence:
        return wait_ready(machine, evidence, deadline=time.monotonic() + seconds)


def wait_for(evidence, text, times=1):
    deadline = time.monotonic() + 90
    while sum(text in line for line in evidence.console_lines()) < times:
        assert time.monotonic() < deadline, evidence.console_lines()
        time.sleep(0.2)


def test_a_guest_that_shows_all_that_was_declared_is_ready(connection, tiny_machine):
    machine = tiny_machine(
        "agent,button,dhcp,tcp",
        ready=(AddressReady(), TcpPortReady(2222), ConsoleReady("^tiny guest"), GuestAgentReady()),
    )
    found = boot_and_wait(connection, machine)
    assert found.outcome == "ready", found
    (address,) = found.addresses
    assert addresses(connection, machine.name) == (address,)
    for part in (f"address {address}", "port 2222", "'tiny guest is up'", "agent answers"):
        assert part in found.detail

    # The lease of the first run is still there; it is no evidence for the second.
    domains.destroy(connection, machine.name)
    with boot(connection, machine) as evidence:
        assert evidence.addresses() == ()
        wait_for(evidence, "bound to")
        assert evidence.addresses() == (address,)


@pytest.mark.parametrize("step", ["start_paused", "resume"])
def test_a_start_that_is_interrupted_leaves_no_paused_guest(
    connection, tiny_machine, monkeypatch, step
):
    """A paused guest counts as paused by a person, and no later deploy would let it run."""
    machine = tiny_machine("nothing")
    done = domains.start_paused

    def interrupted(connection, name):
        if step == "start_paused":
            done(connection, name)
        raise KeyboardInterrupt

    monkeypatch.setattr(domains, step, interrupted)
    with pytest.raises(KeyboardInterrupt), boot(connection, machine):
        pass
    assert domains.state(connection, machine.name) == "shut off"


def test_what_comes_just_before_it_runs_may_fail_as_well(connection, tiny_machine):
    machine, seen = tiny_machine("nothing"), []

    def failing():
        seen.append(domains.state(connection, machine.name))
        raise HypervisorError("it is not whole")

    with (
        pytest.raises(HypervisorError, match="not whole"),
        boot(connection, machine, first=lambda: seen.append("first"), at_last=failing),
    ):
        pass
    assert seen == ["first", "paused"]
    assert domains.state(connection, machine.name) == "shut off"


def test_a_guest_that_somebody_paused_is_not_powered_off(connection, tiny_machine):
    machine = tiny_machine("nothing")
    domains.start_paused(connection, machine.name)
    with pytest.raises(HypervisorError), boot(connection, machine):
        pass
    assert domains.state(connection, machine.name) == "paused"


def test_of_the_leases_of_an_interface_only_the_newest_is_an_address(connection, tiny_machine):
    """A network remembers, until they expire, the addresses that a MAC address had before."""
    machine = tiny_machine("dhcp")
    (interface,) = machine.domain.networking
    network = connection.handle.networkLookupByName(interface.network)
    bridge = parse(network.XMLDesc(0)).find("bridge").get("name")
    # What dnsmasq's helper of libvirt writes, and virNetworkGetDHCPLeases reads.
    status = Path(f"/var/lib/libvirt/dnsmasq/{bridge}.status")
    before = status.read_text() if status.exists() else ""
    now = int(time.time())

    def lease(address, expiry, mac=interface.mac_address):
        return {"ip-address": address, "mac-address": mac, "expiry-time": expiry}

    ours = [
        lease("192.168.122.201", now + 600),
        lease("192.168.122.202", now + 1200),
        lease("192.168.122.203", now + 900),
        lease("192.168.122.204", now + 1800, mac="52:54:00:00:00:01"),
    ]
    domains.start_paused(connection, machine.name)
    try:
        status.write_text(json.dumps([*json.loads(before or "[]"), *ours]))
        assert addresses(connection, machine.name) == ("192.168.122.202",)
        # One that never expires is newer than any.
        ours.append(lease("192.168.122.205", 0))
        status.write_text(json.dumps([*json.loads(before or "[]"), *ours]))
        assert addresses(connection, machine.name) == ("192.168.122.205",)
    finally:
        status.write_text(before)


def without_dhcp(connection, machine):
    """Have the guest of MACHINE get no address any more when it is started anew."""
    xml = connection.handle.lookupByName(machine.name).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    connection.handle.defineXML(xml.replace("does=dhcp", "does=nothing"))


def test_an_address_of_an_earlier_guest_is_none_of_the_one_that_runs(connection, tiny_machine):
    """Whoever comes when it boots already is not told the address of the one before."""
    machine = tiny_machine("dhcp")
    (address,) = boot_and_wait(connection, machine).addresses
    assert addresses(connection, machine.name) == (address,)
    domains.destroy(connection, machine.name)
    without_dhcp(connection, machine)
    with boot(connection, machine):
        pass
    assert addresses(connection, machine.name) == ()
    with watch(connection, machine) as evidence:
        assert evidence.addresses() == ()
        found = wait_ready(machine, evidence, deadline=time.monotonic())
    assert found.outcome == "not-ready"
    # Nothing of it is in what the next start begins with.
    definition = domains.whole_definition(connection, machine.name)
    assert "urn:pyguixvm:boot" not in definition
    domains.destroy(connection, machine.name)
    connection.handle.defineXML(definition.replace("does=nothing", "does=dhcp"))
    with boot(connection, machine):
        pass
    # It boots already, and is waited for.
    here = Session(uri="qemu:///system", options=(), environment={}, emit=ignore, forward=bytes)
    (done,) = requests.start(here, [machine.name])
    assert done.detail == f"was running already: address {address}"
    assert done.addresses == (address,)
    listed = {each.name: each for each in listing.listed(here, everything=False)}
    assert listed[machine.name].addresses == (address,)
    assert addresses(connection, machine.name) == (address,)


def test_a_console_that_somebody_has_open_from_the_first_line_is_no_hindrance(
    connection, tiny_machine
):
    machine = tiny_machine("dhcp")
    deadline = time.monotonic() + 90
    with boot(connection, machine) as complete, watch(connection, machine) as evidence:
        assert wait_ready(machine, evidence, deadline=deadline).outcome == "ready"
        prompting = msgspec.structs.replace(machine, ready=(ConsoleReady("tiny prompt: $"),))
        found = wait_ready(prompting, complete, deadline=deadline)
    assert found.outcome == "ready", found
    # Without colours, and with the prompt that no newline ends.
    assert "tiny guest is up" in found.console
    assert found.console[-1] == "tiny prompt: "


@pytest.mark.parametrize(("does", "says"), [("halt", "stopped"), ("panic", "Kernel panic")])
def test_a_guest_that_ends_is_not_ready_at_once(connection, tiny_machine, does, says):
    machine = tiny_machine(does, ready=(ConsoleReady("never"),))
    begun = time.monotonic()
    found = boot_and_wait(connection, machine, seconds=300)
    assert time.monotonic() - begun < 290
    assert found.outcome == "not-ready"
    assert says in found.detail
    assert found.console


def test_without_any_way_to_see_an_address_it_is_unverified(connection, tiny_machine):
    name = "isolated"
    network = connection.handle.networkCreateXML(
        f"<network><name>{name}</name><bridge name='virbr9'/></network>"
    )
    try:
        networking = (Networking(network=name, mac_address="52:54:00:99:99:99"),)
        machine = tiny_machine("nothing", networking=networking)
        found = boot_and_wait(connection, machine, seconds=1)
    finally:
        domains.destroy(connection, machine.name)
        network.destroy()
    assert found.outcome == "unverified"
    assert "cannot observe an address" in found.detail


@pytest.fixture
def terminal():
    """A person's end of a terminal, and the program's."""
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def read_until(descriptor, text):
    seen, deadline = b"", time.monotonic() + 90
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([descriptor], [], [], 1)[0]:
            seen += os.read(descriptor, 4096)
    return seen


def say_until_heard(descriptor, word):
    """Type WORD until the guest answers: what comes before the terminal is raw gets lost."""
    seen, deadline = b"", time.monotonic() + 90
    while b"you said " + word not in seen:
        assert time.monotonic() < deadline, seen
        os.write(descriptor, word + b"\r")
        while select.select([descriptor], [], [], 1)[0]:
            seen += os.read(descriptor, 4096)


def test_a_terminal_is_joined_with_the_console_until_the_escape(connection, tiny_machine, terminal):
    person, program = terminal
    before = termios.tcgetattr(program)
    name = tiny_machine("echo").name
    domains.start(connection, name)
    session = threading.Thread(target=attach, args=(connection, name, program, program))
    session.start()
    read_until(person, b"tiny prompt: ")
    os.write(person, b"hello\r")
    read_until(person, b"you said hello")
    os.write(person, b"\x1d")
    session.join(timeout=30)
    assert not session.is_alive()
    assert termios.tcgetattr(program) == before
    assert domains.state(connection, name) == "running"

    ended = threading.Thread(target=attach, args=(connection, name, program, program))
    ended.start()
    say_until_heard(person, b"again")
    domains.destroy(connection, name)
    ended.join(timeout=30)
    assert not ended.is_alive()
    with pytest.raises(RequestRefusedError, match="is not running"):
        attach(connection, name, program, program)


def test_the_agent_shuts_down_and_reboots(connection, edition):
    machine = msgspec.structs.replace(edition("one"), ready=(GuestAgentReady(),))
    with watch(connection, machine) as evidence:
        assert wait_ready(machine, evidence, deadline=time.monotonic() + 90).outcome == "ready"
        assert power.reboot(connection, machine.name, timeout=60) == "agent"
        wait_for(evidence, "tiny guest is up")
        while not evidence.agent_answers():
            time.sleep(0.2)
        assert power.shutdown(connection, machine.name, timeout=60) == "agent"
        assert evidence.state() == "shut off"
    assert power.shutdown(connection, machine.name, timeout=60) == "already"


def test_a_guest_is_cut_off_only_if_its_agent_freezes_its_file_systems(
    connection, edition, tiny_machine
):
    name = edition("one").name
    begun = time.monotonic()
    assert power.cut_off(connection, name)
    assert domains.state(connection, name) == "shut off"
    # Which is far less than it takes to shut down.
    assert time.monotonic() - begun < 10
    assert not power.cut_off(connection, name)
    deaf = tiny_machine("")
    with boot(connection, deaf):
        assert not power.cut_off(connection, deaf.name)
        assert domains.state(connection, deaf.name) == "running"


# As what shuts a Guix System down: it waits for the Shepherd, and that for the agent to end.
WAITING = """
mkdir -p /run/current-system/profile/sbin
for each in shutdown:poweroff reboot:reboot; do
    file=/run/current-system/profile/sbin/${each%:*}
    printf '#!/bin/sh\nkill $(pidof qemu-ga)\nwhile pidof qemu-ga; do sleep 0.1; done\n' > $file
    echo "${each#*:} -f" >> $file
    chmod +x $file
done
cp /run/current-system/profile/sbin/shutdown /sbin/shutdown
"""


@pytest.mark.parametrize("verb", [power.shutdown, power.reboot], ids=lambda verb: verb.__name__)
def test_the_agent_does_not_wait_for_what_waits_for_it(connection, edition, verb):
    name = edition("one").name
    run(connection, name, WAITING)
    assert verb(connection, name, timeout=40) == "agent"


def test_an_agent_that_comes_while_the_guest_boots_shuts_it_down(connection, tiny_machine):
    machine = tiny_machine("agent")
    with boot(connection, machine) as evidence:
        assert not evidence.agent_answers()
        assert power.shutdown(connection, machine.name, timeout=60) == "agent"


def test_the_power_button_reboots_and_a_guest_that_boots_and_misses_it_is_shut_down(
    connection, tiny_machine
):
    machine = tiny_machine("button")
    with boot(connection, machine) as evidence:
        wait_for(evidence, "tiny prompt")
        assert power.reboot(connection, machine.name, timeout=60) == "acpi"
        # The button is pressed again.
        assert power.shutdown(connection, machine.name, timeout=60) == "acpi"


def test_the_power_button_shuts_down_and_a_guest_that_boots_and_misses_it_is_rebooted(
    connection, tiny_machine
):
    machine = tiny_machine("button")
    with boot(connection, machine) as evidence:
        assert power.reboot(connection, machine.name, timeout=60) == "acpi"
        wait_for(evidence, "tiny prompt", times=2)
    assert power.shutdown(connection, machine.name, timeout=60) == "acpi"


def test_a_guest_that_is_deaf_goes_on_and_the_ways_out_are_said(connection, tiny_machine):
    machine = tiny_machine("nothing", ready=(ConsoleReady("tiny guest"), GuestAgentReady()))
    with boot(connection, machine) as evidence:
        wait_for(evidence, "tiny prompt")
        # What is missing at the deadline is said.
        found = wait_ready(machine, evidence, deadline=time.monotonic())
        assert found.outcome == "not-ready"
        assert "still missing: an answer of the guest agent" in found.detail
        assert "'tiny guest is up'" in found.detail
        for verb in (power.shutdown, power.reboot):
            with pytest.raises(RequestRefusedError, match="agent is not connected") as refusal:
                verb(connection, machine.name, timeout=1)
            assert f"pyguixvm destroy {machine.name}" in refusal.value.hint
            # In one second nobody can know.
            assert "may still react" in refusal.value.message
        assert evidence.state() == "running"
        # A person has agreed to lose what it has in memory, and does not want to wait.
        interruption = Interruption()

        def impatient():
            while not interruption.skippable:
                time.sleep(0.05)
            interruption.ask(by_hand=True)

        person = threading.Thread(target=impatient)
        person.start()
        workshop = Workshop(connection, ignore, {}, None, interruption=interruption)
        stop(machine.name, machine.name, StopDomain(timeout=600, force=True), workshop)
        person.join()
        assert evidence.state() == "shut off"
        assert interruption.asked == 0
    domains.start(connection, machine.name)
    connection.handle.lookupByName(machine.name).suspend()
    with pytest.raises(RequestRefusedError, match="is paused"):
        power.shutdown(connection, machine.name, timeout=1)
