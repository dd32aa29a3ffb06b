# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains that are gone when they stop, and when the connection that started them ends."""

from __future__ import annotations

from contextlib import suppress

import libvirt

from pyguixvm.errors import PyguixvmError, RequestRefusedError
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


def clear(connection: Connection, name: str, volume: str) -> None:
    """Have no domain NAME, be it a copy on VOLUME that a run which was killed has left.

    Raises RequestRefusedError if it is a domain that stays.
    """
    if not domains.exists(connection, name):
        return
    with explained(f"look at domain '{name}'"):
        stays = bool(connection.handle.lookupByName(name).isPersistent())
    if stays and not _is_copy(connection, name, volume):
        raise RequestRefusedError(
            f"the throwaway copy would be called '{name}', and there is a domain of that name",
            hint="Nothing was done to it. Rename it, or deploy without --test.",
        )
    _end(connection, name, stays=stays)


def remove_copy(connection: Connection, name: str) -> None:
    """Power off and remove domain NAME, a copy that a run which was killed has left."""
    if domains.exists(connection, name):
        with explained(f"look at domain '{name}'"):
            stays = bool(connection.handle.lookupByName(name).isPersistent())
        _end(connection, name, stays=stays)


def _end(connection: Connection, name: str, *, stays: bool) -> None:
    domains.destroy(connection, name)
    if stays:
        # Defined for a moment, to be rid of what it had beside its volumes.
        domains.undefine(connection, name)


def _is_copy(connection: Connection, name: str, volume: str) -> bool:
    """Whether domain NAME is remembered to have VOLUME for its root, as no machine has."""
    with suppress(PyguixvmError):
        return domains.read_metadata(connection, name).generation.volume == volume
    return False


def discard(connection: Connection, name: str, xml: str, *, nvram: bool) -> None:
    """Power domain NAME off, if it runs; with NVRAM, remove that of the domain of XML, too."""
    if domains.exists(connection, name):
        domains.destroy(connection, name)
    if nvram:
        # Libvirt leaves what a transient domain kept there; only undefining removes it.
        domains.define(connection, xml)
        domains.undefine(connection, name)
