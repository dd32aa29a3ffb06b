# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of the volumes of data disks, which outlive the domains that had these.

Each is a libvirt secret without a value, used by the name of the volume.  A domain's metadata
goes with its domain.  A file beside the volume would be copied with it and, worst of all,
missing together with it: that a pool is stopped, or a disk of the host not mounted, is what must
not look like "never made".  A secret lives where definitions of domains and pools live, is
written at once or not at all, is seen by whoever may change a machine, and to list all takes one
request.  That the volume in its place is the one that was recorded, its header says, see
`volume_identity`; so a hypervisor that was installed anew knows no volume as its own, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from uuid import NAMESPACE_URL, uuid5

import libvirt
import msgspec

from pyguixvm.decoding import decode
from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor import download, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.machine_lock.secret import all_secrets, is_unsupported
from pyguixvm.model.data_record import DataRecord, FoundRecord
from pyguixvm.model.usage import Address
from pyguixvm.model.volume_identity import HEADER_LENGTH, identity_in
from pyguixvm.xml.secret import description, secret_xml

_KIND = libvirt.VIR_SECRET_USAGE_TYPE_CEPH
_USAGE = "pyguixvm data "
# Far more than a record takes (characters); what is longer was not written by us.
_LONGEST = 8192


def write(connection: Connection, record: DataRecord) -> None:
    """Have RECORD, in the place of the one of the same volume."""
    xml = secret_xml(
        _uuid(record.address), _usage(record.address), msgspec.json.encode(record).decode()
    )
    with explained(f"record volume '{record.volume}' of pool '{record.pool}'"):
        try:
            connection.handle.secretDefineXML(xml, 0)
        except libvirt.libvirtError as error:
            # Where there are no secrets there are no locks either: libvirt's driver for tests.
            if not is_unsupported(error):
                raise


def remove(connection: Connection, address: Address) -> bool:
    """Remove the record of the volume at ADDRESS; False if there is none."""
    pool, volume = address
    with explained(f"remove the record of volume '{volume}' of pool '{pool}'"):
        try:
            connection.handle.secretLookupByUUIDString(_uuid(address)).undefine()
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_SECRET) or is_unsupported(error):
                return False
            raise
    return True


def read(
    connection: Connection, wanted: Callable[[str], bool] = lambda _volume: True
) -> tuple[DataRecord, ...]:
    """Return the records of all volumes whose names are WANTED, in order, as `among` does."""
    with explained("list the records of data volumes"):
        return among(all_secrets(connection), wanted)


def addresses(connection: Connection) -> frozenset[Address]:
    """Return which volumes there are records of: one request."""
    with explained("list the records of data volumes"):
        return frozenset(filter(None, map(_address, all_secrets(connection))))


def among(
    secrets: Iterable[libvirt.virSecret], wanted: Callable[[str], bool]
) -> tuple[DataRecord, ...]:
    """Return the records among SECRETS of volumes whose names are WANTED, in order.

    One request for each.
    """
    with explained("read the records of data volumes"):
        return tuple(sorted(_read(secrets, wanted), key=lambda record: record.address))


def compared(connection: Connection, record: DataRecord) -> FoundRecord:
    """Return RECORD with the identity of the volume that is in its place, which is read."""
    found = None
    if record.identity is not None:
        # One that vanished meanwhile, or cannot be read, is not vouched for.
        with suppress(PyguixvmError):
            found = identity(connection, record.address)
    return FoundRecord(record, found)


def identity(connection: Connection, address: Address) -> str | None:
    """Return the identity of the volume at ADDRESS, None if it has none; it is there."""
    volume = volumes.lookup(connection, *address)
    if volume is None:
        return None
    return identity_in(download.data(connection, volume, 0, HEADER_LENGTH))


def _read(
    secrets: Iterable[libvirt.virSecret], wanted: Callable[[str], bool]
) -> Iterator[DataRecord]:
    for secret in secrets:
        address = _address(secret)
        if address is None or not wanted(address[1]):
            continue
        try:
            yield _decoded(secret.XMLDesc(0), DataRecord(*address))
        except libvirt.libvirtError as error:
            if not is_code(error, libvirt.VIR_ERR_NO_SECRET):  # removed since
                raise


def _decoded(xml: str, found: DataRecord) -> DataRecord:
    """Return the record in XML; FOUND if there is none, or one of another volume."""
    with suppress(ValueError, msgspec.DecodeError):
        text = description(xml)
        if len(text) <= _LONGEST:
            record = decode(text, DataRecord)
            return record if record.address == found.address else found
    return found


def _address(secret: libvirt.virSecret) -> Address | None:
    """Return the volume that SECRET is the record of, None if it is none; this asks nobody."""
    usage = secret.usageID() or ""
    pool, slash, volume = usage.removeprefix(_USAGE).rpartition("/")
    ours = secret.usageType() == _KIND and usage.startswith(_USAGE) and slash
    return (pool, volume) if ours else None


def _usage(address: Address) -> str:
    return _USAGE + "/".join(address)


def _uuid(address: Address) -> str:
    """Return the UUID of the secret for the volume at ADDRESS, always the same."""
    return str(uuid5(NAMESPACE_URL, _usage(address)))
