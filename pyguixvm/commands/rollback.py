# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine returns to an earlier generation."""

from __future__ import annotations

from contextlib import ExitStack

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.definition import require_untouched
from pyguixvm.apply.executor import apply
from pyguixvm.apply.outcome import Outcome
from pyguixvm.commands.machines import machines_metadata, require_unprotected
from pyguixvm.commands.session import Session
from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.plan.actions import Action, DefineDomain, StartDomain
from pyguixvm.plan.interference import require_idle_disks
from pyguixvm.plan.plan import MachinePlan, Plan, Policy


def roll_back(session: Session, name: str, number: int | None, policy: Policy) -> Outcome:
    """Return machine NAME to generation NUMBER, by default the one before the current.

    If that does not get ready, the current one comes back.  Raises
    RequestRefusedError if there is no such generation, or if the machine is
    protected, unless POLICY allows it.
    """
    with connect(session.uri) as connection, ExitStack() as locked:
        # What is refused anyway need not wait until others are done.
        _target(name, machines_metadata(connection, [name])[name], number)
        lock = locked.enter_context(held(connection, (name,), session.emit, "rollback"))
        metadata = machines_metadata(connection, [name])[name]
        if not policy.unprotect:
            require_unprotected("rolled back", {name: metadata})
        target = _target(name, metadata, number)
        plan = way_back(connection, name, metadata, target, policy)
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


def way_back(
    connection: Connection, name: str, metadata: Metadata, target: Generation, policy: Policy
) -> MachinePlan:
    """Return the plan for machine NAME, which METADATA is of, to return to TARGET.

    Raises RequestRefusedError if others did something to its disks, or libvirt works at them.
    """
    domain = require_untouched(connection, name, metadata, target.number)
    require_idle_disks(domain)
    machine = target.declaration
    actions: list[Action] = []
    if domain.state != "shut off":
        actions.append(policy.stop())
    actions += [
        DefineDomain(generation=target.number, autostart=machine.domain.autostart),
        StartDomain(timeout=machine.ready_timeout),
    ]
    return MachinePlan(
        machine=machine, effect="replace", actions=tuple(actions), fallback=metadata.current
    )
