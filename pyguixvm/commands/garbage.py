# SPDX-License-Identifier: GPL-3.0-or-later
"""What no machine needs any more is let go of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from pyguixvm.apply.unused_volumes import usage
from pyguixvm.commands.gc_roots import release
from pyguixvm.commands.generations import all_metadata
from pyguixvm.commands.session import Session
from pyguixvm.events import phase
from pyguixvm.hypervisor import domains, incomplete_volume, transient
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.observation import StoredVolume
from pyguixvm.model.volume_names import generation_of, tried_machine
from pyguixvm.plan.garbage import Garbage, unused_garbage


def unneeded(session: Session, *, keep: int, older_than: timedelta) -> Garbage:
    """Return what `collect` would remove from the session's hypervisor; nothing is done."""
    with connect(session.uri) as connection:
        return _unneeded(connection, keep, older_than)


def _unneeded(
    connection: Connection, keep: int, older_than: timedelta, mine: Collection[str] = ()
) -> Garbage:
    """Return what nobody needs; MINE are the machines that are locked for this."""
    observation = observe(connection, Depth.VOLUMES | Depth.HOLDERS)
    return unused_garbage(
        all_metadata(observation).items(),
        observation.stored,
        usage(connection),
        keep=keep,
        before=(datetime.now(UTC) - older_than).isoformat(timespec="seconds"),
        unreadable={
            name
            for domain in observation.domains.values()
            if domain.unreadable is not None
            for name in (domain.name, domain.renamed_from)
            if name is not None
        },
        changing=observation.holders.keys() - mine,
    )


def collect(session: Session, *, keep: int, older_than: timedelta, agreed: Garbage) -> Garbage:
    """Remove what was AGREED on and is still not needed; return what went.

    A generation leaves its machine's memory before its volume goes: what is
    remembered is there.  Whoever is killed in between has marked it.

    What a volume is needed for may begin at any time.  Who comes after it is marked does not
    take it for whole, and makes it anew; who came before is seen by a look after that.
    """
    machines = {name for name, _ in agreed.generations}
    machines |= {machine for copy in agreed.copies if (machine := tried_machine(copy))}
    with connect(session.uri) as connection, held(connection, machines, session.emit, "gc") as lock:
        still = _unneeded(connection, keep, older_than, machines)
        going = _both(agreed, still, (v for v in still.volumes if v in agreed.volumes))
        with phase(session.emit, "remove"):
            going, unmarked = _condemned(connection, going, keep, older_than, machines)
            for copy in going.copies:
                lock.require(tried_machine(copy) or "")
                transient.remove_copy(connection, copy)
            for name, number in going.generations:
                lock.require(name)
                _forget(connection, name, number)
            for volume in going.volumes:
                owner = generation_of(volume.name)
                if owner and owner[0] in machines:
                    lock.require(owner[0])
                incomplete_volume.take_over(
                    connection,
                    volume.pool,
                    volume.name,
                    session.emit,
                    marked=volume not in unmarked,
                )
        _release(session, connection)
        return going


def _condemned(
    connection: Connection,
    going: Garbage,
    keep: int,
    older_than: timedelta,
    machines: Collection[str],
) -> tuple[Garbage, frozenset[StoredVolume]]:
    """Mark the volumes of GOING, which is what KEEP and OLDER_THAN let go of MACHINES.

    Return what nobody has begun to need meanwhile, and which volumes could not be marked.
    """
    marks = {
        volume: incomplete_volume.condemn(connection, volume.pool, volume.name)
        for volume in going.volumes
        if volume.whole
    }
    still = _unneeded(connection, keep, older_than, machines)
    unneeded = {(each.pool, each.name) for each in still.volumes}
    for volume, mark in marks.items():
        if (volume.pool, volume.name) not in unneeded and mark is not None:
            mark.reprieve()
    unmarked = frozenset(volume for volume, mark in marks.items() if mark is None)
    left = (each for each in going.volumes if (each.pool, each.name) in unneeded)
    return _both(going, still, left), unmarked


def _both(agreed: Garbage, still: Garbage, volumes: Iterable[StoredVolume]) -> Garbage:
    """Return what was AGREED on and is garbage STILL: VOLUMES, of volumes."""
    return Garbage(
        generations=tuple(each for each in agreed.generations if each in still.generations),
        volumes=tuple(volumes),
        kept=still.kept,
        stray=still.stray,
        copies=tuple(each for each in agreed.copies if each in still.copies),
    )


def _forget(connection: Connection, name: str, number: int) -> None:
    metadata = domains.read_metadata(connection, name)
    rest = tuple(g for g in metadata.generations if g.number != number)
    domains.write_metadata(connection, name, msgspec.structs.replace(metadata, generations=rest))


def release_unused(session: Session) -> None:
    """Let Guix's garbage collector have what nothing on the session's hypervisor stands on."""
    with connect(session.uri) as connection:
        _release(session, connection)


def _release(session: Session, connection: Connection) -> None:
    release(session, connection, observe(connection, Depth.HOST), usage(connection))
