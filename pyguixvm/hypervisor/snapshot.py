# SPDX-License-Identifier: GPL-3.0-or-later
"""A new volume on top of the root disk that a running guest writes to.

virDomainSnapshotCreateXML with external files, the disk's state alone, and without
metadata: libvirt calls it a snapshot, and what it leaves is nothing but the new
volume (https://libvirt.org/formatsnapshot.html).
"""

from __future__ import annotations

from contextlib import suppress

import libvirt

from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Which, our_domain
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.guest import agent
from pyguixvm.xml.snapshot import root_of, snapshot_xml

# The volume was made before, so that its pool knows it; all of it happens, or nothing.
_FLAGS = (
    libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
    | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
)


def written_to(connection: Connection, name: Which) -> str | None:
    """Return the file that the running guest of domain NAME writes its root to.

    What was asked of it before is over then, even if the line was cut meanwhile.
    """
    domain = our_domain(connection, name)
    with explained(f"look at the root of domain '{name}'"):
        # Libvirt asks a guest one thing at a time; of its XML, it need not ask.
        domain.memoryStats()
        return root_of(domain.XMLDesc(0))


def write_to(connection: Connection, name: Which, path: str) -> bool:
    """Have the running guest of domain NAME write its root to PATH from now on.

    The file PATH is a qcow2 volume that is backed by the one it wrote to, and
    that does not change any more.  Its file systems are quiet in that moment if its
    agent manages that; return whether it did.  Otherwise, the old volume is as after
    a power failure, which is what journals are for.
    """
    domain = our_domain(connection, name)
    with explained(f"put a new volume on the root of domain '{name}'"):
        live = domain.XMLDesc(0)
        xml = snapshot_xml(live, path)
        if agent.connected(domain, agent.PATIENCE):
            # An agent may be silent, or not allowed to; libvirt says that in many ways.  What
            # is wrong with the request itself shows at the second try.
            with suppress(libvirt.libvirtError):
                domain.snapshotCreateXML(xml, _FLAGS | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE)
                return True
        if root_of(domain.XMLDesc(0)) != path:
            domain.snapshotCreateXML(xml, _FLAGS)
        return False
