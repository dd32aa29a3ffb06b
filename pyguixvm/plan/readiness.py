# SPDX-License-Identifier: GPL-3.0-or-later
"""When a machine counts as ready: pure policy; evidence and clock are arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, Protocol, assert_never

import msgspec

from pyguixvm.errors import EvaluationError
from pyguixvm.model.declaration import (
    AddressReady,
    ConsoleReady,
    GuestAgentReady,
    ReadyForm,
    TcpPortReady,
    VirtualMachine,
)
from pyguixvm.model.observation import State

_CONSOLE_TAIL = 20
# What the kernel says last (kernel/panic.c).
_PANIC = "Kernel panic - not syncing"


class Evidence(Protocol):
    """What can be seen of a guest; once it has begun, nothing of it is older than that."""

    def begun(self) -> bool:
        """Whether it has begun, and is not the one before any more."""

    def state(self) -> State:
        """Return the domain's state."""

    def addresses(self) -> tuple[str, ...]:
        """Return the addresses at the declared interfaces."""

    def sees_addresses(self) -> bool:
        """Whether an address would be seen even of a guest without agent."""

    def agent_answers(self) -> bool:
        """Whether the guest agent answers."""

    def console_lines(self) -> tuple[str, ...]:
        """Return the lines on the serial console."""

    def heard_all(self) -> bool:
        """Whether these are all since it was watched, as far as can be known."""

    def had_lease(self) -> bool:
        """Whether libvirt's own DHCP server had given the guest an address before it started."""

    def reaches_guest(self) -> bool:
        """Whether the guest's ports can be expected to be reachable from here."""

    def connect(self, address: str, port: int) -> bool:
        """Whether ADDRESS accepts a TCP connection to PORT."""


class Readiness(msgspec.Struct, frozen=True, rename="kebab"):
    """How the waiting ended.

    ``unverified`` means that what is missing could not have been observed.
    CONSOLE holds the console's last lines.  AGAINST: that it is not ready speaks against its
    generation, and not only for an address that is given in a way nobody sees.
    """

    outcome: Literal["ready", "not-ready", "unverified"]
    detail: str
    addresses: tuple[str, ...] = ()
    console: tuple[str, ...] = ()
    against: bool = True


def pattern_errors(machine: VirtualMachine) -> Iterator[EvaluationError]:
    """Yield what is wrong with console patterns of MACHINE that are no regular expressions."""
    for form in machine.ready:
        if isinstance(form, ConsoleReady):
            try:
                re.compile(form.pattern)
            except re.error as error:
                yield EvaluationError(
                    f"machine '{machine.name}': the console pattern {form.pattern!r} "
                    f"is no regular expression: {error}",
                    hint="Python's syntax applies: https://docs.python.org/3/library/re.html",
                    location=str(machine.location),
                )


def only_speaks(machine: VirtualMachine) -> bool:
    """Whether nothing shows MACHINE to be ready but what it says on its console when it boots."""
    return bool(machine.ready) and all(isinstance(form, ConsoleReady) for form in machine.ready)


def unheard(machine: VirtualMachine) -> VirtualMachine:
    """Return MACHINE as it can be seen ready while it runs, when nobody heard it boot.

    If it declares nothing but what it says on its console, an address has to do.
    """
    ready: tuple[ReadyForm, ...] = (AddressReady(),)
    if not only_speaks(machine):
        ready = tuple(form for form in machine.ready if not isinstance(form, ConsoleReady))
    return msgspec.structs.replace(machine, ready=ready)


