# SPDX-License-Identifier: GPL-3.0-or-later
"""When a machine counts as ready."""

import pytest

from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.errors import EvaluationError
from pyguixvm.events import Waiting
from pyguixvm.model.declaration import (
    AddressReady,
    ConsoleReady,
    GuestAgentReady,
    LibvirtDomain,
    Location,
    Networking,
    TcpPortReady,
    VirtualMachine,
)
from pyguixvm.model.image import LocalImage

ADDRESS = "192.168.122.45"
CARD = Networking(network="default", mac_address="52:54:00:00:00:01")


def machine(*ready, networking=(CARD,)):
    return VirtualMachine(
        name="web",
        location=Location(file="config.scm", line=3, column=2),
        image=LocalImage(path="/i", format="raw", size=1, modified=1),
        domain=LibvirtDomain(
            cpu=1,
            maximum_cpu=1,
            memory=1,
            maximum_memory=1,
            storage=1,
            networking=networking,
            kernel_arguments=(),
            autostart=False,
            pool="default",
            firmware="bios",
            virtualization="auto",
        ),
        ready=ready,
        ready_timeout=120,
    )


class Guest:
    """A guest with its own clock: each fact is true from some second on, None is never."""

    def __init__(
        self, *, address=None, agent=None, ports=None, console=(), ends=None, sees=True, near=True,
        leased=False, begins=0, cut=False,
    ):  # fmt: skip
        self.now = 0.0
        self._address, self._agent, self._ports = address, agent, ports or {}
        self._console, self._ends = console, ends or (None, None)
        self._sees, self._near, self._leased, self._cut = sees, near, leased, cut
        self._begins = begins

    def _since(self, second):
        return second is not None and self.now >= second

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def begun(self):
        return self._since(self._begins)

    def state(self):
        second, state = self._ends
        return state if self._since(second) else "running"

    def addresses(self):
        return (ADDRESS,) if self._since(self._address) else ()

    def had_lease(self):
        return self._leased

    def sees_addresses(self):
        return self._sees

    def agent_answers(self):
        return self._since(self._agent)

    def console_lines(self):
        return tuple(line for second, line in self._console if self._since(second))

    def heard_all(self):
        return not self._cut

    def reaches_guest(self):
        return self._near

    def connect(self, address, port):
        return address == ADDRESS and self._near and self._since(self._ports.get(port))


def wait(a_machine, guest, deadline=120):
    return wait_ready(a_machine, guest, deadline=deadline, clock=guest.clock, sleep=guest.sleep)


@pytest.mark.parametrize("ready", [(), (AddressReady(),), (GuestAgentReady(),)])
def test_until_a_guest_has_begun_what_is_seen_is_of_the_one_before(ready):
    guest = Guest(address=0, agent=0, begins=5)
    assert wait(machine(*ready), guest).outcome == "ready"
    assert guest.now == 5
    again = wait(machine(*ready), Guest(address=0, agent=0, begins=None))
    assert (again.outcome, again.against) == ("not-ready", True)
    assert "another boot" in again.detail


def test_a_guest_that_panics_before_it_has_begun_is_not_waited_for():
    guest = Guest(console=[(2, "Kernel panic - not syncing: nothing")], begins=None)
    assert wait(machine(), guest).outcome == "not-ready"
    assert guest.now == 2


def test_what_is_missing_and_the_consoles_last_line_are_told_as_often_as_they_change():
    guest = Guest(address=3, agent=2, console=[(1, "GRUB"), (2, "Linux"), (2, "")])
    told = []
    declared = machine(AddressReady(), GuestAgentReady())
    wait_ready(
        declared, guest, deadline=120, emit=told.append, clock=guest.clock, sleep=guest.sleep
    )
    both = "an address, an answer of the guest agent"
    assert told == [
        Waiting("web", both, 120, ""),
        Waiting("web", both, 119, "GRUB"),
        Waiting("web", "an address", 118, "Linux"),
    ]


PANIC = "[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs"

