# SPDX-License-Identifier: GPL-3.0-or-later
"""Domains: what virsh's verbs of the same names do, for our domains alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import libvirt
import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.states import domain_state, has_kept_memory, state_and_reason
from pyguixvm.model import unreactive
from pyguixvm.model.applied import Metadata
from pyguixvm.model.observation import State, disks_of
from pyguixvm.xml import metadata as our_metadata
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.text import parse

# Whatever libvirt keeps beside a definition goes with it.  Of NVRAM it has to be told what becomes
# of it, or a UEFI domain cannot be undefined at all.
_WITH_ALL_OF_LIBVIRTS = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
)
# What a domain is defined by, with what is secret in it.
_WHOLE = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE


@dataclass(frozen=True)
class Domain:
    """A domain that was looked up, and is ours: the one of that UUID, whatever its name stands for.

    Whoever does several things to one looks it up once.  HANDLE is libvirt's own object,
    for this package only.
    """

    name: str
    uuid: str
    handle: libvirt.virDomain

    def __str__(self) -> str:
        """Return what people call it."""
        return self.name


# A domain, or the name of one that is looked up for this alone.
Which: TypeAlias = Domain | str


def ours(connection: Connection, name: str) -> Domain:
    """Return domain NAME.  Raises RequestRefusedError if it is not ours, or a newer pyguixvm's."""
    return definition(connection, name)[2]


def find(connection: Connection, name: str) -> Domain | None:
    """Return domain NAME as `ours` does, None if there is no such domain."""
    found = find_definition(connection, name)
    return None if found is None else found[2]


def find_by_uuid(connection: Connection, uuid: str) -> Domain | None:
    """Return the domain with UUID, whatever its name and whoever it belongs to; None if none is."""
    with explained(f"look for the domain with UUID {uuid}"):
        try:
            handle = connection.handle.lookupByUUIDString(uuid)
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                return None
            raise
        return Domain(handle.name(), uuid, handle)


def define(connection: Connection, xml: str, known: Domain | None = None) -> Domain:
    """Define a domain by XML, or define it anew in place; return it.

    KNOWN is the one that XML is of, if it is known.  Libvirt checks XML against its schema.
    Raises `RequestRefusedError` if a domain of that name is not ours.
    """
    found = inspect_domain(xml)
    if known is None or (known.name, known.uuid) != (found.name, found.uuid):
        find(connection, found.name)
    with explained(f"define domain '{found.name}'"):
        handle = connection.handle.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
        return Domain(found.name, handle.UUIDString(), handle)


def start(connection: Connection, name: Which) -> None:
    """Start domain NAME."""
    domain = our_domain(connection, name)
    with explained(f"start domain '{name}'"):
        domain.create()


def start_paused(connection: Connection, name: Which) -> None:
    """Start domain NAME without letting its guest run yet."""
    domain = our_domain(connection, name)
    with explained(f"start domain '{name}'"):
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)


def resume(connection: Connection, name: Which) -> None:
    """Let the guest of domain NAME run."""
    domain = our_domain(connection, name)
    with explained(f"resume domain '{name}'"):
        domain.resume()


def autostart(connection: Connection, name: Which) -> bool:
    """Whether domain NAME starts together with its hypervisor."""
    domain = our_domain(connection, name)
    with explained(f"look at domain '{name}'"):
        return bool(domain.autostart())


def set_autostart(connection: Connection, name: Which, on: bool) -> None:
    """Start domain NAME together with its hypervisor from now on, or no longer."""
    domain = our_domain(connection, name)
    with explained(f"set autostart of domain '{name}'"):
        domain.setAutostart(int(on))


def destroy(connection: Connection, name: Which) -> bool:
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


