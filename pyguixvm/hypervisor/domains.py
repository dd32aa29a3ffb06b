# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains: what virsh's verbs of the same names do, for our domains alone."""

from __future__ import annotations

import libvirt
import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.states import domain_state
from pyguixvm.model.applied import Metadata
from pyguixvm.model.observation import State
from pyguixvm.xml import metadata as our_metadata
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.text import parse

# Whatever libvirt keeps beside a definition goes with it; without NVRAM, a
# UEFI domain cannot be undefined at all.
_WITH_EVERYTHING = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


def define(connection: Connection, xml: str) -> None:
    """Define a domain by XML, or define it anew in place.

    Libvirt checks XML against its schema.  Raises `RequestRefusedError` if a
    domain of that name is not ours.
    """
    name = inspect_domain(xml).name
    if exists(connection, name):
        our_domain(connection, name)
    with explained(f"define domain '{name}'"):
        connection.handle.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)


def start(connection: Connection, name: str) -> None:
    """Start domain NAME."""
    domain = our_domain(connection, name)
    with explained(f"start domain '{name}'"):
        domain.create()


def start_paused(connection: Connection, name: str) -> None:
    """Start domain NAME without letting its guest run yet."""
    domain = our_domain(connection, name)
    with explained(f"start domain '{name}'"):
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)


def resume(connection: Connection, name: str) -> None:
    """Let the guest of domain NAME run."""
    domain = our_domain(connection, name)
    with explained(f"resume domain '{name}'"):
        domain.resume()


def set_autostart(connection: Connection, name: str, on: bool) -> None:
    """Start domain NAME together with its hypervisor from now on, or no longer."""
    domain = our_domain(connection, name)
    with explained(f"set autostart of domain '{name}'"):
        domain.setAutostart(int(on))


def destroy(connection: Connection, name: str) -> bool:
    """Power domain NAME off at once; False if it was not running."""
    domain = our_domain(connection, name)
    with explained(f"destroy domain '{name}'"):
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_OPERATION_INVALID) and not domain.isActive():
                return False
            raise
        return True


def undefine(connection: Connection, name: str) -> None:
    """Remove the definition of domain NAME, with its NVRAM; its volumes stay.

    Raises `RequestRefusedError` while it is active.
    """
    domain = our_domain(connection, name)
    with explained(f"undefine domain '{name}'"):
        if domain.isActive():
            raise RequestRefusedError(
                f"machine '{name}' is running",
                hint=f"'pyguixvm shutdown {name}' first, or 'pyguixvm destroy {name}'",
            )
        try:
            domain.undefineFlags(_WITH_EVERYTHING)
        except libvirt.libvirtError as error:
            if not is_code(error, libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
                raise
            domain.undefine()  # a driver without NVRAM and checkpoints


def write_metadata(connection: Connection, name: str, metadata: Metadata) -> None:
    """Let domain NAME remember METADATA, and its UUID; what other tools put there stays."""
    domain = our_domain(connection, name)
    metadata = msgspec.structs.replace(metadata, uuid=domain.UUIDString())
    with explained(f"write the metadata of domain '{name}'"):
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
        if domain.isActive():
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            our_metadata.metadata_xml(metadata),
            our_metadata.PREFIX,
            our_metadata.NAMESPACE,
            flags,
        )


def find_definition(connection: Connection, name: str) -> tuple[str, Metadata] | None:
    """Return the XML that domain NAME of ours starts from and what it remembers, or None.

    None means that there is no such domain; raises `RequestRefusedError` if it is not ours.
    """
    if not exists(connection, name):
        return None
    xml = inactive_xml(connection, name)
    return xml, _ours(connection, name, xml)


def read_metadata(connection: Connection, name: str) -> Metadata:
    """Return what domain NAME remembers; raises `RequestRefusedError` if it is not ours."""
    return _ours(connection, name, inactive_xml(connection, name))


def inactive_xml(connection: Connection, name: str) -> str:
    """Return the XML that domain NAME starts from, whoever it belongs to."""
    domain = _lookup(connection, name)
    with explained(f"read the definition of domain '{name}'"):
        xml: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return xml


def whole_definition(connection: Connection, name: str) -> str | None:
    """Return the XML to define domain NAME by exactly as it is, None if there is no such domain.

    It holds what is secret, passwords of displays for example: it is not to be shown.
    """
    if not exists(connection, name):
        return None
    domain = our_domain(connection, name)
    with explained(f"read the definition of domain '{name}'"):
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        xml: str = domain.XMLDesc(flags)
    return xml


def disks(connection: Connection, name: str) -> tuple[str, ...]:
    """Return the file names of the disks of domain NAME, their backing files left out."""
    return inspect_domain(inactive_xml(connection, name)).hardware.disks


def live_disks(connection: Connection, name: str) -> tuple[str, ...]:
    """Return the file names of the disks that domain NAME runs with, none if it does not run."""
    domain = _lookup(connection, name)
    with explained(f"look at the disks of domain '{name}'"):
        return inspect_domain(domain.XMLDesc(0)).hardware.disks if domain.isActive() else ()


def state(connection: Connection, name: str) -> State:
    """Return the state of domain NAME, whoever it belongs to."""
    domain = _lookup(connection, name)
    with explained(f"read the state of domain '{name}'"):
        return domain_state(domain)


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a domain NAME, whoever it belongs to."""
    with explained(f"look for domain '{name}'"):
        try:
            connection.handle.lookupByName(name)
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                return False
            raise
    return True


def our_domain(connection: Connection, name: str) -> libvirt.virDomain:
    """Return libvirt's own object of domain NAME, for this package only.

    Raises `RequestRefusedError` if it is not ours, or of a newer pyguixvm.
    """
    _ours(connection, name, inactive_xml(connection, name))
    return _lookup(connection, name)


def _lookup(connection: Connection, name: str) -> libvirt.virDomain:
    with explained(f"find machine '{name}' on {connection.uri}"):
        return connection.handle.lookupByName(name)


def _ours(connection: Connection, name: str, xml: str) -> Metadata:
    metadata = our_metadata.read_metadata(parse(xml), lambda other: exists(connection, other))
    if metadata is None:
        raise not_ours(name)
    return metadata


def not_ours(name: str) -> RequestRefusedError:
    """Return what is to be raised for domain NAME, which is somebody else's."""
    return RequestRefusedError(
        f"domain '{name}' was not made by pyguixvm: it is left alone",
        hint="use another name for the machine, or virsh for that domain",
    )
