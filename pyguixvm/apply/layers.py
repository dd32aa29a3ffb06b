# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that the root of a running guest stands on are merged.

In this order, so that whoever is killed in between leaves what can be gone on with: what
cannot be returned to any more is forgotten, and it is remembered what is merged; that is
done; what stood on it is remembered, and defined, to stand on what it became; then the
volumes go that are there no more for anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.definition import define
from pyguixvm.apply.unused_volumes import delete_unused, usage
from pyguixvm.errors import HypervisorError, LostLockError, RequestRefusedError
from pyguixvm.events import PhaseProgress, phase
from pyguixvm.hypervisor import commit, domains, pools, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.model.applied import Merging, Metadata
from pyguixvm.plan.actions import DefineDomain, MergeLayers
from pyguixvm.plan.layers import mergeable, merged
from pyguixvm.plan.plan import MachinePlan


def merge_layers(machine: str, action: MergeLayers, workshop: Workshop) -> None:
    """Make one of the volumes that ACTION names, on which the root of MACHINE stands.

    What is in the way is told, and nothing else: the guest has what it was changed for.
    Raises LostLockError.
    """
    try:
        _merge(machine, action, workshop)
    except LostLockError:
        # All that would follow is another one's to do by now.
        raise
    except (HypervisorError, RequestRefusedError) as error:
        workshop.warn(machine, f"the volumes that its root stands on stay: {error.message}")


def _merge(machine: str, action: MergeLayers, workshop: Workshop) -> None:
    connection = workshop.connection
    metadata = domains.read_metadata(connection, machine)
    merging = Merging(action.pool, action.volumes)
    if _possible(connection, metadata, merging):
        found = _volumes(connection, merging)
        files = [each.path for each in found]
        stage = commit.stage(connection, machine, files)
        _require_ours(metadata, stage)
        if stage == "to do":
            # At most.  In a full pool, whatever guest writes to it stands still.
            needed = sum(each.allocation for each in found[:-1])
            pools.require_space(connection, merging.pool, needed, "to merge them")
        with phase(workshop.emit, "update", machine) as result:
            rest = tuple(g for g in metadata.generations if g.number not in action.generations)
            metadata = msgspec.structs.replace(metadata, generations=rest, merging=merging)
            _remember(machine, metadata, workshop)
            if not _committed(machine, files, workshop):
                result.detail = "volumes below its root are being merged still"
                return
            result.detail = f"{len(merging.volumes)} volumes below its root are one"
        _remember(machine, merged(metadata, merging), workshop)
    _clear(machine, merging, workshop)


def _clear(machine: str, merging: Merging, workshop: Workshop) -> None:
    """Have nothing be left of what was MERGING below the root of MACHINE."""
    connection = workshop.connection
    metadata = domains.read_metadata(connection, machine)
    remembered = {(g.pool, volume) for g in metadata.generations for volume in g.volumes}
    gone = [
        each for volume in merging.volumes if (each := (merging.pool, volume)) not in remembered
    ]
    if gone:
        _define(machine, workshop)
        workshop.require(machine)
        for kept in delete_unused(connection, gone):
            workshop.warn(machine, str(kept))
        metadata = domains.read_metadata(connection, machine)
    _remember(machine, msgspec.structs.replace(metadata, merging=None), workshop)


def _possible(connection: Connection, metadata: Metadata, merging: Merging) -> bool:
    """Whether what is MERGING is below the root of METADATA, and nothing else stands on it."""
    if not mergeable(metadata, merging):
        return False
    used = usage(connection)
    files = [used.volumes.get((merging.pool, volume)) for volume in merging.volumes]
    chain = {used.volumes.get((merging.pool, each)) for each in metadata.generation.volumes}
    others = {file for file, below in used.backing.items() if below in files and file not in chain}
    return not others


def _volumes(connection: Connection, merging: Merging) -> tuple[volumes.Volume, ...]:
    """Return what is MERGING as it is now."""
    found = [volumes.lookup(connection, merging.pool, volume) for volume in merging.volumes]
    there = tuple(each for each in found if each is not None)
    if len(there) < len(found):
        raise RequestRefusedError(f"a volume of them is not in pool '{merging.pool}' any more")
    return there


def _require_ours(metadata: Metadata, stage: commit.Stage) -> None:
    """Raise HypervisorError if a merge at STAGE was begun by others than METADATA is of."""
    if stage != "to do" and metadata.merging is None:
        raise HypervisorError("others merge some of them, or have done so")


def _committed(machine: str, files: Sequence[str], workshop: Workshop) -> bool:
    """Merge FILES below the root of MACHINE, whose guest runs; whether it is over.

    If the work is to end meanwhile, it goes on.
    """
    workshop.require(machine)

    def told(done: int, total: int) -> None:
        workshop.emit(PhaseProgress("update", done, total, machine))

    def wanted() -> bool:
        return not workshop.interruption.asked

    return commit.commit(workshop.connection, machine, files, told, wanted, workshop.sleep)


def _define(machine: str, workshop: Workshop) -> None:
    """Define the domain of MACHINE with what its root stands on by now."""
    metadata = domains.read_metadata(workshop.connection, machine)
    declaration = metadata.generation.declaration
    as_it_is = MachinePlan(machine=declaration, effect="live", fallback=metadata.fallback)
    action = DefineDomain(metadata.current, declaration.domain.autostart)
    # Of which commits it is has not changed.
    define(as_it_is, action, None, None, dataclasses.replace(workshop, provenance=None))


def _remember(machine: str, metadata: Metadata, workshop: Workshop) -> None:
    workshop.require(machine)
    domains.write_metadata(workshop.connection, machine, metadata)
