# SPDX-License-Identifier: GPL-3.0-or-later
"""Have hypervisors match what is declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from threading import Semaphore
from typing import TYPE_CHECKING

import msgspec

from pyguixvm.advice import reaching
from pyguixvm.commands.build import realize_plans
from pyguixvm.commands.planning import Planned, Sight
from pyguixvm.commands.session import Session
from pyguixvm.commands.system_contents import changes_within
from pyguixvm.errors import BuildError, NotLiveError, PyguixvmError
from pyguixvm.events import ChangePlanned, Notice
from pyguixvm.guix.activation import Activation
from pyguixvm.guix.configuration import Configuration
from pyguixvm.interruption import pause, taken
from pyguixvm.model.provenance import Provenance
from pyguixvm.plan.actions import DefineDomain
from pyguixvm.plan.order import Order
from pyguixvm.plan.plan import MachinePlan, Trial

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.apply.context import Workshop
    from pyguixvm.apply.executor import Task
    from pyguixvm.apply.outcome import Outcome
    from pyguixvm.commands.all_or_nothing import Changes
    from pyguixvm.guix.roots import Roots
    from pyguixvm.hypervisor.machine_lock.beats import Beats
    from pyguixvm.model.observation import Observation

# For so many machines of a hypervisor at once, root volumes are made and sent.
JOBS = 4
_ALL_AT_ONCE = Order()


def deploy(
    session: Session,
    config: Configuration,
    planned: Sequence[Sight],
    *,
    provenance: Provenance | None = None,
    trial: Trial | None = None,
    jobs: int = JOBS,
    order: Order = _ALL_AT_ONCE,
) -> tuple[Outcome, ...]:
    """Carry out the plans of PLANNED for what CONFIG declares; return what became of each machine.

    PROVENANCE is that of what it declares.  With TRIAL, a new root has to get ready in a
    throwaway copy before.  Machines are changed side by side in ORDER, on each hypervisor JOBS
    of them up to where their guests are touched.  Whoever wants to change one of them meanwhile
    waits.  Raises BuildError, and then nothing was touched.
    """
    from pyguixvm.apply.executor import heeding, side_by_side
    from pyguixvm.commands.all_or_nothing import Changes

    session = dataclasses.replace(session, emit=heeding(session.emit))
    for each in planned:
        if isinstance(each, Planned):
            for machine_plan in each.plan.machines:
                session.emit(_announced(machine_plan, each.observation))
    with ExitStack() as shared:
        roots = [_kept(session, each, shared) for each in planned]
        _begin_asking(planned)
        realize_plans(
            session,
            [(each.plan, at) for each, at in zip(planned, roots, strict=True) if at is not None],
        )
        changes = Changes() if order.all_or_nothing else None
        manner = _Manner(provenance, trial, jobs, changes)
        tasks: list[Task] = []
        for each, at in zip(planned, roots, strict=True):
            tasks += _tasks(session, config, each, at, shared, manner)
        outcomes = side_by_side(tasks, session.interruption, session.emit, order)
        if changes is not None:
            outcomes = changes.taken_back(session, planned, outcomes)
        _tell_where(session, planned, outcomes)
        return outcomes


def _tell_where(session: Session, planned: Sequence[Sight], outcomes: Sequence[Outcome]) -> None:
    """Have the hints of OUTCOMES name the hypervisors that the machines PLANNED are on."""
    declared = {
        each.machine.name: each.machine.hypervisor for at in planned for each in at.plan.machines
    }
    for outcome in outcomes:
        if outcome.error is not None:
            where = declared[outcome.machine]
            outcome.error.hint = reaching(outcome.error.hint, session.uri, where)


@dataclass(frozen=True)
class _Manner:
    """How the machines of a deployment are changed: as for `deploy`.

    CHANGES is told what each was and is, if that is to be taken back.
    """

    provenance: Provenance | None
    trial: Trial | None
    jobs: int
    changes: Changes | None


def _begin_asking(planned: Sequence[Sight]) -> None:
    """Have hypervisors asked, while Guix builds, for what is to be known to define domains."""
    for each in planned:
        actions = (action for machine in each.plan.machines for action in machine.actions)
        if isinstance(each, Planned) and any(isinstance(a, DefineDomain) for a in actions):
            from pyguixvm.hypervisor.connection import begin_capabilities

            begin_capabilities(each.connection)


def _kept(session: Session, planned: Sight, shared: ExitStack) -> Roots | None:
    """Return what keeps the store items of the machines of PLANNED; None if there are none.

    What is claimed by it stays until SHARED is closed.  Raises BuildError if there is no place.
    """
    if not isinstance(planned, Planned) or not any(m.actions for m in planned.plan.machines):
        return None
    from pyguixvm.commands.gc_roots import known, reconcile, roots_at

    roots = roots_at(session, planned.connection)
    reconcile(session, roots, known(planned.observation), local=planned.connection.local)
    try:
        shared.enter_context(roots.claiming())
    except OSError as error:
        if not any(each.machine.image.made_by_guix for each in planned.plan.machines):
            return None
        raise BuildError(
            f"what machines stand on cannot be kept from Guix's garbage collector: {error}",
            hint=f"Make {roots.directory} a directory that you can write to.",
        ) from error
    return roots


def _tasks(  # noqa: PLR0917 -- what is changed, with what, and how
    session: Session,
    config: Configuration,
    planned: Sight,
    roots: Roots | None,
    shared: ExitStack,
    manner: _Manner,
) -> Iterator[Task]:
    """Yield a task for each machine of PLANNED; what they share is closed with SHARED."""
    from pyguixvm.apply.context import Workshop
    from pyguixvm.apply.executor import Task
    from pyguixvm.hypervisor.machine_lock.lock import beating

    if not isinstance(planned, Planned):
        for machine_plan in planned.plan.machines:
            name = machine_plan.machine.name
            requires = machine_plan.machine.requires
            yield Task(name, partial(_left, name, planned.error), requires)
        return
    workshop = Workshop(
        planned.connection,
        session.emit,
        session.environment,
        session.store,
        Activation(session.exchange, config, session.sharing, session.emit),
        session.interruption,
        place=partial(taken, Semaphore(manner.jobs)),
        roots=roots,
        via=session.via,
        provenance=manner.provenance,
    )
    beats = shared.enter_context(beating(planned.connection))
    for machine_plan in planned.plan.machines:
        change = _Change(session, planned, machine_plan, workshop, beats, manner)
        machine = machine_plan.machine
        changes = bool(machine_plan.actions or machine_plan.refusal)
        yield Task(machine.name, change.make, machine.requires, changes)


@dataclass(frozen=True)
class _Change:
    """The change of one machine, by a task that holds its lock, and no other.

    FIRST is its plan before the lock was held.
    """

    session: Session
    planned: Planned
    first: MachinePlan
    workshop: Workshop
    beats: Beats
    manner: _Manner

    def make(self) -> Outcome:
        """Plan again under the lock, since somebody else may have been there, and do it."""
        from pyguixvm.apply.task import carry_out
        from pyguixvm.hypervisor.machine_lock.lock import held

        name, whole = self.first.machine.name, self.planned.plan
        if not self.first.actions:
            return carry_out(self.first, whole.deployment, self.workshop, self.manner.trial)
        with held(
            self.planned.connection,
            (name,),
            self.session.emit,
            "deploy",
            sleep=pause,
            beats=self.beats,
        ) as lock:
            workshop = dataclasses.replace(self.workshop, require=lock.require)
            if self.manner.changes is None:
                return self._make(workshop)
            with self.manner.changes.noted(self.planned.connection, name):
                return self._make(workshop)

    def _make(self, workshop: Workshop) -> Outcome:
        from pyguixvm.apply.task import carry_out

        name, deployment = self.first.machine.name, self.planned.plan.deployment
        plan = self.planned.again(name)
        if plan != self.first:
            self._realize(plan)
        try:
            return carry_out(plan, deployment, workshop, self.manner.trial)
        except NotLiveError as error:
            if self.planned.otherwise is None:
                raise
            workshop.emit(Notice(f"{error.message}; it gets a new root, and boots that", name))
        plan = self.planned.otherwise(name)
        self._realize(plan)
        return carry_out(plan, deployment, workshop, self.manner.trial)

    def _realize(self, plan: MachinePlan) -> None:
        """Build what PLAN needs that was not known before."""
        roots = self.workshop.roots
        if roots is not None:
            with self.workshop.place():
                alone = msgspec.structs.replace(self.planned.plan, machines=(plan,))
                realize_plans(self.session, [(alone, roots)])


def _left(machine: str, error: PyguixvmError) -> Outcome:
    """Raise that MACHINE was left as it is for ERROR, which is its hypervisor's."""
    raise error.adding(f"'{machine}' was left as it is")


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
