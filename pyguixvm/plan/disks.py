# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks beside the root and shared directories: differences, and actions for them; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from pyguixvm.model.declaration import BlockDevice, DataDisk, Disk, MountPoint, VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.observation import Hardware, ObservedDomain, SharedDirectory, disks_of
from pyguixvm.model.sizes import sizes_apart, written_size
from pyguixvm.model.volume_names import data_of, data_volume, file_name
from pyguixvm.plan.actions import AttachDisk, CreateDisk, DetachDisk, GrowDisk
from pyguixvm.plan.difference import ABSENT, compare

_ATTACHED = "attached"


def source_of(machine: str, disk: Disk) -> str:
    """Return what tells DISK of MACHINE from others: its volume's name, or its device's."""
    return disk.device if isinstance(disk, BlockDevice) else data_volume(machine, disk.name)


def disk_differences(
    machine: VirtualMachine, applied: VirtualMachine, domain: ObservedDomain
) -> Iterator[Difference]:
    """Yield how the disks of DOMAIN, whose APPLIED declaration it remembers, differ."""
    wanted = {source_of(machine.name, disk): disk for disk in machine.domain.disks}
    for source in [*wanted, *_undeclared(wanted, applied, domain)]:
        yield from compare(
            f"domain.disks.{_called(source)}",
            _ATTACHED if source in wanted else ABSENT,
            _presence(domain.defined, source),
            _presence(domain.live, source) if domain.live else None,
            "restart" if _mounted(wanted.get(source)) else "live",
        )
        disk, capacity = wanted.get(source), domain.capacities.get(source)
        gone = capacity is None and bool(place(all_disks(domain), source))
        if isinstance(disk, DataDisk) and (gone or source in domain.data_gone):
            yield Difference(
                path=f"domain.disks.{disk.name}", old="gone", new=_ATTACHED, effect="none"
            )
        if isinstance(disk, DataDisk) and capacity is not None and capacity != disk.size:
            yield Difference(
                path=f"domain.disks.{disk.name}.size", old=capacity, new=disk.size, effect="live"
            )


def mount_differences(
    machine: VirtualMachine, applied: VirtualMachine, domain: ObservedDomain
) -> Iterator[Difference]:
    """Yield how the shared directories of DOMAIN differ; QEMU cannot change them while it runs."""
    wanted = {mount.tag: mount for mount in machine.domain.mount_points}
    gone = [mount.tag for mount in applied.domain.mount_points if mount.tag not in wanted]
    for tag in [*wanted, *gone]:
        yield from compare(
            f"domain.mount-points.{tag}",
            _shared(wanted.get(tag)),
            _shared(_find(domain.defined, tag)),
            _shared(_find(domain.live, tag)) if domain.live else None,
        )


def storage_refusal(machine: VirtualMachine, domain: ObservedDomain) -> tuple[str, str] | None:
    """Return why the data of MACHINE forbids its declaration, and what to do; or None."""
    if domain.metadata is None:
        return None
    before = {
        disk.name: disk
        for disk in domain.metadata.generation.declaration.domain.disks
        if isinstance(disk, DataDisk)
    }
    for disk in data_disks(machine):
        capacity = domain.capacities.get(data_volume(machine.name, disk.name), 0)
        if disk.size < capacity:
            return shrunk(machine.name, disk.name, capacity, disk.size)
        old = before.get(disk.name)
        if old is not None and old.file_system != disk.file_system:
            return (
                f"data disk '{disk.name}' of '{machine.name}' holds {old.file_system} and is "
                f"declared as {disk.file_system}: it is formatted only once",
                "Declare a new disk under another name, and copy the data in the guest.",
            )
    return None


def all_disks(domain: ObservedDomain) -> tuple[str, ...]:
    """Return the disks that DOMAIN is defined with, and then those that it runs with.

    See `disks_of`.
    """
    return disks_of(domain.defined, domain.live)


def attached_at(domain: ObservedDomain, volume: str) -> str | None:
    """Return the file name of the disk of DOMAIN that is its data VOLUME, or None."""
    return place(all_disks(domain), volume)


def place(disks: Iterable[str], volume: str) -> str | None:
    """Return the file name of VOLUME, the first among those of DISKS, or None."""
    return next((path for path in disks if file_name(path) == volume), None)


def shrunk(machine: str, disk: str, capacity: int, size: int) -> tuple[str, str]:
    """Return why DISK of MACHINE, of CAPACITY bytes, cannot have SIZE, and what to do."""
    has, declared = sizes_apart(capacity, size)
    return (
        f"data disk '{disk}' of '{machine}' has {has} and is declared with {declared}: "
        "a data disk never shrinks",
        f"Declare (size {written_size(capacity)}) or more, or a new disk under another name.",
    )


def volume_actions(
    machine: VirtualMachine, domain: ObservedDomain | None, volumes: Collection[str]
) -> Iterator[CreateDisk | GrowDisk]:
    """Yield what has every data disk of MACHINE in a volume of its size; VOLUMES are there."""
    for disk in data_disks(machine):
        volume = data_volume(machine.name, disk.name)
        attached = domain is not None and volume in domain.capacities
        if volume not in volumes and not attached:
            yield CreateDisk(
                disk=disk.name,
                pool=machine.domain.pool,
                volume=volume,
                size=disk.size,
                file_system=disk.file_system,
            )
        elif domain is None or domain.capacities.get(volume) != disk.size:
            yield GrowDisk(disk=disk.name, volume=volume, size=disk.size)


def plug_actions(
    machine: VirtualMachine, domain: ObservedDomain
) -> Iterator[AttachDisk | DetachDisk]:
    """Yield what gives the running guest of DOMAIN the disks of MACHINE."""
    if domain.live is None or domain.metadata is None:
        return
    wanted = [source_of(machine.name, disk) for disk in machine.domain.disks]
    for source in _undeclared(wanted, domain.metadata.generation.declaration, domain):
        if _presence(domain.live, source) == _ATTACHED:
            yield DetachDisk(source=source)
    for source in wanted:
        if _presence(domain.live, source) == ABSENT:
            yield AttachDisk(source=source)


def _mounted(disk: Disk | None) -> bool:
    """Whether the guest mounts DISK when it boots: pulled out, it is missed until then."""
    return isinstance(disk, DataDisk) and disk.target is not None


def data_disks(machine: VirtualMachine) -> Iterator[DataDisk]:
    """Yield the data disks that MACHINE declares."""
    return (disk for disk in machine.domain.disks if isinstance(disk, DataDisk))


def _undeclared(
    wanted: Collection[str], applied: VirtualMachine, domain: ObservedDomain
) -> list[str]:
    """Return the disks of DOMAIN that are ours but not WANTED any more."""
    ours = [source_of(applied.name, disk) for disk in applied.domain.disks]
    for path in all_disks(domain):
        named = data_of(file_name(path))
        if named is not None and named[0] == domain.name:
            ours.append(file_name(path))
    return [source for source in dict.fromkeys(ours) if source not in wanted]


def _presence(hardware: Hardware, source: str) -> str:
    there = any(source in {path, file_name(path)} for path in hardware.disks)
    return _ATTACHED if there else ABSENT


def _called(source: str) -> str:
    named = data_of(source)
    return source if named is None else named[1]


def _shared(mount: MountPoint | SharedDirectory | None) -> str:
    if mount is None:
        return ABSENT
    return f"{mount.source} by {mount.driver}{', read-only' if mount.read_only else ''}"


def _find(hardware: Hardware | None, tag: str) -> SharedDirectory | None:
    return (
        next((each for each in hardware.directories if each.tag == tag), None) if hardware else None
    )
