# SPDX-License-Identifier: GPL-3.0-or-later
"""What others did to the disks of a machine, which none of our changes may hide; pure.

Backup tools and virt-manager put a layer on a disk: from then on the guest writes to a file
of theirs.  Defined with our volume again, it would lose what it wrote since.
"""

from __future__ import annotations

from collections.abc import Collection
from shlex import quote

import msgspec

from pyguixvm.advice import words
from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.arrival import Arrival
from pyguixvm.model.declaration import DataDisk, VirtualMachine
from pyguixvm.model.difference import Difference
from pyguixvm.model.observation import MIGRATED, BlockJob, ObservedDisk, ObservedDomain
from pyguixvm.model.volume_names import (
    data_label,
    data_of,
    data_volume,
    file_name,
    generation_of,
)

ROOT = "vda"
_NOTHING_DONE = "Nothing was done"


class Interference(msgspec.Struct, frozen=True):
    """A disk that the guest has on SOURCE, and we have on VOLUME.

    PATH is that of the difference it makes, which has FOUND.  SAID is what was done to it;
    COMMANDS, where there are any, undo that without a loss, else there is an ADVICE.
    """

    path: str
    source: str
    volume: str
    found: str
    said: str
    commands: tuple[str, ...] = ()
    advice: str = ""


def interferences(domain: ObservedDomain) -> tuple[Interference, ...]:
    """Return what others did to the disks of DOMAIN, one of ours: as defined and as it runs."""
    metadata = domain.metadata
    if metadata is None:
        return ()
    stacks = (*domain.defined.stacks, *(domain.live.stacks if domain.live else ()))
    found: dict[str, Interference] = {}
    for disk in stacks:
        known = _interference(domain, metadata, disk)
        if known is not None:
            found.setdefault(known.path, known)
    return tuple(found.values())


def disk_interferences(domain: ObservedDomain) -> dict[str, Difference]:
    """Return what others did to the disks of DOMAIN as differences, by their paths."""
    return {
        each.path: Difference(path=each.path, old=each.found, new=each.volume, effect="none")
        for each in interferences(domain)
    }


def require_own_disks(domain: ObservedDomain, root: str | None = None) -> None:
    """Raise RequestRefusedError if others did something to the disks of DOMAIN.

    That it is on the volume ROOT, to which it is to return, is well.
    """
    found = [
        each
        for each in interferences(domain)
        if each.path != "root" or file_name(each.source) != root
    ]
    if not found:
        return
    commands = dict.fromkeys(command for each in found for command in each.commands)
    advice = dict.fromkeys(each.advice for each in found if each.advice)
    ways = [*([f"Merge it first: {' && '.join(commands)}"] if commands else []), *advice]
    raise RequestRefusedError(
        "; ".join(each.said for each in found), hint=f"{_NOTHING_DONE}. {'. '.join(ways)}."
    )


def require_volumes(domain: ObservedDomain) -> None:
    """Raise RequestRefusedError if the guest of DOMAIN runs on a volume that was deleted."""
    if domain.data_gone:
        name, volume = domain.name, domain.data_gone[0]
        _, disk = data_of(volume) or ("", volume)
        raise RequestRefusedError(
            f"the volume of data disk '{disk}' of '{name}', {volume}, was deleted while its guest "
            "runs: what that holds is lost when the guest stops",
            hint=f"{_NOTHING_DONE}. Save from within the guest what is needed, power it off with "
            f"'pyguixvm destroy {name}', and put back a copy of the volume, or what was saved.",
        )
    if domain.root_gone and domain.live is not None and domain.metadata is not None:
        name, volume = domain.name, domain.metadata.generation.volume
        raise RequestRefusedError(
            f"the root volume of '{name}', {volume}, was deleted while its guest runs: what that "
            "holds is lost when the guest stops",
            hint=f"{_NOTHING_DONE}. Save from within the guest what is needed, then give it up "
            f"with 'pyguixvm destroy {name}', and deploy again, which makes a new root.",
        )


