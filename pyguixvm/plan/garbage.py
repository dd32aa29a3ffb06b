# SPDX-License-Identifier: GPL-3.0-or-later
"""Which generations and volumes nobody needs any more; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import msgspec

from pyguixvm.model import volume_names
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.observation import StoredVolume
from pyguixvm.model.usage import Address, Kept, Usage


class Garbage(msgspec.Struct, frozen=True, rename="kebab"):
    """What can go: generations by machine and number, and volumes.

    KEPT is what could, but for something else that uses it.  COPIES are domains: throwaway
    copies whose trials ended without removing them.  STRAY are whole root volumes that no
    machine remembers: kept when it was removed, or left when somebody undefined it.  They stay.
    """

    generations: tuple[tuple[str, int], ...]
    volumes: tuple[StoredVolume, ...]
    kept: tuple[Kept, ...] = ()
    copies: tuple[str, ...] = ()
    stray: tuple[StoredVolume, ...] = ()

    @property
    def size(self) -> int:
        """The bytes that would be free."""
        return sum(volume.allocation for volume in self.volumes)


def unused_garbage(
    machines: Iterable[tuple[str, Metadata]],
    volumes: Iterable[StoredVolume],
    usage: Usage,
    *,
    keep: int,
    before: str,
    unreadable: Collection[str] = (),
    changing: Collection[str] = (),
) -> Garbage:
    """Return what of `garbage` nothing uses, as USAGE says.

    A generation of which a volume is in use stays as a whole.  What may belong to one of
    the machines that are UNREADABLE, or that somebody is CHANGING, since it is called so, stays,
    whatever it is; so does every base volume while somebody changes anything: a root that is
    not there yet may be laid on it next.
    Throwaway copies go unless somebody is changing their machine.
    """
    machines, volumes = tuple(machines), tuple(volumes)
    copies = {name for name, metadata in machines if _left_by(name, metadata, changing)}
    machines = tuple(each for each in machines if each[0] not in copies)
    theirs = {
        (volume.pool, volume.name)
        for volume in volumes
        if _may_belong_to(volume.name, {*unreadable, *changing})
        or f"{volume.pool}/{volume.name}" in changing
        or (changing and volume_names.is_base(volume.name))
    }
    found = garbage(machines, volumes, keep=keep, before=before, used=theirs)
    kept = usage.kept(((volume.pool, volume.name) for volume in found.volumes), leaving=copies)
    if kept:
        used = theirs.union((each.pool, each.volume) for each in kept)
        found = garbage(machines, volumes, keep=keep, before=before, used=used)
    return msgspec.structs.replace(
        found,
        kept=kept,
        copies=tuple(sorted(copies)),
        stray=_stray(machines, volumes, theirs, usage),
    )


def _stray(
    machines: Iterable[tuple[str, Metadata]],
    volumes: Iterable[StoredVolume],
    theirs: Collection[Address],
    usage: Usage,
) -> tuple[StoredVolume, ...]:
    """Return the root volumes among VOLUMES that are none of MACHINES', nor THEIRS, nor in use."""
    remembered = {address for _, metadata in machines for address in metadata.roots}
    roots = tuple(
        volume
        for volume in volumes
        if volume.whole
        and volume_names.generation_of(volume.name)
        and (volume.pool, volume.name) not in remembered.union(theirs)
    )
    used = usage.kept(((each.pool, each.name) for each in roots), leaving=())
    in_use = {(each.pool, each.volume) for each in used}
    return tuple(each for each in roots if (each.pool, each.name) not in in_use)


def _left_by(name: str, metadata: Metadata, changing: Collection[str]) -> bool:
    """Whether domain NAME, which has METADATA, is a copy that a trial which ended has left."""
    machine = volume_names.tried_machine(name)
    return (
        machine is not None
        and machine not in changing
        and metadata.generation.volume == volume_names.trial_volume(machine)
    )


def garbage(
    machines: Iterable[tuple[str, Metadata]],
    volumes: Iterable[StoredVolume],
    *,
    keep: int,
    before: str,
    used: Collection[Address] = (),
) -> Garbage:
    """Return what is not needed if the newest KEEP generations of each machine stay.

    Of the others those go that were made at BEFORE (UTC in ISO 8601) or earlier.
    The current one, the one before it and one to fall back to always stay.
    Volumes that belong to no machine, kept when it was removed, stay, too, and
    what they stand on; so do generations with a volume that is USED, and that.
    Locks of earlier versions, which ended, go, what throwaway copies wrote to, and
    what was brought to guests.
    """
    machines = tuple(machines)
    volumes = tuple(volumes)
    needed: set[Address] = set(used)
    gone: list[tuple[str, Generation]] = []
    for name, metadata in machines:
        unneeded = tuple(
            generation
            for generation in _unneeded(metadata, keep, before)
            if not any((generation.pool, volume) in used for volume in generation.volumes)
        )
        gone += ((name, generation) for generation in unneeded)
        for generation in metadata.generations:
            if generation not in unneeded:
                needed |= {
                    (generation.pool, generation.base or ""),
                    *((generation.pool, volume) for volume in generation.volumes),
                }
    candidates = {
        (generation.pool, volume) for _, generation in gone for volume in generation.volumes
    }
    # What was merged into another volume is no generation's any more.
    candidates |= {address for _, metadata in machines for address in metadata.roots}
    candidates |= _of_copies(volumes)
    candidates -= needed
    needed |= {
        (volume.pool, volume.base)
        for volume in volumes
        if volume.base and volume.whole and (volume.pool, volume.name) not in candidates
    }
    # Where a root volume is in the making, the base it stands on is not in any metadata yet; one
    # that goes, as it was broken off, needs none any more.
    busy = {
        volume.pool
        for volume in volumes
        if not volume.whole and (volume.pool, volume.name) in needed
    }
    return Garbage(
        generations=tuple((name, generation.number) for name, generation in gone),
        volumes=tuple(
            volume
            for volume in volumes
            if (volume.pool, volume.name) not in needed
            and (
                (volume.pool, volume.name) in candidates
                or not volume.whole
                or volume_names.is_former_lock(volume.name)
                or (volume_names.is_base(volume.name) and volume.pool not in busy)
            )
        ),
    )


def _of_copies(volumes: Iterable[StoredVolume]) -> set[Address]:
    """Return what throwaway copies wrote to, and parcels: who is about one would hold a lock."""
    return {
        (each.pool, each.name)
        for each in volumes
        if volume_names.is_trial(each.name) or volume_names.is_parcel(each.name)
    }


def _may_belong_to(volume: str, machines: Collection[str]) -> bool:
    """Whether VOLUME is called as one of one of MACHINES; names may hold dots themselves."""
    return any(volume.startswith(f"{volume_names.PREFIX}{machine}.") for machine in machines)


def _unneeded(metadata: Metadata, keep: int, before: str) -> Iterator[Generation]:
    previous = metadata.previous
    protected = {metadata.current, metadata.fallback, previous.number if previous else None}
    good = [g.number for g in metadata.generations if not g.failed]
    protected |= set(sorted(good)[-keep:] if keep else ())
    for generation in metadata.generations:
        old = generation.date <= before
        if generation.number not in protected and (old or generation.failed):
            yield generation