CASES = {
    "what asks for nothing": ((), Guest(), "ready", "nothing is to be waited for", 0),
    "an address": ((AddressReady(),), Guest(address=7), "ready", f"address {ADDRESS}", 7),
    "a port": (
        (TcpPortReady(22),),
        Guest(address=3, ports={22: 9}),
        "ready",
        f"port 22 open at {ADDRESS}",
        9,
    ),
    "another port": (
        (TcpPortReady(22),),
        Guest(address=3, ports={80: 9}),
        "not-ready",
        "still missing: an open TCP port 22; last seen: address 192.168.122.45",
        120,
    ),
    "a console line": (
        (ConsoleReady("login:$"),),
        Guest(console=((1, "no login: here"), (5, "web login:"))),
        "ready",
        "console says 'web login:'",
        5,
    ),
    "the agent": ((GuestAgentReady(),), Guest(agent=4), "ready", "guest agent answers", 4),
    "all that is declared": (
        (GuestAgentReady(), ConsoleReady("up")),
        Guest(agent=4, console=((30, "up"),)),
        "ready",
        "guest agent answers, console says 'up'",
        30,
    ),
    "one of two": (
        (GuestAgentReady(), ConsoleReady("up")),
        Guest(agent=4),
        "not-ready",
        "still missing: a console line that matches 'up'; last seen: guest agent answers, "
        "domain running",
        120,
    ),
    "nothing": (
        (AddressReady(),),
        Guest(),
        "not-ready",
        "still missing: an address; last seen: nothing",
        120,
    ),
    "stopped": (
        (AddressReady(),),
        Guest(ends=(10, "shut off")),
        "not-ready",
        "the guest stopped before",
        10,
    ),
    "crashed": (
        (AddressReady(),),
        Guest(ends=(10, "crashed")),
        "not-ready",
        "the guest crashed before",
        10,
    ),
    "paused": ((AddressReady(),), Guest(ends=(10, "paused")), "not-ready", "domain paused", 120),
    "panic": ((AddressReady(),), Guest(console=((6, PANIC),)), "not-ready", PANIC, 6),
    "a bridge without agent": (
        (AddressReady(),),
        Guest(sees=False),
        "unverified",
        "cannot observe an address from here",
        120,
    ),
    "a bridge with agent": (
        (AddressReady(),),
        Guest(sees=False, address=8),
        "ready",
        f"address {ADDRESS}",
        8,
    ),
    "a port of a guest elsewhere": (
        (TcpPortReady(22),),
        Guest(address=3, near=False),
        "unverified",
        "cannot observe an open TCP port 22 from here; last seen: address 192.168.122.45",
        120,
    ),
    "words that may have been said while the line was cut": (
        (ConsoleReady("up"),),
        Guest(cut=True),
        "unverified",
        "cannot observe a console line that matches 'up' from here",
        120,
    ),
    "words that were said all the same": (
        (ConsoleReady("up"),),
        Guest(cut=True, console=((4, "up"),)),
        "ready",
        "up",
        4,
    ),
    "something that could have been seen": (
        (AddressReady(), GuestAgentReady()),
        Guest(sees=False),
        "not-ready",
        "still missing: an address, an answer of the guest agent",
        120,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_outcome_and_time(case):
    ready, guest, outcome, detail, second = CASES[case]
    found = wait(machine(*ready), guest)
    assert (found.outcome, guest.now) == (outcome, second)
    assert detail in found.detail


@pytest.mark.parametrize("form", [AddressReady(), TcpPortReady(22)])
def test_without_interfaces_nobody_waits_for_an_address(form):
    guest = Guest()
    found = wait(machine(form, networking=()), guest)
    assert (found.outcome, guest.now) == ("unverified", 0)


def test_a_machine_without_interfaces_can_still_speak_on_its_console():
    guest = Guest(console=((5, "up"),))
    assert wait(machine(ConsoleReady("up"), networking=()), guest).outcome == "ready"


def test_what_was_seen_once_counts():
    class Flickering(Guest):
        def agent_answers(self):
            return self.now == 2

    guest = Flickering(console=((9, "up"),))
    assert wait(machine(GuestAgentReady(), ConsoleReady("up")), guest).outcome == "ready"


def test_what_is_there_at_the_deadline_is_still_seen():
    assert wait(machine(AddressReady()), Guest(address=0), deadline=-1).outcome == "ready"


def test_the_last_twenty_lines_are_kept():
    lines = tuple((0, f"line {i}") for i in range(100))
    found = wait(machine(AddressReady()), Guest(console=lines))
    assert found.console == tuple(f"line {i}" for i in range(80, 100))


def test_a_pattern_that_is_none_is_refused_before_anything_is_waited_for():
    guest = Guest()
    with pytest.raises(EvaluationError, match="'\\(login' is no regular expression") as refusal:
        wait(machine(ConsoleReady("(login")), guest)
    assert refusal.value.location == "config.scm:3:2"
    assert guest.now == 0


@pytest.mark.parametrize(
    ("form", "guest", "against"),
    [
        (AddressReady(), Guest(), False),
        (AddressReady(), Guest(leased=True), True),
        (TcpPortReady(22), Guest(), False),
        (TcpPortReady(22), Guest(leased=True), True),
        (TcpPortReady(22), Guest(address=0), True),
        (ConsoleReady("up"), Guest(), True),
        (GuestAgentReady(), Guest(), True),
        (AddressReady(), Guest(ends=(1, "shut off")), True),
        (AddressReady(), Guest(console=((1, "Kernel panic - not syncing"),)), True),
    ],
)
def test_what_is_not_seen_speaks_against_a_guest_only_if_it_should_have_been(form, guest, against):
    found = wait_ready(machine(form), guest, deadline=3, clock=guest.clock, sleep=guest.sleep)
    assert (found.outcome, found.against) == ("not-ready", against)
