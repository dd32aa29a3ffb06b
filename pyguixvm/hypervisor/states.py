# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of domains, in words."""

from __future__ import annotations

from contextlib import suppress

import libvirt

from pyguixvm.hypervisor.errors import is_code
from pyguixvm.model.observation import IO_ERROR, MIGRATED, State

# virDomainState.  SHUTDOWN means "being shut down": the guest still runs.
_STATES: dict[int, State] = {
    libvirt.VIR_DOMAIN_NOSTATE: "running",
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "running",
    libvirt.VIR_DOMAIN_SHUTOFF: "shut off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}


# Why a domain is in a state that asks for a reason; libvirt's words for a start are no news.
_REASONS: dict[int, dict[int, str]] = {
    libvirt.VIR_DOMAIN_PAUSED: {
        libvirt.VIR_DOMAIN_PAUSED_USER: "by somebody",
        libvirt.VIR_DOMAIN_PAUSED_MIGRATION: "for a migration",
        libvirt.VIR_DOMAIN_PAUSED_SAVE: "to save its memory",
        libvirt.VIR_DOMAIN_PAUSED_DUMP: "for a dump",
        libvirt.VIR_DOMAIN_PAUSED_IOERROR: IO_ERROR,
        libvirt.VIR_DOMAIN_PAUSED_WATCHDOG: "by its watchdog",
        libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT: "since it came from a snapshot",
        libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN: "while it shuts down",
        libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT: "for a snapshot",
        libvirt.VIR_DOMAIN_PAUSED_CRASHED: "since its guest crashed",
        libvirt.VIR_DOMAIN_PAUSED_STARTING_UP: "while it starts",
        libvirt.VIR_DOMAIN_PAUSED_POSTCOPY: "for a migration",
        libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED: "by a failed migration",
    },
    libvirt.VIR_DOMAIN_SHUTOFF: {
        libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN: "its guest shut down",
        libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED: "powered off by somebody",
        libvirt.VIR_DOMAIN_SHUTOFF_CRASHED: "its guest, or its QEMU, crashed",
        libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED: MIGRATED,
        libvirt.VIR_DOMAIN_SHUTOFF_SAVED: "its memory was saved",
        libvirt.VIR_DOMAIN_SHUTOFF_FAILED: "it failed to start, or its QEMU ended",
        libvirt.VIR_DOMAIN_SHUTOFF_DAEMON: "libvirtd ended it",
    },
    libvirt.VIR_DOMAIN_CRASHED: {libvirt.VIR_DOMAIN_CRASHED_PANICKED: "since its kernel panicked"},
}


def reason_of(state: int, reason: int) -> str | None:
    """Return why a domain is in STATE, which libvirt gives the number REASON, if that is known."""
    return _REASONS.get(state, {}).get(reason)


def all_states(
    connection: libvirt.virConnect,
) -> list[tuple[libvirt.virDomain, State, str | None]]:
    """Return all domains with the states that they are in, and why: one request where possible.

    Raises libvirtError.
    """
    try:
        found = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_NO_SUPPORT):
            raise
        asked = ((domain, *domain.state()[:2]) for domain in connection.listAllDomains(0))
    else:
        asked = ((domain, each["state.state"], each["state.reason"]) for domain, each in found)
    return [
        (domain, _named(domain, state), reason_of(state, reason)) for domain, state, reason in asked
    ]


def has_kept_memory(domain: libvirt.virDomain) -> bool:
    """Whether libvirt keeps memory of DOMAIN, which its guest goes on from; it does not run."""
    with suppress(libvirt.libvirtError):  # a driver that cannot
        return bool(domain.hasManagedSaveImage())
    return False


def domain_state(domain: libvirt.virDomain) -> State:
    """Return the state that DOMAIN is in now."""
    return state_and_reason(domain)[0]


def state_and_reason(domain: libvirt.virDomain) -> tuple[State, str | None]:
    """Return the state that DOMAIN is in now, and why, if that is known."""
    state, reason = domain.state()[:2]
    return _named(domain, state), reason_of(state, reason)


def _named(domain: libvirt.virDomain, state: int) -> State:
    """Return the name of STATE, which DOMAIN is in: what crashed and is off is shut off.

    A hypervisor may keep a guest that crashed, for somebody who looks at what it held.
    """
    if state == libvirt.VIR_DOMAIN_CRASHED and not domain.isActive():
        return "shut off"
    return _STATES.get(state, "running")
