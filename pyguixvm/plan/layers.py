# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the volumes that a root stands on become one, so that changes do not pile up; pure.

Each window of changes puts a volume on a root.  What was written to some of them is merged
into the lowest of these, which from then on is what the uppermost was.  So that one can be
returned to still, and those between no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec

from pyguixvm.model.applied import Merging, Metadata
from pyguixvm.model.observation import ObservedDomain
from pyguixvm.plan.actions import MergeLayers

# A root may consist of that many volumes, each of which makes reading a little slower; libvirt
# follows 200.  Of more, the newest stay as they are, and the lowest, which was made afresh.
MOST = 16
_NEWEST = 8


def unfinished(metadata: Metadata) -> MergeLayers | None:
    """Return how to go on with what METADATA says is being merged, None if nothing is."""
    merging = metadata.merging
    return None if merging is None else MergeLayers(merging.pool, merging.volumes)


def superfluous(
    domain: ObservedDomain, metadata: Metadata, added: str | None, needed: Collection[int | None]
) -> MergeLayers | None:
    """Return what is to be merged of the root of DOMAIN, which gets the volume ADDED.

    NEEDED are the numbers of generations that must stay as they are, among others.  None if
    there are few volumes, or none that only this root stands on.
    """
    current = metadata.generation
    chain = (*([added] if added else []), *current.volumes)
    if len(chain) <= MOST or domain.snapshots or domain.checkpoints or metadata.merging:
        return None
    previous = metadata.previous
    stay = {metadata.current, metadata.fallback, previous.number if previous else None, *needed}
    kept = {each.volume for each in metadata.generations if each.number in stay}
    kept.update(_branched(metadata, chain))
    volumes = max(_runs(chain[_NEWEST:-1], kept), key=len, default=())
    if len(volumes) < 2:  # noqa: PLR2004 -- one into another one
        return None
    lost = tuple(
        each.number
        for each in metadata.generations
        if each.pool == current.pool and each.volume in volumes[1:]
    )
    return MergeLayers(current.pool, volumes, lost)


def mergeable(metadata: Metadata, merging: Merging) -> bool:
    """Whether what is MERGING is below the current root of METADATA, and below no other one."""
    current = metadata.generation
    chain, volumes = current.volumes, merging.volumes
    begin = chain.index(volumes[0]) if volumes[0] in chain else 0
    return (
        begin > 0
        and current.pool == merging.pool
        and chain[begin : begin + len(volumes)] == volumes
        and not set(volumes).intersection(_branched(metadata, chain))
    )


def merged(metadata: Metadata, merging: Merging) -> Metadata:
    """Return METADATA where what was MERGING is one volume now; that it was is remembered still."""
    top, gone = merging.volumes[0], merging.volumes[:-1]
    for each in metadata.generations:
        if each.pool == merging.pool and top in each.volumes:
            volume, *under = (volume for volume in each.volumes if volume not in gone)
            metadata = metadata.having(
                msgspec.structs.replace(each, volume=volume, under=tuple(under))
            )
    return metadata


def _branched(metadata: Metadata, chain: Collection[str]) -> Iterator[str]:
    """Yield each volume of CHAIN that another root of METADATA stands on, next to that."""
    for each in metadata.generations:
        if each.volume not in chain:
            yield from [volume for volume in each.under if volume in chain][:1]


def _runs(chain: Collection[str], kept: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Yield the parts of CHAIN between those that are KEPT."""
    run: list[str] = []
    for volume in chain:
        if volume in kept:
            yield tuple(run)
            run = []
        else:
            run.append(volume)
    yield tuple(run)
