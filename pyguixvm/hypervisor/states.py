# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of domains, in words."""

from __future__ import annotations

import libvirt

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


def domain_state(domain: libvirt.virDomain) -> State:
    """Return the state that DOMAIN is in now."""
    return _STATES.get(domain.state()[0], "running")