def undefine(connection: Connection, name: Which, *, keep_variables: bool = False) -> None:
    """Remove the definition of domain NAME, and what firmware keeps of it; its volumes stay.

    KEEP_VARIABLES: that stays, too.  Raises `RequestRefusedError` while it is active.
    """
    domain = our_domain(connection, name)
    with explained(f"undefine domain '{name}'"):
        if domain.isActive():
            raise RequestRefusedError(
                f"machine '{name}' is running",
                hint=f"'pyguixvm shutdown {name}' first, or 'pyguixvm destroy {name}'",
            )
        try:
            variables = (
                libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
                if keep_variables
                else libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
            )
            domain.undefineFlags(_WITH_ALL_OF_LIBVIRTS | variables)
        except libvirt.libvirtError as error:
            if not is_code(error, libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
                raise
            domain.undefine()  # a driver without NVRAM and checkpoints


def write_metadata(connection: Connection, name: Which, metadata: Metadata) -> None:
    """Let domain NAME remember METADATA, and its UUID; what other tools put there stays."""
    domain = our_domain(connection, name)
    metadata = msgspec.structs.replace(metadata, uuid=domain.UUIDString())
    element = our_metadata.metadata_xml(metadata)

    def write(flags: int) -> None:
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            element,
            our_metadata.PREFIX,
            our_metadata.NAMESPACE,
            libvirt.VIR_DOMAIN_AFFECT_CONFIG | flags,
        )

    with explained(f"write the metadata of domain '{name}'"):
        try:
            write(libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as error:
            if not is_code(error, libvirt.VIR_ERR_OPERATION_INVALID) or domain.isActive():
                raise
            write(0)


def find_definition(connection: Connection, name: str) -> tuple[str, Metadata, Domain] | None:
    """Return the XML that domain NAME of ours starts from, what it remembers, and itself.

    None means that there is no such domain; raises `RequestRefusedError` if it is not ours.
    """
    return _found(connection, name, libvirt.VIR_DOMAIN_XML_INACTIVE)


def find_whole_definition(connection: Connection, name: str) -> tuple[str, Metadata, Domain] | None:
    """Return as `find_definition` what there is of domain NAME, but as `whole_definition` does."""
    return _found(connection, name, _WHOLE)


def definition(connection: Connection, name: str) -> tuple[str, Metadata, Domain]:
    """Return as `find_definition` what there is of domain NAME.  Raises HypervisorError if none."""
    while (found := find_definition(connection, name)) is None:
        _lookup(connection, name)  # raises, unless it came just now
    return found


def _found(connection: Connection, name: str, flags: int) -> tuple[str, Metadata, Domain] | None:
    """Return as `find_definition` what there is of domain NAME, its XML read with FLAGS."""
    with explained(f"look for domain '{name}'"):
        found = _as_listed(connection, name, flags) or _as_named(connection, name, flags)
    if found is None:
        return None
    handle, xml = found
    return xml, _ours(connection, name, xml), Domain(name, handle.UUIDString(), handle)


def _as_listed(
    connection: Connection, name: str, flags: int
) -> tuple[libvirt.virDomain, str] | None:
    """Return what was domain NAME when all were listed, and its XML, if it still is that."""
    handle = connection.resolved.domain(name)
    if handle is None:
        return None
    try:
        xml = str(handle.XMLDesc(flags))
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
            return None
        raise
    return (handle, xml) if inspect_domain(xml).name == name else None


def _as_named(
    connection: Connection, name: str, flags: int
) -> tuple[libvirt.virDomain, str] | None:
    """Return what is domain NAME now, and its XML."""
    handle = _find(connection, name)
    return None if handle is None else (handle, str(handle.XMLDesc(flags)))


def read_metadata(connection: Connection, name: Which) -> Metadata:
    """Return what domain NAME remembers; raises `RequestRefusedError` if it is not ours."""
    return _ours(connection, str(name), inactive_xml(connection, name))


def inactive_xml(connection: Connection, name: Which) -> str:
    """Return the XML that domain NAME starts from, whoever it belongs to."""
    return _inactive_xml(_lookup(connection, name), str(name))


def whole_definition(connection: Connection, name: Which) -> str | None:
    """Return the XML to define domain NAME by exactly as it is, None if there is no such domain.

    It holds what is secret, passwords of displays for example: it is not to be shown.
    """
    found = name if isinstance(name, Domain) else find(connection, name)
    return None if found is None else _whole_definition(found)


def disks(connection: Connection, name: Which) -> tuple[str, ...]:
    """Return the file names of the disks of domain NAME, their backing files left out."""
    return inspect_domain(inactive_xml(connection, name)).hardware.disks


def all_disks(connection: Connection, name: Which) -> tuple[str, ...]:
    """Return what domain NAME is defined with, and runs with, as `disks_of` does."""
    domain = _lookup(connection, name)
    with explained(f"look at the disks of domain '{name}'"):
        defined = inspect_domain(_inactive_xml(domain, str(name))).hardware
        live = inspect_domain(domain.XMLDesc(0)).hardware if domain.isActive() else None
        return disks_of(defined, live)


def state(connection: Connection, name: Which) -> State:
    """Return the state of domain NAME, whoever it belongs to."""
    domain = _lookup(connection, name)
    with explained(f"read the state of domain '{name}'"):
        return domain_state(domain)


def require_reactive(connection: Connection, name: Which) -> None:
    """Raise RequestRefusedError if the guest of domain NAME is there, and cannot react."""
    domain = _lookup(connection, name)
    with explained(f"read the state of domain '{name}'"):
        unreactive.require_reactive(str(name), *state_and_reason(domain))


def is_memory_kept(connection: Connection, name: Which) -> bool:
    """Whether domain NAME, which is off, goes on from kept memory when it is started."""
    with explained(f"look at domain '{name}'"):
        return has_kept_memory(_lookup(connection, name))


def exists(connection: Connection, name: str) -> bool:
    """Whether there is a domain NAME, whoever it belongs to."""
    with explained(f"look for domain '{name}'"):
        return _find(connection, name) is not None


def our_domain(connection: Connection, name: Which) -> libvirt.virDomain:
    """Return libvirt's own object of domain NAME, for this package only.

    Raises `RequestRefusedError` if it is not ours, or of a newer pyguixvm.
    """
    return (name if isinstance(name, Domain) else ours(connection, name)).handle


def _lookup(connection: Connection, name: Which) -> libvirt.virDomain:
    if isinstance(name, Domain):
        return name.handle
    with explained(f"find machine '{name}' on {connection.uri}"):
        return connection.handle.lookupByName(name)


def _find(connection: Connection, name: str) -> libvirt.virDomain | None:
    try:
        return connection.handle.lookupByName(name)
    except libvirt.libvirtError as error:
        if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
            return None
        raise


def _inactive_xml(domain: libvirt.virDomain, name: str) -> str:
    with explained(f"read the definition of domain '{name}'"):
        xml: str = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    return xml


def _whole_definition(domain: Domain) -> str:
    with explained(f"read the definition of domain '{domain}'"):
        xml: str = domain.handle.XMLDesc(_WHOLE)
    return xml


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
