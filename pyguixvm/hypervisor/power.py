# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a guest to stop or reboot: by its agent, then by the ACPI power button."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain, repeat
from typing import Literal, TypeAlias

import libvirt

from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Which, our_domain
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.guest import agent
from pyguixvm.hypervisor.happenings import ends, reboots
from pyguixvm.hypervisor.states import domain_state, state_and_reason
from pyguixvm.hypervisor.time_limits import SilenceError, within
from pyguixvm.interruption import LOOK_SECONDS
from pyguixvm.model.unreactive import require_reactive

Clock: TypeAlias = Callable[[], float]
# Whether the wait for a guest is over for a person.
Skipped: TypeAlias = Callable[[], bool]
Way: TypeAlias = Literal["agent", "acpi"]

# How often to look whether libvirt has forgotten to tell something.
_LOOK_SECONDS = 5.0
# A guest that is still booting misses the button: it is pressed again, at first soon, and
# every ten seconds in the end.
_PRESS_SECONDS = (1.0, 2.0, 4.0, 8.0)
_LONGEST_PRESS_SECONDS = 10.0
# So long (seconds) a guest may take to write all that is to be on its disks.
_FREEZE_SECONDS = 10.0
# In less time than this few guests stop, whatever they are.
_SOON_SECONDS = 15.0
_ABSENT = "is not connected"
# Where the Shepherd's are: guest-shutdown starts these in a Guix System, without arguments, too.
_PROGRAMS = "/run/current-system/profile/sbin"


class WaitSkippedError(RequestRefusedError):
    """Somebody does not want to wait any longer for a guest that shuts down."""


def shutdown(
    connection: Connection,
    name: Which,
    *,
    timeout: float,
    clock: Clock = time.monotonic,
    skipped: Skipped = lambda: False,
) -> Way | Literal["already"]:
    """Shut domain NAME down within TIMEOUT seconds; return what made it stop.

    A connected agent has half of the time, the power button the rest.  An agent that
    connects meanwhile has half of TIMEOUT from then on, even beyond it.
    Raises `RequestRefusedError` if the guest runs on nevertheless, and `WaitSkippedError` as
    soon as the wait is SKIPPED.
    """
    domain = our_domain(connection, name)
    with explained(f"shut down domain '{name}'"):
        state, reason = state_and_reason(domain)
        if state == "shut off":
            return "already"
        require_reactive(str(name), state, reason)
        with ends(connection, domain) as ended:
            way, unwilling = _persuade(
                domain,
                lambda: _by_agent(
                    domain,
                    "shutdown",
                    lambda: domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT),
                ),
                lambda: domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN),
                lambda deadline: _stops(domain, ended, deadline, clock, skipped),
                timeout=timeout,
                clock=clock,
            )
    if way is not None:
        return way
    raise RequestRefusedError(
        f"machine '{name}' still runs after {timeout:g} s: {_deaf(unwilling, timeout)}",
        hint="let the guest run qemu-guest-agent-service-type, or handle the power "
        "button (elogind does); 'ssh' into it and use 'halt', or power it off with "
        f"'pyguixvm destroy {name}'",
    )


def reboot(
    connection: Connection, name: Which, *, timeout: float, clock: Clock = time.monotonic
) -> Way:
    """Have the guest of domain NAME reboot, by its agent if it has one; return how.

    Returns when the guest begins anew; what has how much of TIMEOUT (seconds) is as in
    `shutdown`.  Raises `RequestRefusedError` if it does not reboot.
    """
    domain = our_domain(connection, name)
    with explained(f"reboot domain '{name}'"):
        _require_running(domain, name)
        with reboots(connection, domain) as begun:
            way, unwilling = _persuade(
                domain,
                lambda: _by_agent(
                    domain, "reboot", lambda: domain.reboot(libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT)
                ),
                # Libvirt starts the guest again when the button has stopped it.
                lambda: domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN),
                lambda deadline: begun.wait(max(0.0, deadline - clock())),
                timeout=timeout,
                clock=clock,
            )
    if way is not None:
        return way
    raise RequestRefusedError(
        f"machine '{name}' did not reboot within {timeout:g} s: {_deaf(unwilling, timeout)}",
        hint=f"'ssh' into it and use 'reboot', or 'pyguixvm destroy {name}' and "
        f"'pyguixvm start {name}'",
    )


