# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains that are gone when they stop, and when the connection that started them ends."""

from __future__ import annotations

import libvirt

from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained


def start_paused(connection: Connection, name: str, xml: str) -> None:
    """Start the domain NAME that XML describes, without defining it or letting its guest run."""
    flags = (
        libvirt.VIR_DOMAIN_START_PAUSED
        | libvirt.VIR_DOMAIN_START_AUTODESTROY
        | libvirt.VIR_DOMAIN_START_VALIDATE
    )
    with explained(f"start domain '{name}'"):
        connection.handle.createXML(xml, flags)


def require_free(connection: Connection, name: str) -> None:
    """Raise RequestRefusedError if NAME is that of a domain which stays."""
    if not domains.exists(connection, name):
        return
    with explained(f"look at domain '{name}'"):
        if connection.handle.lookupByName(name).isPersistent():
            raise RequestRefusedError(
                f"the throwaway copy would be called '{name}', and there is a domain of that name",
                hint="Nothing was done to it. Rename it, or deploy without --test.",
            )


def discard(connection: Connection, name: str, xml: str, *, nvram: bool) -> None:
    """Power domain NAME off, if it runs; with NVRAM, remove that of the domain of XML, too."""
    if domains.exists(connection, name):
        domains.destroy(connection, name)
    if nvram:
        # Libvirt leaves what a transient domain kept there; only undefining removes it.
        domains.define(connection, xml)
        domains.undefine(connection, name)