class Watch:
    """What was seen so far; what was seen once counts."""

    def __init__(self, machine: VirtualMachine, evidence: Evidence) -> None:
        """Look for what MACHINE declares as ready in EVIDENCE; nothing is asked yet."""
        for error in pattern_errors(machine):
            raise error
        self._machine = machine
        self._evidence = evidence
        self.missing: tuple[ReadyForm, ...] = machine.ready
        self._seen: list[str] = []
        self._addresses: tuple[str, ...] = ()
        self._console: tuple[str, ...] = ()
        self._state: State = "running"
        self.begun = False

    def look(self) -> str | None:
        """Look once; return why it is in vain to look again, if it is."""
        self._state = self._evidence.state()
        self._console = self._evidence.console_lines()
        if self._state in ("shut off", "crashed"):
            happened = "crashed" if self._state == "crashed" else "stopped"
            return f"the guest {happened} before it was ready"
        self.begun = self._evidence.begun()
        if self.begun:
            self._look_for_signs()
        panic = next((line for line in self._console if _PANIC in line), None)
        return panic if panic and not self.complete() else None

    def _look_for_signs(self) -> None:
        self._addresses = self._evidence.addresses() or self._addresses
        missing = []
        for form in self.missing:
            found = self._find(form)
            if found is None:
                missing.append(form)
            else:
                self._seen.append(found)
        self.missing = tuple(missing)

    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.begun and not self.missing

    def wanted(self) -> str:
        """Say what is missing."""
        if not self.begun:
            return "another boot"
        return ", ".join(_words(form) for form in self.missing)

    def last_line(self) -> str:
        """Return the last line on the console that says anything."""
        return next((line for line in reversed(self._console) if line.strip()), "")

    def seen(self) -> str:
        """Say what was seen."""
        address = any(part.startswith("address") for part in self._seen)
        known = [f"address {self._addresses[0]}"] if self._addresses and not address else []
        return ", ".join([*known, *self._seen])

    def hopeless(self) -> bool:
        """Whether nothing that is missing can ever be seen: there is no interface."""
        return (
            self.begun
            and not self._machine.domain.networking
            and all(isinstance(form, AddressReady | TcpPortReady) for form in self.missing)
        )

    def timed_out(self) -> Readiness:
        """Judge what is missing at the end."""
        wanted = self.wanted()
        last = f"last seen: {self.seen() or 'nothing'}, domain {self._state}"
        found = self.readiness("not-ready", f"still missing: {wanted}; {last}")
        if not self.begun:
            return found
        if not any(self._observable(form) for form in self.missing):
            return self.readiness("unverified", f"cannot observe {wanted} from here; {last}")
        against = any(self._speaks_against(form) for form in self.missing)
        return msgspec.structs.replace(found, against=against)

    def readiness(
        self, outcome: Literal["ready", "not-ready", "unverified"], detail: str
    ) -> Readiness:
        """Return OUTCOME with all that goes with it."""
        return Readiness(
            outcome=outcome,
            detail=detail,
            addresses=self._addresses,
            console=self._console[-_CONSOLE_TAIL:],
        )

    def _find(self, form: ReadyForm) -> str | None:
        """Return what was seen of FORM, or None."""
        match form:
            case AddressReady():
                return f"address {self._addresses[0]}" if self._addresses else None
            case TcpPortReady(port=port):
                open_at = (a for a in self._addresses if self._evidence.connect(a, port))
                address = next(open_at, None)
                return None if address is None else f"port {port} open at {address}"
            case ConsoleReady(pattern=pattern):
                expression = re.compile(pattern)
                line = next((line for line in self._console if expression.search(line)), None)
                return None if line is None else f"console says {line.strip()!r}"
            case GuestAgentReady():
                return "guest agent answers" if self._evidence.agent_answers() else None
            case _:
                assert_never(form)

    def _observable(self, form: ReadyForm) -> bool:
        """Whether FORM would have been seen if it were so."""
        if not self._machine.domain.networking and isinstance(form, AddressReady | TcpPortReady):
            return False
        match form:
            case AddressReady():
                return self._evidence.sees_addresses()
            case TcpPortReady():
                return self._evidence.reaches_guest() and (
                    bool(self._addresses) or self._evidence.sees_addresses()
                )
            case ConsoleReady():
                return self._evidence.heard_all()
            case GuestAgentReady():
                return True
            case _:
                assert_never(form)

    def _speaks_against(self, form: ReadyForm) -> bool:
        """Whether it is for its generation that FORM was not seen.

        A guest with an address of its own choice asks for none.  Only one that had a lease
        before should have got one again.
        """
        match form:
            case AddressReady():
                return self._evidence.had_lease()
            case TcpPortReady():
                return bool(self._addresses) or self._evidence.had_lease()
            case ConsoleReady() | GuestAgentReady():
                return True
            case _:
                assert_never(form)


def _words(form: ReadyForm) -> str:
    match form:
        case AddressReady():
            return "an address"
        case TcpPortReady(port=port):
            return f"an open TCP port {port}"
        case ConsoleReady(pattern=pattern):
            return f"a console line that matches {pattern!r}"
        case GuestAgentReady():
            return "an answer of the guest agent"
        case _:
            assert_never(form)
