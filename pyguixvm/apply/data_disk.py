# SPDX-License-Identifier: GPL-3.0-or-later
"""Data disks: made once, grown, never made anew or smaller."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from msgspec.structs import replace

from pyguixvm.apply.context import Workshop
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import phase
from pyguixvm.hypervisor import data_records, domains, hotplug, pools, upload, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.guest.file_systems import grow_file_systems
from pyguixvm.image.blank import make_disk
from pyguixvm.image.workplace import workplace
from pyguixvm.model.data_record import DataRecord
from pyguixvm.model.declaration import BlockDevice, DataDisk, VirtualMachine
from pyguixvm.model.sizes import format_size
from pyguixvm.model.volume_names import data_label, data_volume
from pyguixvm.plan.actions import CreateDisk, GrowDisk
from pyguixvm.plan.data_volumes import missing
from pyguixvm.plan.disks import place, shrunk
from pyguixvm.xml.storage import AttachedDisk


def create_disk(machine: VirtualMachine, action: CreateDisk, workshop: Workshop) -> None:
    """Have the volume of ACTION, formatted, and recorded.

    It stays if what follows fails: the next run uses it.  Raises RequestRefusedError if there
    is one by now, which somebody else made.
    """
    connection = workshop.connection
    with workshop.turns.at(action.pool):
        pools.ensure_pool(connection, action.pool)
    if volumes.is_whole(connection, action.pool, action.volume):
        raise RequestRefusedError(
            f"volume '{action.volume}' of pool '{action.pool}' was not there when this was "
            "planned, and is now",
            hint="It was left as it is. Run the command again to see what it is.",
        )
    record = DataRecord(
        action.pool,
        action.volume,
        file_system=action.file_system,
        size=action.size,
        identity=str(uuid4()),
        making=True,
    )
    with (
        phase(workshop.emit, "disk", machine.name, detail=action.disk) as result,
        workplace() as directory,
    ):
        file = directory / action.volume
        label = data_label(action.disk)
        make_disk(file, action.size, action.file_system, label, directory, record.identity)
        workshop.require(machine.name)
        # Before there is anything: whatever is whole is recorded, wherever this is broken off.
        data_records.write(connection, record)
        made = upload.upload_volume(
            connection, action.pool, action.volume, file, workshop.emit, machine.name
        )
        data_records.write(connection, replace(record, path=made.path, making=False))
        result.detail = f"{format_size(action.size)} {action.file_system} in {made.path}"


def grow_disk(machine: VirtualMachine, action: GrowDisk, workshop: Workshop) -> None:
    """Let the volume of ACTION have its size; then have the guest use it, if it runs.

    Raises RequestRefusedError if it is larger already.
    """
    connection = workshop.connection
    path = _defined(connection, machine.name, action.volume)
    volume = _found(connection, machine, action.volume, path)
    if volume is None:
        where = f"pool '{machine.domain.pool}'" if path is None else f"any active pool ({path})"
        message, hint = missing(action.disk, action.volume, f"not in {where}")
        raise RequestRefusedError(message, hint=hint)
    if volume.capacity > action.size:
        message, hint = shrunk(machine.name, action.disk, volume.capacity, action.size)
        raise RequestRefusedError(message, hint=hint)
    if volume.capacity == action.size:
        return
    with phase(workshop.emit, "disk", machine.name, detail=action.disk) as result:
        result.detail = (
            f"'{action.disk}' {format_size(volume.capacity)} -> {format_size(action.size)}"
        )
        workshop.require(machine.name)
        if not hotplug.grow_disk(connection, machine.name, volume.path, action.size):
            volumes.grow(connection, volume, action.size)
            return
        if _mounts(machine, action.disk) and not grow_file_systems(connection, machine.name):
            workshop.warn(
                machine.name,
                f"the file system of disk '{action.disk}' grows when the guest starts "
                "the next time (has it an agent?)",
            )


def attached_disks(
    connection: Connection, machine: VirtualMachine, files: tuple[str, ...]
) -> tuple[AttachedDisk, ...]:
    """Return the declared disks of MACHINE, all of which are there.

    FILES are those of the disks that its domain has: defined, or running with them.
    Raises RequestRefusedError if one is not.
    """
    return tuple(
        AttachedDisk(path=disk.device, block=True)
        if isinstance(disk, BlockDevice)
        else AttachedDisk(
            path=_require(connection, machine, disk, files), serial=data_label(disk.name)
        )
        for disk in machine.domain.disks
    )


def planned_disks(machine: VirtualMachine, directory: Path) -> tuple[AttachedDisk, ...]:
    """Return the declared disks of MACHINE as they would be in the pool at DIRECTORY."""
    return tuple(
        AttachedDisk(path=disk.device, block=True)
        if isinstance(disk, BlockDevice)
        else AttachedDisk(
            path=str(directory / data_volume(machine.name, disk.name)),
            serial=data_label(disk.name),
        )
        for disk in machine.domain.disks
    )


def _mounts(machine: VirtualMachine, name: str) -> bool:
    """Whether the operating system was given what mounts, and grows, disk NAME."""
    return machine.image.made_by_guix and any(
        isinstance(disk, DataDisk) and disk.name == name and disk.target is not None
        for disk in machine.domain.disks
    )


def _require(
    connection: Connection, machine: VirtualMachine, disk: DataDisk, files: tuple[str, ...]
) -> str:
    """Return the file name of DISK: that of FILES which it is, else in the pool declared."""
    name = data_volume(machine.name, disk.name)
    path = place(files, name)
    if path is not None and path.startswith("/"):
        return path
    found = _found(connection, machine, name, path)
    if found is None:
        message, hint = missing(disk.name, name, f"not in pool '{machine.domain.pool}'")
        raise RequestRefusedError(message, hint=hint)
    return found.path


def _found(
    connection: Connection, machine: VirtualMachine, volume: str, path: str | None
) -> volumes.Volume | None:
    """Return VOLUME of MACHINE, at PATH if that is known; its pool may have been stopped."""
    if path is None:
        return volumes.refreshed(connection, machine.domain.pool, volume)
    found = volumes.at(connection, path)
    if found is None:
        recorded = (each.pool for each in data_records.read(connection) if each.path == path)
        pools.ensure_started(connection, next(recorded, machine.domain.pool))
        found = volumes.at(connection, path)
    return found


def _defined(connection: Connection, name: str, volume: str) -> str | None:
    """Return the file name of VOLUME in the definition of domain NAME, or where it runs with it."""
    domain = domains.find(connection, name)
    if domain is None:
        return None
    return place(domains.all_disks(connection, domain), volume)
