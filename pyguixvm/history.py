# SPDX-License-Identifier: GPL-3.0-or-later
"""Earlier generations of machines that exist: list them, return to one, let go of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import phase
from pyguixvm.guix.roots import remove_root, root_path
from pyguixvm.hypervisor import domains, lease, pools, volumes
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.lock import held
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.generation import Generation, Metadata
from pyguixvm.model.observation import Observation
from pyguixvm.operations import machines_metadata, require_unprotected
from pyguixvm.pipeline import Session
from pyguixvm.reconcile.apply import apply
from pyguixvm.reconcile.garbage import Garbage, StoredVolume, garbage
from pyguixvm.reconcile.outcome import Outcome
from pyguixvm.reconcile.plan import Action, DefineDomain, MachinePlan, Plan, Policy, StartDomain
from pyguixvm.reconcile.workshop import Workshop


class ListedGeneration(msgspec.Struct, frozen=True, rename="kebab"):
    """One generation; SIZE is what its root volume takes (bytes), None if that is gone.

    INCREMENT is the size (bytes) of what its system has beside IMAGE, on which it
    stands, None if it is IMAGE as it is.  UNDER names the volumes in between, those of
    generations that were changed in place.
    """

    machine: str
    number: int
    date: str
    current: bool
    failed: bool
    label: str
    kernel: str | None
    image: str
    pool: str
    volume: str
    base: str | None
    size: int | None
    increment: int | None
    under: tuple[str, ...]
    downtime: float | None


def generations(session: Session, names: Sequence[str]) -> tuple[ListedGeneration, ...]:
    """Return the generations of the machines NAMES, of all of ours if there are none."""
    with connect(session.uri) as connection:
        found = _all_metadata(observe(connection))
        if names:
            found = machines_metadata(connection, names)
        return tuple(
            _listed(connection, name, metadata.current, generation)
            for name, metadata in found.items()
            for generation in metadata.generations
        )


def _all_metadata(observation: Observation) -> dict[str, Metadata]:
    return {
        name: domain.metadata
        for name, domain in sorted(observation.domains.items())
        if domain.metadata is not None
    }


def _listed(
    connection: Connection, machine: str, current: int, generation: Generation
) -> ListedGeneration:
    volume = volumes.lookup(connection, generation.pool, generation.volume)
    return ListedGeneration(
        machine=machine,
        number=generation.number,
        date=generation.date,
        current=generation.number == current,
        failed=generation.failed,
        label=generation.label,
        kernel=generation.kernel,
        image=generation.image,
        pool=generation.pool,
        volume=generation.volume,
        base=generation.base,
        size=volume.allocation if volume else None,
        increment=generation.increment,
        under=generation.under,
        downtime=generation.downtime,
    )


def roll_back(session: Session, name: str, number: int | None, policy: Policy) -> Outcome:
    """Return machine NAME to generation NUMBER, by default the one before the current.

    If that does not get ready, the current one comes back.  Raises
    RequestRefusedError if there is no such generation, or if the machine is
    protected, unless POLICY allows it.
    """
    with connect(session.uri) as connection, ExitStack() as lock:
        metadata = machines_metadata(connection, [name])[name]
        pool = metadata.generation.pool
        lock.enter_context(held(connection, pool, name, session.emit))
        metadata = machines_metadata(connection, [name])[name]
        if not policy.unprotect:
            require_unprotected("rolled back", {name: metadata})
        target = _target(name, metadata, number)
        plan = _way_back(target, metadata, domains.state(connection, name), policy)
        workshop = Workshop(
            connection,
            session.emit,
            session.environment,
            session.store,
            interruption=session.interruption,
        )
        (outcome,) = apply(Plan(uri=connection.uri, machines=(plan,)), workshop)
        return outcome


def _target(name: str, metadata: Metadata, number: int | None) -> Generation:
    known = ", ".join(str(n) for n in metadata.numbers)
    if number is None:
        if metadata.previous is None:
            raise RequestRefusedError(
                f"'{name}' has no generation before its current one, {metadata.current}",
                hint=f"Its generations: {known}. 'pyguixvm generations {name}' shows them.",
            )
        return metadata.previous
    try:
        target = metadata.find(number)
    except LookupError:
        raise RequestRefusedError(
            f"'{name}' has no generation {number}",
            hint=f"Its generations: {known}. 'pyguixvm generations {name}' shows them.",
        ) from None
    if number == metadata.current:
        raise RequestRefusedError(f"generation {number} is the current one of '{name}' already")
    return target


def _way_back(target: Generation, metadata: Metadata, state: str, policy: Policy) -> MachinePlan:
    machine = target.declaration
    actions: list[Action] = []
    if state not in ("shut off", "crashed"):
        actions.append(policy.stop())
    actions += [
        DefineDomain(generation=target.number, autostart=machine.domain.autostart),
        StartDomain(timeout=machine.ready_timeout),
    ]
    return MachinePlan(
        machine=machine, effect="replace", actions=tuple(actions), fallback=metadata.current
    )


def unneeded(session: Session, *, keep: int, older_than: timedelta) -> Garbage:
    """Return what `collect` would remove from the session's hypervisor; nothing is done."""
    with connect(session.uri) as connection:
        return _unneeded(connection, keep, older_than)


def _unneeded(connection: Connection, keep: int, older_than: timedelta) -> Garbage:
    stored = tuple(
        StoredVolume(
            pool=pool,
            name=volume.name,
            allocation=volume.allocation,
            whole=not volumes.incomplete(connection, pool, volume.name),
            base=volumes.base(connection, pool, volume.name),
        )
        for pool in pools.active(connection)
        for volume in volumes.list_ours(connection, pool)
    )
    return garbage(
        _all_metadata(observe(connection)).items(),
        stored,
        keep=keep,
        before=(datetime.now(UTC) - older_than).isoformat(timespec="seconds"),
    )


def collect(session: Session, *, keep: int, older_than: timedelta, agreed: Garbage) -> Garbage:
    """Remove what was AGREED on and is still not needed; return what went.

    A generation leaves its machine's memory before its volume goes: what is
    remembered is there.
    """
    with connect(session.uri) as connection, ExitStack() as locks:
        for name in sorted({name for name, _ in agreed.generations}):
            pool = domains.read_metadata(connection, name).generation.pool
            locks.enter_context(held(connection, pool, name, session.emit))
        still = _unneeded(connection, keep, older_than)
        going = Garbage(
            generations=tuple(g for g in agreed.generations if g in still.generations),
            volumes=tuple(v for v in still.volumes if v in agreed.volumes),
        )
        with phase(session.emit, "remove"):
            for name, number in going.generations:
                _forget(session, connection, name, number)
            for volume in going.volumes:
                if volume.whole:
                    volumes.delete(connection, volume.pool, volume.name)
                else:
                    lease.take_over(connection, volume.pool, volume.name)
        return going


def _forget(session: Session, connection: Connection, name: str, number: int) -> None:
    metadata = domains.read_metadata(connection, name)
    rest = tuple(g for g in metadata.generations if g.number != number)
    domains.write_metadata(connection, name, msgspec.structs.replace(metadata, generations=rest))
    remove_root(root_path(session.state_directory, connection.uri, name, number))
