# SPDX-License-Identifier: GPL-3.0-or-later
"""Data disks: made once, grown, never made anew or smaller."""

from __future__ import annotations

from pathlib import Path

from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import phase
from pyguixvm.hypervisor import guest, live, pools, transfer, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.image.blank import make_disk
from pyguixvm.image.workplace import workplace
from pyguixvm.model.deployment import BlockDevice, DataDisk, LocalImage, VirtualMachine
from pyguixvm.model.names import data_label, data_volume
from pyguixvm.model.sizes import format_size
from pyguixvm.reconcile.plan import CreateDisk, GrowDisk
from pyguixvm.reconcile.storage import shrunk
from pyguixvm.reconcile.workshop import Workshop
from pyguixvm.xml.storage import AttachedDisk


def create_disk(machine: VirtualMachine, action: CreateDisk, workshop: Workshop) -> None:
    """Have the volume of ACTION, formatted; one that was there already stays as it is.

    It stays, too, if what follows fails: the next run uses it.
    """
    connection = workshop.connection
    pools.ensure_pool(connection, action.pool)
    if volumes.is_whole(connection, action.pool, action.volume):
        return
    with (
        phase(workshop.emit, "disk", machine.name, detail=action.disk) as result,
        workplace() as directory,
    ):
        file = directory / action.volume
        make_disk(file, action.size, action.file_system, data_label(action.disk), directory)
        workshop.require(machine.name)
        made = transfer.upload_volume(
            connection, action.pool, action.volume, file, workshop.emit, machine.name
        )
        result.detail = f"{format_size(action.size)} {action.file_system} in {made.path}"


def grow_disk(machine: VirtualMachine, action: GrowDisk, workshop: Workshop) -> None:
    """Let the volume of ACTION have its size; then have the guest use it, if it runs.

    Raises RequestRefusedError if it is larger already.
    """
    connection = workshop.connection
    volume = volumes.find_data(connection, action.volume)
    if volume is None:
        raise RequestRefusedError(
            f"volume '{action.volume}' is in no active pool any more",
            hint="Start its pool if it is not active; a volume that was deleted is lost.",
        )
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
        if not live.grow_disk(connection, machine.name, volume.path, action.size):
            volumes.grow(connection, volume, action.size)
            return
        if _mounts(machine, action.disk) and not guest.grow_file_systems(connection, machine.name):
            workshop.warn(
                machine.name,
                f"the file system of disk '{action.disk}' grows when the guest starts "
                "the next time (has it an agent?)",
            )


def attached_disks(connection: Connection, machine: VirtualMachine) -> tuple[AttachedDisk, ...]:
    """Return the declared disks of MACHINE, all of which are there.

    Raises RequestRefusedError if one is not.
    """
    return tuple(
        AttachedDisk(path=disk.device, block=True)
        if isinstance(disk, BlockDevice)
        else AttachedDisk(
            path=_require(connection, machine.name, disk), serial=data_label(disk.name)
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
    return not isinstance(machine.image, LocalImage) and any(
        isinstance(disk, DataDisk) and disk.name == name and disk.target is not None
        for disk in machine.domain.disks
    )


def _require(connection: Connection, machine: str, disk: DataDisk) -> str:
    name = data_volume(machine, disk.name)
    found = volumes.find_data(connection, name)
    if found is None:
        raise RequestRefusedError(
            f"volume '{name}' of data disk '{disk.name}' is in no active pool any more",
            hint="Start its pool if it is not active. If it was deleted, its data is lost: "
            "take the disk out of the declaration, deploy, and declare it again.",
        )
    return found.path
