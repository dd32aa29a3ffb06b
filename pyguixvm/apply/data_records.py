# SPDX-License-Identifier: GPL-3.0-or-later
"""Data disks that come to a machine, or leave it, are recorded: what they hold outlives it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

import msgspec

from pyguixvm.hypervisor import data_records, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.model.applied import Metadata
from pyguixvm.model.data_record import DataRecord
from pyguixvm.model.declaration import DataDisk, VirtualMachine
from pyguixvm.model.usage import Address
from pyguixvm.model.volume_names import data_volume
from pyguixvm.plan.disks import data_disks


def record_attached(
    connection: Connection,
    metadata: Metadata,
    machine: VirtualMachine,
    files: Iterable[str],
    had: Collection[str],
) -> None:
    """Record that the data disks of MACHINE, which METADATA is of, are FILES.

    Of those that it HAD, it is enough that they are recorded: that costs one request for all.
    """
    disks = {data_volume(machine.name, disk.name): disk for disk in data_disks(machine)}
    if not disks:
        return
    recorded = {volume for _, volume in data_records.addresses(connection)}
    new = [f for f in files if f not in had or PurePosixPath(f).name not in recorded]
    if not new:
        return
    known = {each.path: each for each in data_records.read(connection, disks.__contains__)}
    for file in new:
        record = known.get(file)
        found = volumes.at(connection, file)
        if found is not None and found.name in disks:
            _record(connection, metadata, found, disks[found.name], record)


def record_kept(connection: Connection, metadata: Metadata, kept: Iterable[Address]) -> None:
    """Record the data volumes KEPT of a machine that is about to go, and may not be recorded."""
    wanted = set(kept)
    disks = _ever_declared(metadata)
    names = {name for _, name in wanted}
    known = {each.address: each for each in data_records.read(connection, names.__contains__)}
    for pool, name in wanted:
        found = volumes.refreshed(connection, pool, name)
        if found is not None and name in disks:
            _record(connection, metadata, found, disks[name], known.get((pool, name)))


def forget(connection: Connection, deleted: Iterable[Address]) -> None:
    """Remove the records of the volumes DELETED."""
    for address in deleted:
        data_records.remove(connection, address)


def _record(
    connection: Connection,
    owner: Metadata,
    volume: volumes.Volume,
    disk: DataDisk,
    known: DataRecord | None,
) -> None:
    """Record that VOLUME is DISK of OWNER, where it is KNOWN what it holds: as that is."""
    before = known or DataRecord(volume.pool, volume.name, file_system=disk.file_system)
    uuid, deployment = _owner(owner)
    after = msgspec.structs.replace(
        before,
        path=volume.path,
        uuid=uuid,
        deployment=deployment,
        size=volume.capacity,
        making=False,
    )
    if after != known:
        data_records.write(connection, after)


def _owner(metadata: Metadata) -> tuple[str | None, str | None]:
    return metadata.uuid, metadata.deployment


def _ever_declared(metadata: Metadata) -> Mapping[str, DataDisk]:
    """Return the data disks of all generations of METADATA by their volumes, as of the latest."""
    latest = metadata.generation if metadata.generations else None
    return {
        data_volume(generation.declaration.name, disk.name): disk
        for generation in (*metadata.generations, *([latest] if latest else []))
        for disk in data_disks(generation.declaration)
    }
