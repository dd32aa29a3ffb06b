# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that were changed go back, since another one of the same request failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import Task, side_by_side
from pyguixvm.apply.outcome import Outcome
from pyguixvm.apply.task import carry_out
from pyguixvm.commands import undefine
from pyguixvm.commands.planning import Planned, Sight
from pyguixvm.commands.rollback import way_back
from pyguixvm.commands.session import Session
from pyguixvm.errors import PyguixvmError, RequestRefusedError
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.model.applied import Metadata
from pyguixvm.plan.plan import Policy

# What was changed a moment ago may be changed back: nothing of it is a surprise.
_BACK = Policy(unprotect=True)


@dataclass(frozen=True)
class _Found:
    """A domain of ours by its UUID, with what it remembers."""

    uuid: str
    metadata: Metadata


class Changes:
    """What machines were before they were changed, and after: both while they were locked."""

    def __init__(self) -> None:
        """Note nothing yet."""
        self._noted: dict[str, tuple[_Found | None, _Found | None]] = {}

    @contextmanager
    def noted(self, connection: Connection, name: str) -> Iterator[None]:
        """Note what machine NAME, which is locked, is before the body and after."""
        before = _found(connection, name)
        yield
        self._noted[name] = (before, _found(connection, name))

    def taken_back(
        self, session: Session, planned: Sequence[Sight], outcomes: Sequence[Outcome]
    ) -> tuple[Outcome, ...]:
        """Return OUTCOMES after those machines of PLANNED that were changed are as before.

        A new machine goes again, and its data stays; any other returns to its generation and to
        what was declared then.  What somebody else changed meanwhile is left alone.  Nothing
        happens unless one failed.
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
            Task(name, partial(_taken_back, session, at[name], name, self._noted[name], why))
            for name in (
                done.machine
                for done in outcomes
                if done.error is None and done.outcome not in {"unchanged", "started"}
            )
            if name in self._noted
        ]
        back = {
            each.machine: each for each in side_by_side(tasks, session.interruption, session.emit)
        }
        return tuple(back.get(each.machine, each) for each in outcomes)


def _found(connection: Connection, name: str) -> _Found | None:
    found = domains.find_definition(connection, name)
    return None if found is None else _Found(found[2].uuid, found[1])


def _taken_back(
    session: Session,
    planned: Planned,
    name: str,
    noted: tuple[_Found | None, _Found | None],
    why: str,
) -> Outcome:
    before, after = noted
    try:
        if before is None:
            said = _removed(session, planned, name, after)
        else:
            said = _as_before(session, planned, name, before, after)
    except PyguixvmError as error:
        raise error.adding(f"'{name}' keeps what was deployed, though it was to go back") from error
    return Outcome(name, "taken-back", detail=f"{said}, {why}")


def _require_left(connection: Connection, name: str, left: _Found | None) -> None:
    """Raise RequestRefusedError unless machine NAME is as it was LEFT."""
    if _found(connection, name) != left:
        raise RequestRefusedError(
            f"somebody else changed '{name}' meanwhile",
            hint=f"See what it is now: pyguixvm generations {name}",
        )


def _as_before(
    session: Session, planned: Planned, name: str, before: _Found, after: _Found | None
) -> str:
    """Have machine NAME, which was left as AFTER, be as BEFORE; return how it is."""
    with held(planned.connection, (name,), session.emit, "deploy") as lock:
        _require_left(planned.connection, name, after)
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
    plan = way_back(connection, name, now, target, _BACK)
    return carry_out(plan, None, workshop), f"generation {target.number} again"


def _removed(session: Session, planned: Planned, name: str, after: _Found | None) -> str:
    there = dataclasses.replace(session, uri=planned.connection.uri)
    agreed = undefine.removals(there, [name], keep_volumes=False, unprotect=True)
    # Who changes it from now on is noticed by what removes it.
    _require_left(planned.connection, name, after)
    (done,) = undefine.undefine(there, agreed)
    return done.detail
