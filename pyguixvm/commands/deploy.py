# SPDX-License-Identifier: GPL-3.0-or-later
"""Have hypervisors match what is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pyguixvm.events import ChangePlanned, Emit
from pyguixvm.guix.activation import Activation
from pyguixvm.plan.actions import (
    DefineDomain,
)
from pyguixvm.plan.plan import MachinePlan, Plan

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.apply.outcome import Outcome
    from pyguixvm.model.observation import Observation
from pyguixvm.commands.build import realize_plans
from pyguixvm.commands.contents import changes_within
from pyguixvm.commands.planning import Planned
from pyguixvm.commands.session import Session


def deploy(
    session: Session, config: Path, planned: Sequence[Planned], *, trial: bool = False
) -> tuple[Outcome, ...]:
    """Carry out the plans of PLANNED for what CONFIG declares; return what became of each machine.

    With TRIAL, a new root has to get ready in a throwaway copy before.  Whoever
    wants to change one of these machines meanwhile waits.  Raises BuildError, and
    then nothing was touched.
    """
    from pyguixvm.apply.context import Workshop
    from pyguixvm.apply.executor import apply

    for each in planned:
        for machine_plan in each.plan.machines:
            session.emit(_announced(machine_plan, each.observation))
    realize_plans(session, [each.plan for each in planned])
    outcomes: list[Outcome] = []
    for each in planned:
        with _locked(each, session.emit) as (plan, require):
            if plan != each.plan:
                realize_plans(session, [plan])
            workshop = Workshop(
                each.connection,
                session.emit,
                session.environment,
                session.store,
                Activation(session.exchange, config.absolute(), session.sharing, session.emit),
                session.interruption,
                require=require,
            )
            outcomes += apply(plan, workshop, trial=trial)
    return tuple(outcomes)


@contextmanager
def _locked(planned: Planned, emit: Emit) -> Iterator[tuple[Plan, Callable[[str], None]]]:
    """Yield the plan of PLANNED, and what makes sure that its machines are ours to change.

    It is made again when their locks are held: somebody else may have changed what was
    seen before.  Should it change more machines then, all locks are taken anew: in the
    order of names, as everybody does, and held only where something is changed.
    """
    from pyguixvm.hypervisor.machine_lock.lock import held

    busy = _changed(planned.plan)
    while True:
        with held(planned.connection, busy, emit, "deploy") as lock:
            plan = planned.again() if busy else planned.plan
            if _changed(plan) <= busy:
                yield plan, lock.require
                return
        busy |= _changed(plan)


def _changed(plan: Plan) -> frozenset[str]:
    """Return the names of the machines that PLAN changes."""
    return frozenset(machine.machine.name for machine in plan.machines if machine.actions)


def _announced(plan: MachinePlan, observation: Observation) -> ChangePlanned:
    """Return PLAN as the event that says what is going to happen."""
    domain = observation.domains.get(plan.machine.name)
    metadata = domain.metadata if domain else None
    current = metadata.current if metadata else None
    targets = [a.generation for a in plan.actions if isinstance(a, DefineDomain)]
    return ChangePlanned(
        machine=plan.machine.name,
        effect=plan.effect,
        differences=plan.differences,
        strategy=plan.strategy,
        reason=plan.reason,
        refusal=plan.refusal,
        generation=current,
        target=next(iter(targets), current),
        state=domain.state if domain else None,
        system_changes=changes_within(plan),
    )