def require_idle_disks(domain: ObservedDomain) -> None:
    """Raise RequestRefusedError if libvirt works at a disk of DOMAIN, unless we began that."""
    jobs = [job for job in domain.jobs if not _is_ours(job, domain.metadata)]
    if jobs:
        job = jobs[0]
        raise RequestRefusedError(
            f"a {job.kind} of disk {job.target} of '{domain.name}' is going on",
            hint=f"{_NOTHING_DONE}. Wait for it ('virsh blockjob {domain.name} {job.target}' "
            f"shows how far it is, with --abort it ends), and try again.",
        )


def _is_ours(job: BlockJob, metadata: Metadata | None) -> bool:
    """Whether JOB merges what METADATA says: it may end anywhere, and is begun again."""
    merging = metadata is not None and metadata.merging is not None
    return merging and (job.target, job.kind) == (ROOT, "block commit")


def require_no_memory(domain: ObservedDomain) -> None:
    """Raise RequestRefusedError if libvirt keeps the memory of DOMAIN, which is off.

    Started, its guest would go on from that, whatever its disks hold by then, with the
    definition that it had.
    """
    if domain.saved:
        name = domain.name
        raise RequestRefusedError(
            f"the memory of '{name}' is kept, as 'virsh managedsave' does, to go on from there",
            hint=f"{_NOTHING_DONE}. Let it go on with 'pyguixvm start {name}' and try again; or "
            f"give up what it had not written to its disks: 'virsh managedsave-remove {name}'.",
        )


def require_arrived(domain: ObservedDomain) -> None:
    """Raise RequestRefusedError if DOMAIN is on its way here: it may run where it comes from."""
    arrival = domain.metadata.arrival if domain.metadata else None
    if arrival is not None and arrival.fenced:
        raise not_arrived(domain.name, arrival)


def not_arrived(name: str, arrival: Arrival) -> RequestRefusedError:
    """Return what is to be raised for machine NAME, whose ARRIVAL is not over."""
    return RequestRefusedError(
        f"'{name}' is on its way here from {arrival.uri}, and may run there",
        hint="Whoever began that may be at it. If nobody is, this goes on: "
        f"pyguixvm -c {quote(arrival.uri)} migrate {name} --to URI, "
        "with the URI of this hypervisor",
    )


def require_at_home(domain: ObservedDomain) -> None:
    """Raise RequestRefusedError if DOMAIN may run elsewhere: it is on its way, or was migrated."""
    require_arrived(domain)
    if domain.state == "shut off" and domain.reason == MIGRATED:
        name = domain.name
        raise RequestRefusedError(
            f"'{name}' was migrated away, and may run elsewhere, on the same disks",
            hint=f"{_NOTHING_DONE}. Migrate it back; or, if it runs nowhere any more: virsh start "
            f"{name}, and deploy again.",
        )


def require_unkept(domain: ObservedDomain) -> None:
    """Raise RequestRefusedError if libvirt keeps snapshots or checkpoints of DOMAIN."""
    name = domain.name
    kept = {
        "snapshot": [snapshot.name for snapshot in domain.snapshots],
        "checkpoint": list(domain.checkpoints),
    }
    # Of one that is off, libvirt can but forget them.
    forgetting = {"checkpoint": " --metadata"} if domain.live is None else {}
    for kind, names in kept.items():
        if names:
            how = f"{kind}-delete{forgetting.get(kind, '')}"
            count = f"{len(names)} {kind}{'' if len(names) == 1 else 's'}"
            raise RequestRefusedError(
                f"'{name}' has {count}: {', '.join(names)}",
                hint=f"{_NOTHING_DONE}. Delete what is not needed any more: "
                + " && ".join(_deleting(how, name, each) for each in reversed(names)),
            )


def _deleting(how: str, domain: str, name: str) -> str:
    return f"virsh {how} {words(domain, name)}"


