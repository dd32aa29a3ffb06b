# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of domains, in words."""

from __future__ import annotations

from contextlib import suppress

import libvirt

from pyguixvm.hypervisor.errors import is_code
from pyguixvm.model.observation import State

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


def all_states(connection: libvirt.virConnect) -> list[tuple[libvirt.virDomain, State]]:
    """Return all domains with the states that they are in: one request, where there is that.

    Raises libvirtError.
    """
    try:
        found = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_NO_SUPPORT):
            raise
        return [(domain, domain_state(domain)) for domain in connection.listAllDomains(0)]
    return [(domain, _STATES.get(stats["state.state"], "running")) for domain, stats in found]


def has_kept_memory(domain: libvirt.virDomain) -> bool:
    """Whether libvirt keeps memory of DOMAIN, which its guest goes on from; it does not run."""
    with suppress(libvirt.libvirtError):  # a driver that cannot
        return bool(domain.hasManagedSaveImage())
    return False


def domain_state(domain: libvirt.virDomain) -> State:
    """Return the state that DOMAIN is in now."""
    return _STATES.get(domain.state()[0], "running")
