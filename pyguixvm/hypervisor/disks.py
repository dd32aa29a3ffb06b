# SPDX-License-Identifier: GPL-3.0-or-later
"""What others make of a domain's disks: layers, snapshots, checkpoints, jobs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress

import libvirt
import msgspec

from pyguixvm.hypervisor import volumes
from pyguixvm.hypervisor.at_once import each
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.model.observation import BlockJob, Hardware, ObservedDisk, Snapshot
from pyguixvm.xml.inspection import inspect_snapshot
from pyguixvm.xml.volume import backing

_JOBS = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: "block pull",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: "block copy",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: "block commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: "active block commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP: "backup",
}
# Libvirt follows no chain further.
_DEEPEST = 200


def snapshots(domain: libvirt.virDomain) -> tuple[Snapshot, ...]:
    """Return the snapshots of DOMAIN that libvirt keeps, parents first."""
    found = domain.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL)
    return tuple(inspect_snapshot(snapshot.getXMLDesc(0)) for snapshot in found)


def checkpoints(domain: libvirt.virDomain) -> tuple[str, ...]:
    """Return the names of the checkpoints of DOMAIN, parents first."""
    found = domain.listAllCheckpoints(libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL)
    return tuple(checkpoint.getName() for checkpoint in found)


def jobs(domain: libvirt.virDomain, live: Hardware, *, far: bool) -> tuple[BlockJob, ...]:
    """Return what goes on at the disks of DOMAIN, which runs with LIVE: one request for each.

    They go out together if that is FAR away.
    """

    def job(disk: ObservedDisk) -> BlockJob | None:
        # A disk that is pulled out meanwhile, or that a stopped guest had, has no job.
        with suppress(libvirt.libvirtError):
            found = domain.blockJobInfo(disk.target, 0)
            if found:
                return BlockJob(disk.target, _JOBS.get(found["type"], "block job"))
        return None

    return tuple(filter(None, each(job, live.stacks, far=far)))


def is_gone(domain: libvirt.virDomain, disk: ObservedDisk) -> bool:
    """Whether there is no file where DOMAIN, which does not run, has DISK."""
    try:
        domain.blockInfo(disk.target)
    except libvirt.libvirtError as error:
        # virReportSystemError keeps errno there.
        return bool(error.get_int1() == errno.ENOENT)
    return False


def completed(connection: Connection, hardware: Hardware) -> Hardware:
    """Return HARDWARE with what its disks stand on, as far as the pools know it.

    A domain's XML does not say that of a disk that got a layer while the domain was off.
    """
    return msgspec.structs.replace(
        hardware, stacks=tuple(_completed(connection, disk) for disk in hardware.stacks)
    )


def _completed(connection: Connection, disk: ObservedDisk) -> ObservedDisk:
    if disk.below is not None or not disk.source.startswith("/"):
        return disk
    return msgspec.structs.replace(disk, below=tuple(_below(connection, disk.source)))


def _below(connection: Connection, path: str) -> Iterator[str]:
    """Yield what the volume at PATH stands on, down to a file that is in no pool."""
    for _ in range(_DEEPEST):
        found = volumes.find_handle_at(connection, path)
        next_path = None if found is None else backing(found.XMLDesc(0))
        if next_path is None:
            return
        yield next_path
        path = next_path
