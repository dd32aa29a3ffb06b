# SPDX-License-Identifier: GPL-3.0-or-later
"""Which files domains refer to: those must not go."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt

from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.failure import explained, is_code
from pyguixvm.xml.inspection import disk_files


def is_used(connection: Connection, path: str) -> bool:
    """Whether a domain, whoever it belongs to, is defined or runs with the file PATH.

    What a disk stands on counts, as far as libvirt knows it.
    """
    with explained(f"see which domains use {path}"):
        return any(path in disk_files(xml) for xml in _definitions(connection))


def _definitions(connection: Connection) -> Iterator[str]:
    """Yield the XML that each domain starts from, and what it runs with."""
    for domain in connection.handle.listAllDomains():
        try:
            yield domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            if domain.isActive():
                yield domain.XMLDesc(0)
        except libvirt.libvirtError as error:
            if not is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                raise
