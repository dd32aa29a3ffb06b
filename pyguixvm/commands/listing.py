# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of a hypervisor, a line each."""

from __future__ import annotations

from pyguixvm.commands.machines import is_ours
from pyguixvm.commands.session import Session
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.listed import Listed
from pyguixvm.model.observation import ObservedDomain


def listed(session: Session, *, everything: bool) -> tuple[Listed, ...]:
    """Return the machines of the session's hypervisor by name; EVERYTHING: other domains, too."""
    with connect(session.uri) as connection:
        domains_found = observe(connection, Depth.ADDRESSES, machines=()).domains.values()
        return tuple(
            _listed(domain)
            for domain in sorted(domains_found, key=lambda domain: domain.name)
            if everything or is_ours(domain)
        )


def _listed(domain: ObservedDomain) -> Listed:
    current = domain.metadata.generation if domain.metadata else None
    return Listed(
        name=domain.name,
        state=domain.state,
        cpu=(domain.live or domain.defined).cpu,
        memory=(domain.live or domain.defined).memory,
        autostart=domain.autostart,
        generation=current.number if current else None,
        label=current.label if current else domain.unreadable,
        addresses=domain.addresses,
    )