def _interference(
    domain: ObservedDomain, metadata: Metadata, disk: ObservedDisk
) -> Interference | None:
    """Return what was done to DISK; None if it is as we left it, or none of ours."""
    top = file_name(disk.source)
    machine = metadata.generation.declaration
    names = {domain.name, machine.name}
    if top in metadata.generation.under and disk in domain.defined.stacks:
        return _merged(domain, metadata, disk)
    if top in metadata.volumes or _machine_of(generation_of(top)) in names:
        return None
    for below in disk.below or ():
        path = _path(file_name(below), metadata, names)
        if path is not None:
            return _layer(domain, disk, below, path)
    if _machine_of(data_of(top)) in names:
        return None
    place = _place(machine, metadata.generation.volume, disk)
    return None if place is None else _replaced(domain, disk, *place)


def _machine_of(named: tuple[str, object] | None) -> str | None:
    return None if named is None else named[0]


def _path(volume: str, metadata: Metadata, names: Collection[str]) -> str | None:
    """Return which difference is about VOLUME of the machine with NAMES, None if it has none."""
    if volume in metadata.volumes:
        return "root"
    data = data_of(volume)
    return f"domain.disks.{data[1]}" if data is not None and data[0] in names else None


def _place(machine: VirtualMachine, root: str, disk: ObservedDisk) -> tuple[str, str] | None:
    """Return volume and difference of what MACHINE, with ROOT, has where DISK is; or None."""
    if disk.target == ROOT:
        return root, "root"
    for each in machine.domain.disks:
        if isinstance(each, DataDisk) and disk.serial == data_label(each.name):
            return data_volume(machine.name, each.name), f"domain.disks.{each.name}"
    return None


def _layer(domain: ObservedDomain, disk: ObservedDisk, below: str, path: str) -> Interference:
    """Return in words that DISK is a layer on our volume at the file name BELOW."""
    top, volume = file_name(disk.source), file_name(below)
    chain = (disk.source, *(disk.below or ()))
    layers = set(chain[: chain.index(below)])
    kept = [each for each in domain.snapshots if layers & set(each.layers)]
    base = quote(below)
    commit = f"virsh blockcommit {domain.name} {disk.target} --base {base} --active --pivot"
    if layers <= {layer for snapshot in kept for layer in snapshot.layers}:
        commands = [_deleting("snapshot-delete", domain.name, each.name) for each in reversed(kept)]
    elif domain.live is None:
        commands = [f"virsh start {domain.name}", commit]
    else:
        commands = [commit]
    return Interference(
        path=path,
        source=disk.source,
        volume=volume,
        found=f"{top}, a snapshot's layer on it",
        said=f"a snapshot's layer, '{top}', stands on {_called(path)} of '{domain.name}' and has "
        "what was written since",
        commands=tuple(commands),
    )


def _replaced(domain: ObservedDomain, disk: ObservedDisk, volume: str, path: str) -> Interference:
    """Return in words that DISK is on something else than our VOLUME."""
    return Interference(
        path=path,
        source=disk.source,
        volume=volume,
        found=disk.source,
        said=f"{disk.source} is in the place of {_called(path)} of '{domain.name}', {volume}",
        advice="Keep what it holds, then take it out with 'virsh detach-disk "
        f"{domain.name} {disk.target} --config', and deploy again",
    )


def _merged(domain: ObservedDomain, metadata: Metadata, disk: ObservedDisk) -> Interference:
    """Return in words that our root was merged into one below it, on which DISK is now."""
    top, current = file_name(disk.source), metadata.generation
    number = next((g.number for g in metadata.generations if g.volume == top), None)
    return Interference(
        path="root",
        source=disk.source,
        volume=current.volume,
        found=f"{top}, below it",
        said=f"the root volume of '{domain.name}', {current.volume}, was merged into {top}, "
        "on which it stood",
        advice=f"Go on from there with 'pyguixvm rollback {domain.name} {number}', and deploy again"
        if number is not None
        else f"Keep what {disk.source} holds",
    )


def _called(path: str) -> str:
    return "the root volume" if path == "root" else f"data disk '{path.rpartition('.')[2]}'"