def _persuade(
    domain: libvirt.virDomain,
    ask: Callable[[], object],
    press: Callable[[], object],
    over: Callable[[float], bool],
    *,
    timeout: float,
    clock: Clock,
) -> tuple[Way | None, str | None]:
    """ASK the agent of DOMAIN, then PRESS the button until it is OVER; return by what it was.

    With that, why its agent did not take the request, if it did not.
    """
    begun = clock()
    deadline = begun + timeout
    pauses = chain(_PRESS_SECONDS, repeat(_LONGEST_PRESS_SECONDS))
    unwilling = _agent(domain, timeout / 2, ask)
    if unwilling is None and over(begun + timeout / 2):
        return "agent", unwilling
    pressed = False
    while clock() < deadline:
        # A guest that is still booting gets its agent while the button is pressed in vain.
        late = False
        if unwilling == _ABSENT and pressed:
            unwilling = _agent(domain, timeout / 2, ask)
            late = unwilling is None
        if late:
            deadline = max(deadline, clock() + timeout / 2)
        else:
            _press(press)
            pressed = True
        if over(min(clock() + next(pauses), deadline)):
            return ("agent" if late else "acpi"), unwilling
    return None, unwilling


def _by_agent(domain: libvirt.virDomain, program: str, otherwise: Callable[[], object]) -> None:
    """Have the agent of DOMAIN start PROGRAM of a Guix System, or do OTHERWISE if it does not.

    What guest-shutdown starts, the agent waits for; in a Guix System, that waits for the
    Shepherd, which waits for the agent to end, until it kills it after 5 s.  The agent does
    not wait for what guest-exec starts.
    """
    if agent.ask(domain, "guest-exec", dict[str, object], path=f"{_PROGRAMS}/{program}") is None:
        otherwise()


def _heard(ended: threading.Event, seconds: float, skipped: Skipped) -> bool:
    """Wait for ENDED for SECONDS; whether it came.  Raises WaitSkippedError."""
    for _ in range(max(1, round(seconds / LOOK_SECONDS))):
        if ended.wait(min(seconds, LOOK_SECONDS)):
            return True
        if skipped():
            raise WaitSkippedError("its guest shuts down still, and is not waited for")
    return False


def cut_off(connection: Connection, name: Which) -> bool:
    """Power domain NAME off as soon as its agent has frozen all that its guest has mounted.

    What programs have written is on its disks then, and their file systems are whole; what
    they have not, is lost.  Return False if its agent does not do that: then it goes on.
    """
    domain = our_domain(connection, name)
    with explained(f"power off domain '{name}'"):
        if domain_state(domain) != "running":
            return False
        try:
            if _agent(domain, _FREEZE_SECONDS, domain.fsFreeze) is None:
                domains.destroy(connection, name)
                return True
        except BaseException:
            _thaw(domain)
            raise
        # One that says nothing may have done it all the same.
        _thaw(domain)
        return False


def _thaw(domain: libvirt.virDomain) -> None:
    if agent.connected(domain):
        with suppress(libvirt.libvirtError, SilenceError):
            within(_FREEZE_SECONDS, "thaw the file systems of a guest", domain.fsThaw)


def _deaf(unwilling: str | None, timeout: float) -> str:
    did = "did not manage it" if unwilling is None else unwilling
    if timeout < _SOON_SECONDS:
        return f"its guest agent {did}; the power button was pressed, and it may still react"
    return f"its guest agent {did}, and it does not react to the ACPI power button"


def _require_running(domain: libvirt.virDomain, name: Which) -> None:
    state, reason = state_and_reason(domain)
    if state == "shut off":
        raise RequestRefusedError(f"machine '{name}' is not running")
    require_reactive(str(name), state, reason)


def _agent(domain: libvirt.virDomain, seconds: float, ask: Callable[[], object]) -> str | None:
    """ASK the guest agent if one is connected; return None if it took the request, or why not.

    Libvirt would wait for it for a minute: so long the request goes on, but not we.
    """
    if not agent.connected(domain):
        return _ABSENT
    try:
        within(seconds, "ask the guest agent", ask)
    except SilenceError:
        return "does not answer"
    except libvirt.libvirtError as error:
        if not domain.isActive():
            return None  # it went away before it could answer
        unheard = is_code(error, libvirt.VIR_ERR_AGENT_UNRESPONSIVE)
        return "does not answer" if unheard else f"cannot ({error.get_error_message()})"
    return None


def _press(button: Callable[[], object]) -> None:
    """Press the BUTTON; a guest that stopped in this moment is fine."""
    try:
        button()
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_OPERATION_INVALID):
            raise


def _stops(
    domain: libvirt.virDomain,
    ended: threading.Event,
    deadline: float,
    clock: Clock,
    skipped: Skipped,
) -> bool:
    """Wait for DOMAIN to stop until DEADLINE; whether it did: libvirt says so by ENDED.

    Raises WaitSkippedError if that is SKIPPED meanwhile.
    """
    while domain.isActive():
        left = deadline - clock()
        if left <= 0:
            return False
        if _heard(ended, min(left, _LOOK_SECONDS), skipped):
            return True
    return True
