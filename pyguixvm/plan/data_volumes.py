# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the volumes of data disks are where they should be, and hold what they should; pure.

One that was made is never made anew, empty, beside what it holds; and none is taken up by its
name alone.
"""

from __future__ import annotations

from pyguixvm.advice import words
from pyguixvm.model.data_record import FoundRecord
from pyguixvm.model.declaration import DataDisk, VirtualMachine
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.model.volume_names import data_volume
from pyguixvm.plan.disks import attached_at, data_disks, shrunk

# What is said, and what to do.
Refusal = tuple[str, str]


def volume_refusal(
    machine: VirtualMachine,
    domain: ObservedDomain | None,
    observation: Observation,
    deployment: str | None = None,
) -> Refusal | None:
    """Return which volume of MACHINE, of DEPLOYMENT, defined as DOMAIN, forbids it; or None.

    It should be where the definition has it, or, if that has not, in the declared pool.
    """
    found = (
        _refusal(machine, disk, domain, observation, deployment) for disk in data_disks(machine)
    )
    return next(filter(None, found), None)


def _refusal(
    machine: VirtualMachine,
    disk: DataDisk,
    domain: ObservedDomain | None,
    observation: Observation,
    deployment: str | None,
) -> Refusal | None:
    volume = data_volume(machine.name, disk.name)
    path = None if domain is None else attached_at(domain, volume)
    if domain is not None and path is not None:
        gone = volume not in domain.capacities
        return missing(disk.name, volume, f"not at {path}") if gone else None
    return _of_records(machine, disk, domain, observation, deployment)


def _of_records(
    machine: VirtualMachine,
    disk: DataDisk,
    domain: ObservedDomain | None,
    observation: Observation,
    deployment: str | None,
) -> Refusal | None:
    """Return why the volume of DISK, which DOMAIN is not defined with, forbids it; or None."""
    volume, pool = data_volume(machine.name, disk.name), machine.domain.pool
    records = [each for each in observation.recorded if each.record.volume == volume]
    here = [each for each in records if each.record.pool == pool]
    there = volume in observation.pools.get(pool, ())
    made = [each for each in records if not each.record.making or each in here]
    if made and not here:
        return _made_elsewhere(disk, pool, made[0], observation)
    if there and here:
        return _other(machine, disk, here[0], deployment)
    if there:
        # Versions before records remember it in the domain's metadata.
        return None if _had(domain, disk) else _unknown(disk, volume, pool)
    if here and not here[0].record.making:
        return _lost(disk, here[0], observation)
    if others := [name for name, found in observation.pools.items() if volume in found]:
        return _elsewhere(disk.name, volume, pool, others)
    return missing(disk.name, volume, f"not in pool '{pool}'") if _had(domain, disk) else None


def lacks_disks(machine: VirtualMachine, observation: Observation) -> bool:
    """Whether a data disk of MACHINE is yet to be given to it: then records say what it may be."""
    domain = observation.domains.get(machine.name)
    return any(
        domain is None or attached_at(domain, data_volume(machine.name, disk.name)) is None
        for disk in data_disks(machine)
    )


def _had(domain: ObservedDomain | None, disk: DataDisk) -> bool:
    """Whether DISK was declared when the machine of DOMAIN was deployed the last time."""
    if domain is None or domain.metadata is None:
        return False
    before = domain.metadata.generation.declaration
    return disk.name in {each.name for each in data_disks(before)}


def _other(
    machine: VirtualMachine, disk: DataDisk, kept: FoundRecord, deployment: str | None
) -> Refusal | None:
    """Return why what is KEPT cannot be DISK of MACHINE, of DEPLOYMENT; or None."""
    record, address = kept.record, words("/".join(kept.record.address))
    volume = f"volume '{record.volume}' of pool '{record.pool}'"
    way_out = (
        "Nothing was done. Declare a disk of another name; or, if nobody needs what it holds: "
        f"pyguixvm volumes delete {address}"
    )
    if kept.is_another:
        return (
            f"{volume} is not the one that was made for data disk '{disk.name}': another one has "
            "taken its place",
            "Nothing was done. Put that back from where it was moved to; or, if this one holds "
            f"what the disk is to hold: pyguixvm volumes adopt {address}",
        )
    if record.deployment not in {None, deployment}:
        return (
            f"{volume} is kept from before, and holds data of '{record.machine}' of deployment "
            f"'{record.deployment}'",
            f"To let this one have it: pyguixvm volumes adopt {address}. {way_out}",
        )
    if record.file_system not in {None, disk.file_system}:
        return (
            f"{volume} is kept from before, and holds {record.file_system}; data disk "
            f"'{disk.name}' is declared as {disk.file_system}, and is formatted only once",
            f'To take it up, declare (file-system "{record.file_system}"). {way_out}',
        )
    if record.size is not None and record.size > disk.size:
        said, hint = shrunk(machine.name, disk.name, record.size, disk.size)
        return f"{volume} is kept from before: {said}", hint
    return None


def _unknown(disk: DataDisk, volume: str, pool: str) -> Refusal:
    return (
        f"volume '{volume}' of pool '{pool}' is called as that of data disk '{disk.name}', and "
        "there is no record that it was made for it",
        "Nothing was done. It may be somebody's copy, or be kept by an earlier version. If it "
        f"holds what the disk is to hold: pyguixvm volumes adopt {words(f'{pool}/{volume}')}. "
        "For an empty disk, declare one of another name.",
    )


def missing(disk: str, volume: str, where: str) -> Refusal:
    """Return that VOLUME of data disk DISK is not WHERE it should be, and what to do."""
    return (
        f"volume '{volume}' of data disk '{disk}' is {where} (is the pool inactive, or a disk "
        "of the host not mounted?)",
        "Nothing was done. See 'virsh pool-list --all', and 'findmnt' on the hypervisor. If it "
        "was deleted, its data is lost: take the disk out of the declaration, deploy, and declare "
        "it again.",
    )


def _made_elsewhere(
    disk: DataDisk, pool: str, made: FoundRecord, observation: Observation
) -> Refusal:
    """Return that the volume of DISK was MADE in another pool than POOL, which is declared."""
    record = made.record
    if record.volume not in observation.pools.get(record.pool, ()):
        return _lost(disk, made, observation)
    return (
        f"volume '{record.volume}' of data disk '{disk.name}' is not in pool '{pool}', which is "
        f"declared, but in pool '{record.pool}'",
        f'Nothing was done. Declare (pool "{record.pool}"); or, if it was moved, or is to be made '
        f"anew, have that one forgotten: pyguixvm volumes forget {words('/'.join(record.address))}",
    )


def _lost(disk: DataDisk, lost: FoundRecord, observation: Observation) -> Refusal:
    """Return that the volume of DISK was made, and is LOST, or not to be seen."""
    pool, volume = lost.record.address
    if pool in observation.pools:
        reason = "where it was made (is a disk of the host not mounted?)"
        way = (
            "See 'findmnt' on the hypervisor; "
            f"'virsh pool-refresh {words(pool)}' has libvirt look again"
        )
    else:
        reason, way = "where it was made: that is not active", f"virsh pool-start {words(pool)}"
    return (
        f"volume '{volume}' of data disk '{disk.name}' is not in pool '{pool}', {reason}",
        f"Nothing was done. {way}. If its data is lost, and the disk is to be made anew, empty: "
        f"pyguixvm volumes forget {words(f'{pool}/{volume}')}",
    )


def _elsewhere(disk: str, volume: str, pool: str, others: list[str]) -> Refusal:
    found = ", ".join(f"'{name}'" for name in others)
    return (
        f"volume '{volume}' of data disk '{disk}' is not in pool '{pool}', which is declared, "
        f"and one of that name is in pool {found}",
        f'Nothing was done. If it holds the data, declare (pool "{others[0]}"), or copy it to '
        f"pool '{pool}' with 'virsh vol-clone' or 'virsh vol-download'; for an empty disk, "
        "declare one of another name.",
    )
