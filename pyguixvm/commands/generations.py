# SPDX-License-Identifier: GPL-3.0-or-later
"""Earlier generations of machines that exist: list them, return to one, let go of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import msgspec

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.definition import require_untouched
from pyguixvm.apply.executor import apply
from pyguixvm.apply.outcome import Outcome
from pyguixvm.apply.unused import usage
from pyguixvm.commands.operations import machines_metadata, require_unprotected
from pyguixvm.commands.pipeline import Session
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import phase
from pyguixvm.guix.roots import remove_root, root_path
from pyguixvm.hypervisor import domains, incomplete_volume, pools, volumes
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.observe import observe, observe_domain
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.observation import Observation
from pyguixvm.model.volume_names import generation_of
from pyguixvm.plan.garbage import Garbage, StoredVolume, unused_garbage
from pyguixvm.plan.interference import require_idle_disks
from pyguixvm.plan.plan import Action, DefineDomain, MachinePlan, Plan, StartDomain, StopDomain
from pyguixvm.plan.planner import STOP_SECONDS


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


def roll_back(
    session: Session, name: str, number: int | None, *, force: bool, unprotect: bool
) -> Outcome:
    """Return machine NAME to generation NUMBER, by default the one before the current.

    If that does not get ready, the current one comes back.  Raises
    RequestRefusedError if there is no such generation, or if the machine is
    protected, unless UNPROTECT.
    """
    with connect(session.uri) as connection, ExitStack() as locked:
        # What is refused anyway need not wait until others are done.
        _target(name, machines_metadata(connection, [name])[name], number)
        lock = locked.enter_context(held(connection, (name,), session.emit, "rollback"))
        metadata = machines_metadata(connection, [name])[name]
        if not unprotect:
            require_unprotected("rolled back", {name: metadata})
        target = _target(name, metadata, number)
        require_untouched(connection, name, metadata, target.number)
        require_idle_disks(observe_domain(connection, name))
        plan = _way_back(target, metadata, domains.state(connection, name), force=force)
        workshop = Workshop(
            connection,
            session.emit,
            session.environment,
            session.store,
            interruption=session.interruption,
            require=lock.require,
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


def _way_back(target: Generation, metadata: Metadata, state: str, *, force: bool) -> MachinePlan:
    machine = target.declaration
    actions: list[Action] = []
    if state not in ("shut off", "crashed"):
        actions.append(StopDomain(timeout=STOP_SECONDS, force=force))
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
    return unused_garbage(
        _all_metadata(observe(connection)).items(),
        stored,
        usage(connection),
        keep=keep,
        before=(datetime.now(UTC) - older_than).isoformat(timespec="seconds"),
    )


def collect(session: Session, *, keep: int, older_than: timedelta, agreed: Garbage) -> Garbage:
    """Remove what was AGREED on and is still not needed; return what went.

    A generation leaves its machine's memory before its volume goes: what is
    remembered is there.
    """
    machines = {name for name, _ in agreed.generations}
    with connect(session.uri) as connection, held(connection, machines, session.emit, "gc") as lock:
        still = _unneeded(connection, keep, older_than)
        going = Garbage(
            generations=tuple(g for g in agreed.generations if g in still.generations),
            volumes=tuple(v for v in still.volumes if v in agreed.volumes),
            kept=still.kept,
        )
        with phase(session.emit, "remove"):
            for name, number in going.generations:
                lock.require(name)
                _forget(session, connection, name, number)
            for volume in going.volumes:
                owner = generation_of(volume.name)
                if owner and owner[0] in machines:
                    lock.require(owner[0])
                if volume.whole:
                    volumes.delete(connection, volume.pool, volume.name)
                else:
                    incomplete_volume.take_over(connection, volume.pool, volume.name)
        return going


def _forget(session: Session, connection: Connection, name: str, number: int) -> None:
    metadata = domains.read_metadata(connection, name)
    rest = tuple(g for g in metadata.generations if g.number != number)
    domains.write_metadata(connection, name, msgspec.structs.replace(metadata, generations=rest))
    remove_root(root_path(session.state_directory, connection.uri, name, number))
