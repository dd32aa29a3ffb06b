# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that were changed go back, since another one of the same request failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.definition import require_untouched
from pyguixvm.apply.executor import Task, side_by_side
from pyguixvm.apply.outcome import Outcome
from pyguixvm.apply.task import carry_out
from pyguixvm.commands import undefine
from pyguixvm.commands.planning import Planned, Sight
from pyguixvm.commands.rollback import way_back
from pyguixvm.commands.session import Session
from pyguixvm.errors import PyguixvmError, RequestRefusedError
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.observe_domain import observe_domain
from pyguixvm.model.applied import Metadata
from pyguixvm.plan.interference import require_idle_disks
from pyguixvm.plan.plan import Policy

# What was changed a moment ago may be changed back: nothing of it is a surprise.
_BACK = Policy(unprotect=True)


def taken_back(
    session: Session, planned: Sequence[Sight], outcomes: Sequence[Outcome]
) -> tuple[Outcome, ...]:
    """Return OUTCOMES after those machines of PLANNED that were changed are as before.

    A new machine goes again, and its data stays; any other returns to its generation and to
    what was declared then.  Nothing happens unless one failed.
    """
    lost = [outcome.machine for outcome in outcomes if outcome.error is not None]
    if not lost:
        return tuple(outcomes)
    why = f"since '{lost[0]}' failed"
    at = {
        machine.machine.name: each
        for each in planned
        if isinstance(each, Planned)
        for machine in each.plan.machines
    }
    tasks = [
        Task(done.machine, partial(_taken_back, session, at[done.machine], done, why))
        for done in outcomes
        if done.error is None and done.outcome not in {"unchanged", "started"}
    ]
    back = {each.machine: each for each in side_by_side(tasks, session.interruption, session.emit)}
    return tuple(back.get(each.machine, each) for each in outcomes)


def _taken_back(session: Session, planned: Planned, done: Outcome, why: str) -> Outcome:
    try:
        said = _as_before(session, planned, done)
    except PyguixvmError as error:
        raise error.adding(
            f"'{done.machine}' keeps what was deployed, though it was to go back"
        ) from error
    return Outcome(done.machine, "taken-back", detail=f"{said}, {why}")


def _as_before(session: Session, planned: Planned, done: Outcome) -> str:
    """Have the machine that is DONE be as PLANNED found it; return how it is."""
    name = done.machine
    before = planned.observation.domains.get(name)
    if before is None or before.metadata is None:
        if done.outcome != "deployed":
            raise RequestRefusedError(f"somebody else deployed '{name}' meanwhile")
        return _removed(session, planned, name)
    with held(planned.connection, (name,), session.emit, "deploy") as lock:
        workshop = Workshop(
            planned.connection,
            session.emit,
            session.environment,
            session.store,
            interruption=session.interruption,
            require=lock.require,
        )
        outcome, said = _returned(planned, name, before.metadata, workshop)
    if outcome.error is not None:
        raise outcome.error
    return said


def _returned(
    planned: Planned, name: str, before: Metadata, workshop: Workshop
) -> tuple[Outcome, str]:
    """Have machine NAME return to what it was BEFORE; return how it went, and what it is now."""
    connection = planned.connection
    now = domains.read_metadata(connection, name)
    if now.current == before.current:
        plan = planned.as_declared(before.generation.declaration)
        deployment = planned.plan.deployment
        return carry_out(plan, deployment, workshop), "as it was declared before"
    try:
        target = now.find(before.current)
    except LookupError:
        raise RequestRefusedError(f"generation {before.current} of '{name}' is gone") from None
    require_untouched(connection, name, now, target.number)
    require_idle_disks(observe_domain(connection, name))
    plan = way_back(target, now, domains.state(connection, name), _BACK)
    return carry_out(plan, None, workshop), f"generation {target.number} again"


def _removed(session: Session, planned: Planned, name: str) -> str:
    there = dataclasses.replace(session, uri=planned.connection.uri)
    agreed = undefine.removals(there, [name], keep_volumes=False, unprotect=True)
    (done,) = undefine.undefine(there, agreed)
    return done.detail
