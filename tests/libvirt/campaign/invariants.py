# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be so, whatever happened."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

from deploying import session

from pyguixvm.commands import garbage
from pyguixvm.hypervisor import data_records
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.volume_names import data_of, generation_of, is_marker, is_ours, marker


def violations(scene, before, after, deleted, connection):
    """Yield what is not as it has to be AFTER what was done to what there was BEFORE.

    DELETED are the machines whose data somebody asked to delete.
    """
    yield from _data(before, after, deleted)
    yield from _disks(before, after, deleted)
    yield from _references(before, after)
    yield from _copies(before, after)
    yield from _theirs(scene, before, after)
    for name, who in observe(connection, Depth.HOLDERS).holders.items():
        if name in scene.names or name.startswith(f"{scene.pool}/"):
            yield f"{name} is still held by {who}, and nobody is at work"


def _data(before, after, deleted):
    """Each data volume is there, with what it held."""
    for path, mark in before.data.items():
        machine, _ = data_of(Path(path).name)
        if machine in deleted:
            continue
        if path not in after.data:
            yield f"{path} is gone"
        elif mark is not None and after.data[path] != mark:
            yield f"{path} held {mark}, and holds {after.data[path]}"


def _disks(before, after, deleted):
    """What guests read on their data disks is what they wrote, whatever that is on."""
    for name in (before.domains.keys() & after.domains.keys()) - set(deleted):
        now = {disk.serial: disk for disk in after.domains[name].disks}
        for disk in before.domains[name].disks:
            found = now.get(disk.serial)
            if disk.serial is None or found is None:
                continue
            if disk.mark is not None and found.mark != disk.mark:
                yield f"{disk.serial} of {name} read {disk.mark}, and now {found.mark}"
            if not disk.whole and found.whole and disk.source == found.source:
                yield f"{disk.source} was gone, and was made anew"


def _references(before, after):
    """What a definition refers to is there as a whole, unless others had taken it away."""
    broken = {d.source for each in before.domains.values() for d in each.disks if not d.whole}
    for name, domain in after.domains.items():
        for disk in domain.disks:
            if not disk.whole and disk.source not in broken:
                yield f"{name} refers to {disk.source}, which is not there as a whole"


def _copies(before, after):
    """No two domains run on one file, or are one machine."""
    counted = Counter(file for each in after.domains.values() for file in each.runs_on)
    for file, count in counted.items():
        if count > 1:
            yield f"{count} domains run on {file}"
    counted = Counter(each.source for domain in after.domains.values() for each in domain.disks)
    earlier = Counter(each.source for domain in before.domains.values() for each in domain.disks)
    for file, count in counted.items():
        if count > max(1, earlier[file]) and is_ours(Path(file).name):
            yield f"{count} domains are defined with {file}"


def _theirs(scene, before, after):
    """What is not ours is as it was."""
    name = scene.theirs
    if after.domains.get(name) != before.domains.get(name):
        yield f"{name} is not as it was"
    for path, state in before.theirs.items():
        if after.theirs.get(path) != state:
            yield f"{path}, which is not ours, was {state} and is {after.theirs.get(path)}"


def orphans(scene, connection, directory):
    """Yield the volumes of ours that nobody refers to and `gc` does not know."""
    observation = observe(connection, Depth.VOLUMES | Depth.RECORDS | Depth.HOLDERS)
    found = garbage.unneeded(session(directory), keep=0, older_than=timedelta(0))
    known = {volume.name for volume in found.volumes}
    known |= {kept.volume for kept in found.kept}
    known |= {each.name for each in found.stray if generation_of(each.name)[0] in scene.let_go}
    known |= {record.volume for record in data_records.read(connection)}
    for domain in observation.domains.values():
        if domain.metadata is not None:
            known |= domain.metadata.volumes
            known |= {each.base for each in domain.metadata.generations if each.base}
        for hardware in (domain.defined, domain.live):
            for disk in hardware.stacks if hardware else ():
                known |= {Path(each).name for each in (disk.source, *(disk.below or ()))}
    known |= {marker(each) for each in known}
    # Bases stay for what is in the making, and for whoever holds a lock.
    broken_off = [each.name for each in observation.stored if not each.whole]
    why = f"in the making: {broken_off}, held: {[*observation.holders]}"
    for name in observation.pools.get(scene.pool, ()):
        if name not in known | scene.likenesses and not is_marker(name):
            yield f"{name} ({why})"
